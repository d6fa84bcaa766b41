//! Vectors of float32, by what the processor has; chosen at run time.
//!
//! A value of a vector type's token exists only where its instructions do, so arithmetic is safe; loads and stores
//! take pointers and are not.

use std::sync::atomic::{AtomicU8, Ordering};

/// A set of vector instructions.
pub(crate) trait Simd: Copy + Send + Sync {
    /// A vector of `LANES` float32.
    type V: Copy;
    /// A choice of lanes.
    type Mask: Copy;
    /// Float32 per vector.
    const LANES: usize;

    /// `LANES` values from `from`.
    ///
    /// # Safety
    /// `from` is valid for reading `LANES` values.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// Writes `LANES` values to `to`.
    ///
    /// # Safety
    /// `to` is valid for writing `LANES` values.
    unsafe fn store(self, to: *mut f32, v: Self::V);
    /// The first `n` ≤ `LANES` values from `from`, then zeros.
    ///
    /// # Safety
    /// `from` is valid for reading `n` values.
    unsafe fn load_first(self, from: *const f32, n: usize) -> Self::V;
    /// Writes the first `n` ≤ `LANES` values to `to`.
    ///
    /// # Safety
    /// `to` is valid for writing `n` values.
    unsafe fn store_first(self, to: *mut f32, n: usize, v: Self::V);
    /// The lanes from `first` to below `end`.
    fn between(self, first: usize, end: usize) -> Self::Mask;
    /// The values of the lanes of `mask`, and zeros: lane i from `from` + i. No other place is read.
    ///
    /// # Safety
    /// For each lane i of `mask`, `from` + i is valid for reading.
    unsafe fn load_masked(self, from: *const f32, mask: Self::Mask) -> Self::V;
    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a·b + c
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a where it is larger than b, else b: b too where either is no number.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// a where it is smaller than b, else b: b too where either is no number.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// One step of a running maximum: lanes where `tap` is larger than `best`, or no number, take `tap` and `at`.
    fn larger(self, best: (Self::V, Self::V), tap: (Self::V, Self::V)) -> (Self::V, Self::V);
    /// Writes 8 rows of 8 values, `from_stride` apart, as columns `to_stride` apart.
    ///
    /// # Safety
    /// `from` is valid for reading 8 values at each multiple of `from_stride` up to 7, `to` for writing likewise.
    unsafe fn transpose8(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);
}

/// The sets of instructions that kernels are written for, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Instructions {
    /// Whatever the compiler makes of arrays of eight: SSE2 on x86-64, NEON on 64-bit Arm.
    Plain,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

/// No kernel uses more than this.
static LIMIT: AtomicU8 = AtomicU8::new(Instructions::Avx512 as u8);

/// Lets kernels use `most` at most, in every thread, from now on.
pub(crate) fn limit(most: Instructions) {
    LIMIT.store(most as u8, Ordering::SeqCst);
}

/// The best instructions that the processor has and [`limit`] allows.
pub(crate) fn instructions() -> Instructions {
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

/// Transposes `from`, `rows` × `cols` with rows `from_stride` apart, into `to`, whose rows are `to_stride` apart.
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

/// Work that runs on any set of vector instructions.
pub(crate) trait Kernel {
    type Output;
    /// Does the work. Implementations are `#[inline(always)]`, so that the caller's instructions apply.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs `kernel` on the best instructions that the processor has.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    match instructions() {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => {
            if let Some(simd) = x86::Avx512::detect() {
                // SAFETY: the token shows that the processor has the instructions.
                return unsafe { x86::run512(kernel, simd) };
            }
        }
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => {
            if let Some(simd) = x86::Avx2::detect() {
                // SAFETY: the token shows that the processor has AVX2 and FMA.
                return unsafe { x86::run(kernel, simd) };
            }
        }
        _ => {}
    }
    kernel.run(Plain)
}

/// The number of lanes of the vectors that [`dispatch`] picks.
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

/// Arrays of eight, for the compiler to vectorise as it can.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain;

