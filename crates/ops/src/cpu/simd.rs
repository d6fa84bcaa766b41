//! Vectors of float32, by what the processor has; chosen at run time.
//!
//! A value of a vector type's token exists only where its instructions do, so arithmetic is safe; loads and stores
//! take pointers and are not.

/// A set of vector instructions.
pub(crate) trait Simd: Copy + Send + Sync {
    /// A vector of `LANES` float32.
    type V: Copy;
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
    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// a·b + c
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// One step of a running maximum: lanes where `tap` is larger than `best`, or no number, take `tap` and `at`.
    fn larger(self, best: (Self::V, Self::V), tap: (Self::V, Self::V)) -> (Self::V, Self::V);
}

/// Work that runs on any set of vector instructions.
pub(crate) trait Kernel {
    type Output;
    /// Does the work. Implementations are `#[inline(always)]`, so that the caller's instructions apply.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs `kernel` on the best instructions that the processor has.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = x86::Avx2::detect() {
        // SAFETY: the token shows that the processor has AVX2 and FMA.
        return unsafe { x86::run(kernel, simd) };
    }
    kernel.run(Plain)
}

/// Arrays of eight, for the compiler to vectorise as it can.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain;

impl Simd for Plain {
    type V = [f32; 8];
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
    fn splat(self, x: f32) -> [f32; 8] {
        [x; 8]
    }

    #[inline(always)]
    fn mul_add(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        // Where the target has no fused instruction, `f32::mul_add` is a slow call.
        let fused = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
        std::array::from_fn(|i| if fused { a[i].mul_add(b[i], c[i]) } else { a[i] * b[i] + c[i] })
    }

    #[inline(always)]
    fn larger(self, best: ([f32; 8], [f32; 8]), tap: ([f32; 8], [f32; 8])) -> ([f32; 8], [f32; 8]) {
        let takes: [bool; 8] = std::array::from_fn(|i| tap.0[i] > best.0[i] || tap.0[i].is_nan());
        (
            std::array::from_fn(|i| if takes[i] { tap.0[i] } else { best.0[i] }),
            std::array::from_fn(|i| if takes[i] { tap.1[i] } else { best.1[i] }),
        )
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, _CMP_GT_OQ, _CMP_UNORD_Q, _mm256_blendv_ps, _mm256_cmp_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_or_ps, _mm256_set1_ps, _mm256_storeu_ps,
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

    /// # Safety
    /// The processor has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn run<K: Kernel>(kernel: K, simd: Avx2) -> K::Output {
        kernel.run(simd)
    }

    impl Simd for Avx2 {
        type V = __m256;
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
        fn splat(self, x: f32) -> __m256 {
            // SAFETY: the token shows the instructions.
            unsafe { _mm256_set1_ps(x) }
        }

        #[inline(always)]
        fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: the token shows the instructions.
            unsafe { _mm256_fmadd_ps(a, b, c) }
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
    }
}
