//! Vectors of float32 in the best instruction set of the processor, chosen at run time.
//!
//! A kernel is generic over [`Simd`]. The token of an instruction set exists only on processors that
//! have it, so arithmetic is safe; loads and stores take pointers and are not.

mod plain;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::atomic::{AtomicU8, Ordering};

pub(crate) use self::plain::Plain;

/// A set of vector instructions.
pub(crate) trait Simd: Copy + Send + Sync {
    /// A vector of `LANES` float32.
    type V: Copy;
    /// A set of lanes.
    type Mask: Copy;
    /// The instructions of the same processor for vectors of eight.
    type Eight: Simd;
    /// Number of lanes of a vector.
    const LANES: usize;

    /// Vectors of eight.
    fn eight(self) -> Self::Eight;

    /// Loads `LANES` values.
    ///
    /// # Safety
    /// `from` is valid for reads of `LANES` values.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// Stores `LANES` values.
    ///
    /// # Safety
    /// `to` is valid for writes of `LANES` values.
    unsafe fn store(self, to: *mut f32, v: Self::V);
    /// Loads the first `n` ≤ `LANES` values; the other lanes are zero.
    ///
    /// # Safety
    /// `from` is valid for reads of `n` values.
    unsafe fn load_first(self, from: *const f32, n: usize) -> Self::V;
    /// Stores the first `n` ≤ `LANES` values.
    ///
    /// # Safety
    /// `to` is valid for writes of `n` values.
    unsafe fn store_first(self, to: *mut f32, n: usize, v: Self::V);
    /// The lanes from `first` to `end` − 1.
    fn between(self, first: usize, end: usize) -> Self::Mask;
    /// Loads lane i from `from` + i for the lanes of `mask`; the others are zero and not read.
    ///
    /// # Safety
    /// For each lane i of `mask`, `from` + i is valid for reads.
    unsafe fn load_masked(self, from: *const f32, mask: Self::Mask) -> Self::V;
    /// Asks for the cache line of an address that will be read soon. Any address will do.
    #[inline(always)]
    fn prefetch(self, _: *const f32) {}
    /// Copies `x` to all lanes.
    fn splat(self, x: f32) -> Self::V;
    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a·b + c
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a·b + c of single values, which a loop's vectorized form computes as [`Self::mul_add`] does.
    fn fused(a: f32, b: f32, c: f32) -> f32;
    /// The lanes of `a` and then `b` at even places, and those at odd places.
    fn deinterleave(self, a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// The lanes of `a` and `b` in turn, as two vectors.
    fn interleave(self, a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// a where a > b, else b; b if either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// a where a < b, else b; b if either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// One step of a running argmax over (value, index): lanes whose candidate value is larger
    /// than the best, or NaN, take the candidate.
    fn larger(self, best: (Self::V, Self::V), candidate: (Self::V, Self::V)) -> (Self::V, Self::V);
    /// Transposes 8 rows of 8 values, `from_stride` apart, to rows `to_stride` apart.
    ///
    /// # Safety
    /// `from` is valid for reads of 8 values at each multiple of `from_stride` up to 7, `to` for
    /// writes likewise.
    unsafe fn transpose8(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);

    /// The sums over k < `depth` of the products of `R` values with `N` vectors, which lie at multiples of a step from a pointer:
    /// sums\[r\]\[v\] = Σₖ a\[k·step + r\] · b\[k·step + v·`LANES`..\]. Added in the order of k.
    ///
    /// # Safety
    /// For each k below `depth`, the `R` values and the `N` vectors are valid for reads.
    #[inline(always)]
    unsafe fn tile_sums<const R: usize, const N: usize>(
        self,
        depth: usize,
        a: (*const f32, usize),
        b: (*const f32, usize),
    ) -> [[Self::V; N]; R] {
        // SAFETY: by this function's contract.
        unsafe { tile_sums(self, depth, a, b) }
    }
}

/// [`Simd::tile_sums`] as the compiler orders it.
///
/// # Safety
/// As for [`Simd::tile_sums`].
#[inline(always)]
unsafe fn tile_sums<S: Simd, const R: usize, const N: usize>(
    simd: S,
    depth: usize,
    (mut a, a_step): (*const f32, usize),
    (mut b, b_step): (*const f32, usize),
) -> [[S::V; N]; R] {
    let mut sums = [[simd.splat(0.0); N]; R];
    for _ in 0..depth {
        // SAFETY: by this function's contract.
        unsafe {
            let columns: [S::V; N] = std::array::from_fn(|v| simd.load(b.add(v * S::LANES)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let row = simd.splat(*a.add(r));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = simd.mul_add(row, column, *sum);
                }
            }
            a = a.add(a_step);
            b = b.add(b_step);
        }
    }
    sums
}

/// Instruction sets that kernels are compiled for, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Instructions {
    /// Plain code on arrays of eight: SSE2 on x86-64, NEON on 64-bit Arm.
    Plain,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

/// The highest instruction set that kernels may use.
static LIMIT: AtomicU8 = AtomicU8::new(Instructions::Avx512 as u8);

/// Limits kernels to `most`, in every thread of the process, from now on.
///
/// For comparing results or speed of instruction sets on one machine. Call it while no op runs: an op that sees the
/// limit change panics.
pub fn limit_instructions(most: Instructions) {
    LIMIT.store(most as u8, Ordering::SeqCst);
}

/// The best instruction set that the processor has and [`limit_instructions`] allows.
pub fn instructions() -> Instructions {
    #[cfg(target_arch = "x86_64")]
    {
        let limit = LIMIT.load(Ordering::Relaxed);
        let allowed = |instructions| instructions as u8 <= limit;
        if allowed(Instructions::Avx512) && x86::Avx512::detect().is_some() {
            return Instructions::Avx512;
        }
        if allowed(Instructions::Avx2) && x86::Avx2::detect().is_some() {
            return Instructions::Avx2;
        }
    }
    Instructions::Plain
}

/// Transposes `from`, `rows` × `cols` with rows `from_stride` apart, to `to`, with rows `to_stride`
/// apart.
#[inline(always)]
pub(crate) fn transpose<S: Simd>(
    simd: S,
    (rows, cols): (usize, usize),
    (from, from_stride): (&[f32], usize),
    (to, to_stride): (&mut [f32], usize),
) {
    if rows == 0 || cols == 0 {
        return;
    }
    assert!((rows - 1) * from_stride + cols <= from.len() && (cols - 1) * to_stride + rows <= to.len());
    let (whole_rows, whole_cols) = (rows - rows % 8, cols - cols % 8);
    for row in (0..whole_rows).step_by(8) {
        for col in (0..whole_cols).step_by(8) {
            // SAFETY: the block of 8 × 8 lies within rows × cols, which lies in both slices, as asserted.
            unsafe {
                let from = from.as_ptr().add(row * from_stride + col);
                simd.transpose8(from, from_stride, to.as_mut_ptr().add(col * to_stride + row), to_stride);
            }
        }
    }
    for row in 0..rows {
        let first = if row < whole_rows { whole_cols } else { 0 };
        for col in first..cols {
            to[col * to_stride + row] = from[row * from_stride + col];
        }
    }
}

/// Copies `from` to the start of `to`.
#[inline(always)]
pub(crate) fn copy<S: Simd>(simd: S, from: &[f32], to: &mut [f32]) {
    let len = from.len();
    assert!(len <= to.len());
    let whole = len - len % S::LANES;
    // SAFETY: all vectors and the part of the last one lie in both slices.
    unsafe {
        for i in (0..whole).step_by(S::LANES) {
            simd.store(to.as_mut_ptr().add(i), simd.load(from.as_ptr().add(i)));
        }
        if whole < len {
            let v = simd.load_first(from.as_ptr().add(whole), len - whole);
            simd.store_first(to.as_mut_ptr().add(whole), len - whole, v);
        }
    }
}

/// Work that runs on any instruction set.
pub(crate) trait Kernel {
    type Output;
    /// Does the work. Implementations are `#[inline(always)]`, so that they are compiled for the
    /// caller's instruction set.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs `kernel` on the best instruction set.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    match instructions() {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => {
            if let Some(simd) = x86::Avx512::detect() {
                // SAFETY: the token proves that the processor has the instructions.
                return unsafe { x86::run512(kernel, simd) };
            }
        }
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => {
            if let Some(simd) = x86::Avx2::detect() {
                // SAFETY: the token proves that the processor has AVX2 and FMA.
                return unsafe { x86::run(kernel, simd) };
            }
        }
        _ => {}
    }
    kernel.run(Plain)
}