impl Simd for Plain {
    type V = [f32; 8];
    type Mask = (usize, usize);
    const LANES: usize = 8;

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
        // Where the target has no fused instruction, `f32::mul_add` is a slow call.
        let fused = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
        std::array::from_fn(|i| if fused { a[i].mul_add(b[i], c[i]) } else { a[i] * b[i] + c[i] })
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
    fn larger(self, best: ([f32; 8], [f32; 8]), tap: ([f32; 8], [f32; 8])) -> ([f32; 8], [f32; 8]) {
        let takes: [bool; 8] = std::array::from_fn(|i| tap.0[i] > best.0[i] || tap.0[i].is_nan());
        (
            std::array::from_fn(|i| if takes[i] { tap.0[i] } else { best.0[i] }),
            std::array::from_fn(|i| if takes[i] { tap.1[i] } else { best.1[i] }),
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

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m256i, __m512, __mmask16, _CMP_GT_OQ, _CMP_UNORD_Q, _mm256_add_ps, _mm256_andnot_si256,
        _mm256_blendv_ps, _mm256_cmp_ps, _mm256_cmpgt_epi32, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_max_ps, _mm256_min_ps, _mm256_or_ps,
        _mm256_permute2f128_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_shuffle_ps,
        _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps, _mm512_add_ps, _mm512_cmp_ps_mask,
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_blend_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
        _mm512_max_ps, _mm512_min_ps, _mm512_set1_ps, _mm512_storeu_ps,
    };

    use super::{Kernel, Simd};

    /// AVX2 and FMA: eight lanes.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx2(());

    impl Avx2 {
        /// The token, if the processor has AVX2 and FMA.
        pub(super) fn detect() -> Option<Self> {
            (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
        }
    }

    /// The lanes below `n`.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn mask(n: usize) -> __m256i {
        // SAFETY: by this function's contract.
        unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
    }

    /// # Safety
    /// The processor has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn run<K: Kernel>(kernel: K, simd: Avx2) -> K::Output {
        kernel.run(simd)
    }

    impl Simd for Avx2 {
        type V = __m256;
        type Mask = __m256i;
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn load(self, from: *const f32) -> __m256 {
            // SAFETY: the token shows the instructions, the caller the memory.
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32, v: __m256) {
            // SAFETY: the token shows the instructions, the caller the memory.
            unsafe { _mm256_storeu_ps(to, v) }
        }

        #[inline(always)]
        unsafe fn load_first(self, from: *const f32, n: usize) -> __m256 {
            // SAFETY: the token shows the instructions, the caller the memory that the mask lets through.
            unsafe { _mm256_maskload_ps(from, mask(n)) }
        }

        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, n: usize, v: __m256) {
            // SAFETY: the token shows the instructions, the caller the memory that the mask lets through.
            unsafe { _mm256_maskstore_ps(to, mask(n), v) }
        }

        #[inline(always)]
        fn between(self, first: usize, end: usize) -> __m256i {
            // SAFETY: the token shows the instructions.
            unsafe { _mm256_andnot_si256(mask(first), mask(end)) }
        }

        #[inline(always)]
        unsafe fn load_masked(self, from: *const f32, mask: __m256i) -> __m256 {
            // SAFETY: the token shows the instructions, the caller the memory that the mask lets through.
            unsafe { _mm256_maskload_ps(from, mask) }
        }

        #[inline(always)]
        fn splat(self, x: f32) -> __m256 {
            // SAFETY: the token shows the instructions.
            unsafe { _mm256_set1_ps(x) }
        }

        #[inline(always)]
        fn add(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: the token shows the instructions.
            unsafe { _mm256_add_ps(a, b) }
        }

        #[inline(always)]
        fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: the token shows the instructions.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn max(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: the token shows the instructions.
            unsafe { _mm256_max_ps(a, b) }
        }

        #[inline(always)]
        fn min(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: the token shows the instructions.
            unsafe { _mm256_min_ps(a, b) }
        }

        #[inline(always)]
        fn larger(self, best: (__m256, __m256), tap: (__m256, __m256)) -> (__m256, __m256) {
            // SAFETY: the token shows the instructions.
            unsafe {
                let greater = _mm256_cmp_ps::<_CMP_GT_OQ>(tap.0, best.0);
                let takes = _mm256_or_ps(greater, _mm256_cmp_ps::<_CMP_UNORD_Q>(tap.0, tap.0));
                (_mm256_blendv_ps(best.0, tap.0, takes), _mm256_blendv_ps(best.1, tap.1, takes))
            }
        }

