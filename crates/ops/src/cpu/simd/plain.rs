//! Plain code for processors without an instruction set of their own here.

use super::Simd;

/// Arrays of eight, which the compiler vectorizes as it can.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain;

impl Simd for Plain {
    type V = [f32; 8];
    type Mask = (usize, usize);
    type Eight = Self;
    const LANES: usize = 8;

    #[inline(always)]
    fn eight(self) -> Self {
        self
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> [f32; 8] {
        // SAFETY: by this function's contract.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: [f32; 8]) {
        // SAFETY: by this function's contract.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(v) }
    }

    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, n: usize) -> [f32; 8] {
        // SAFETY: by this function's contract.
        std::array::from_fn(|i| if i < n { unsafe { *from.add(i) } } else { 0.0 })
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize, v: [f32; 8]) {
        for (i, &value) in v.iter().enumerate().take(n) {
            // SAFETY: by this function's contract.
            unsafe { *to.add(i) = value };
        }
    }

    #[inline(always)]
    fn between(self, first: usize, end: usize) -> (usize, usize) {
        (first, end)
    }

    #[inline(always)]
    unsafe fn load_masked(self, from: *const f32, (first, end): (usize, usize)) -> [f32; 8] {
        std::array::from_fn(|i| {
            if (first..end).contains(&i) {
                // SAFETY: by this function's contract.
                unsafe { *from.wrapping_add(i) }
            } else {
                0.0
            }
        })
    }

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 8] {
        [x; 8]
    }

    #[inline(always)]
    fn add(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        // `f32::mul_add` is a slow call where the target has no fused instruction.
        let fused = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
        std::array::from_fn(|i| if fused { a[i].mul_add(b[i], c[i]) } else { a[i] * b[i] + c[i] })
    }

    /// In two steps: without an instruction for it, one step is a call.
    #[inline(always)]
    fn fused(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    #[inline(always)]
    fn deinterleave(self, a: [f32; 8], b: [f32; 8]) -> ([f32; 8], [f32; 8]) {
        let lane = |i: usize| if i < 8 { a[i] } else { b[i - 8] };
        (std::array::from_fn(|i| lane(2 * i)), std::array::from_fn(|i| lane(2 * i + 1)))
    }

    #[inline(always)]
    fn interleave(self, a: [f32; 8], b: [f32; 8]) -> ([f32; 8], [f32; 8]) {
        let lane = |i: usize| if i.is_multiple_of(2) { a[i / 2] } else { b[i / 2] };
        (std::array::from_fn(lane), std::array::from_fn(|i| lane(8 + i)))
    }

    #[inline(always)]
    fn max(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn min(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn larger(self, best: ([f32; 8], [f32; 8]), candidate: ([f32; 8], [f32; 8])) -> ([f32; 8], [f32; 8]) {
        let takes: [bool; 8] = std::array::from_fn(|i| candidate.0[i] > best.0[i] || candidate.0[i].is_nan());
        (
            std::array::from_fn(|i| if takes[i] { candidate.0[i] } else { best.0[i] }),
            std::array::from_fn(|i| if takes[i] { candidate.1[i] } else { best.1[i] }),
        )
    }

    #[inline(always)]
    unsafe fn transpose8(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for row in 0..8 {
            for col in 0..8 {
                // SAFETY: by this function's contract.
                unsafe { *to.add(col * to_stride + row) = *from.add(row * from_stride + col) };
            }
        }
    }
}