/// Number of lanes of the vectors that [`dispatch`] selects.
pub(crate) fn lanes() -> usize {
    struct Lanes;
    impl Kernel for Lanes {
        type Output = usize;
        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> usize {
            S::LANES
        }
    }
    dispatch(Lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Transpose<'a>(usize, usize, &'a [f32], &'a mut [f32]);

    impl Kernel for Transpose<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            transpose(simd, (self.0, self.1), (self.2, self.1 + 1), (self.3, self.0 + 2));
        }
    }

    #[test]
    fn transposes_of_any_size_on_every_path() {
        for (rows, cols) in [(1, 1), (8, 8), (16, 8), (7, 9), (19, 33)] {
            let from: Vec<f32> = (0..rows * (cols + 1)).map(|i| i as f32).collect();
            let run = |fast: bool| {
                let mut to = vec![-1.0; cols * (rows + 2)];
                let kernel = Transpose(rows, cols, &from, &mut to);
                if fast {
                    dispatch(kernel)
                } else {
                    kernel.run(Plain)
                }
                to
            };
            for to in [run(true), run(false)] {
                for row in 0..rows + 2 {
                    for col in 0..cols {
                        let expected = if row < rows { from[row * (cols + 1) + col] } else { -1.0 };
                        assert_eq!(to[col * (rows + 2) + row], expected);
                    }
                }
            }
        }
    }
}