        #[inline(always)]
        unsafe fn transpose8(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            // SAFETY: the token shows the instructions, the caller the memory.
            unsafe {
                let rows: [__m256; 8] = std::array::from_fn(|i| _mm256_loadu_ps(from.add(i * from_stride)));
                // Pairs of rows interleaved, then pairs of pairs, then the halves brought together.
                let pairs: [__m256; 8] = std::array::from_fn(|i| {
                    let (a, b) = (rows[i / 2 * 2], rows[i / 2 * 2 + 1]);
                    if i % 2 == 0 { _mm256_unpacklo_ps(a, b) } else { _mm256_unpackhi_ps(a, b) }
                });
                let fours: [__m256; 8] = std::array::from_fn(|i| {
                    let (a, b) = (pairs[i / 4 * 4 + i % 4 / 2], pairs[i / 4 * 4 + i % 4 / 2 + 2]);
                    if i % 2 == 0 { _mm256_shuffle_ps::<0x44>(a, b) } else { _mm256_shuffle_ps::<0xee>(a, b) }
                });
                for i in 0..4 {
                    let (a, b) = (fours[i], fours[i + 4]);
                    _mm256_storeu_ps(to.add(i * to_stride), _mm256_permute2f128_ps::<0x20>(a, b));
                    _mm256_storeu_ps(to.add((i + 4) * to_stride), _mm256_permute2f128_ps::<0x31>(a, b));
                }
            }
        }
    }

    /// AVX-512: sixteen lanes.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx512(Avx2);

    impl Avx512 {
        /// The token, if the processor has AVX-512 F, BW, DQ and VL, and AVX2 and FMA.
        pub(super) fn detect() -> Option<Self> {
            let has = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if has { Avx2::detect().map(Self) } else { None }
        }
    }

    /// # Safety
    /// The processor has the instructions.
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn run512<K: Kernel>(kernel: K, simd: Avx512) -> K::Output {
        kernel.run(simd)
    }

    impl Simd for Avx512 {
        type V = __m512;
        type Mask = __mmask16;
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn load(self, from: *const f32) -> __m512 {
            // SAFETY: the token shows the instructions, the caller the memory.
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32, v: __m512) {
            // SAFETY: the token shows the instructions, the caller the memory.
            unsafe { _mm512_storeu_ps(to, v) }
        }

        #[inline(always)]
        unsafe fn load_first(self, from: *const f32, n: usize) -> __m512 {
            // SAFETY: the token shows the instructions, the caller the memory that the mask lets through.
            unsafe { _mm512_maskz_loadu_ps(first(n), from) }
        }

        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, n: usize, v: __m512) {
            // SAFETY: the token shows the instructions, the caller the memory that the mask lets through.
            unsafe { _mm512_mask_storeu_ps(to, first(n), v) }
        }

        #[inline(always)]
        fn between(self, from: usize, end: usize) -> __mmask16 {
            first(end) & !first(from)
        }

        #[inline(always)]
        unsafe fn load_masked(self, from: *const f32, mask: __mmask16) -> __m512 {
            // SAFETY: the token shows the instructions, the caller the memory that the mask lets through.
            unsafe { _mm512_maskz_loadu_ps(mask, from) }
        }

        #[inline(always)]
        fn splat(self, x: f32) -> __m512 {
            // SAFETY: the token shows the instructions.
            unsafe { _mm512_set1_ps(x) }
        }

        #[inline(always)]
        fn add(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: the token shows the instructions.
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: the token shows the instructions.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn max(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: the token shows the instructions.
            unsafe { _mm512_max_ps(a, b) }
        }

        #[inline(always)]
        fn min(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: the token shows the instructions.
            unsafe { _mm512_min_ps(a, b) }
        }

        #[inline(always)]
        fn larger(self, best: (__m512, __m512), tap: (__m512, __m512)) -> (__m512, __m512) {
            // SAFETY: the token shows the instructions.
            unsafe {
                let greater = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(tap.0, best.0);
                let takes = greater | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(tap.0, tap.0);
                (_mm512_mask_blend_ps(takes, best.0, tap.0), _mm512_mask_blend_ps(takes, best.1, tap.1))
            }
        }

        #[inline(always)]
        unsafe fn transpose8(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            // SAFETY: by this function's contract.
            unsafe { self.0.transpose8(from, from_stride, to, to_stride) }
        }
    }

    /// The lanes below `n`.
    #[inline(always)]
    fn first(n: usize) -> __mmask16 {
        ((1u32 << n) - 1) as __mmask16
    }
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
