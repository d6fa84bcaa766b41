//! AVX2 and AVX-512.

use std::arch::asm;
use std::arch::x86_64::{
    __m256, __m256i, __m512, __mmask16, _CMP_GT_OQ, _CMP_UNORD_Q, _MM_HINT_T0, _mm_castps_pd, _mm_movehl_ps,
    _mm_prefetch, _mm_store_sd, _mm_store_ss, _mm_storeu_ps, _mm256_add_ps, _mm256_andnot_si256,
    _mm256_blendv_ps, _mm256_castpd_ps, _mm256_castps_pd, _mm256_castps256_ps128, _mm256_cmp_ps,
    _mm256_cmpgt_epi32, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_maskload_ps,
    _mm256_max_ps, _mm256_min_ps, _mm256_or_ps, _mm256_permute2f128_ps, _mm256_permute4x64_pd,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_shuffle_ps, _mm256_storeu_ps,
    _mm256_unpackhi_ps, _mm256_unpacklo_ps, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_mask_blend_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_max_ps,
    _mm512_min_ps, _mm512_permutex2var_ps, _mm512_set1_ps, _mm512_setr_epi32, _mm512_storeu_ps,
};

use super::{Kernel, Simd, tile_sums};

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
    type Eight = Self;
    const LANES: usize = 8;

    #[inline(always)]
    fn eight(self) -> Self {
        self
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: the token proves the instructions, the caller the memory.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m256) {
        // SAFETY: the token proves the instructions, the caller the memory.
        unsafe { _mm256_storeu_ps(to, v) }
    }

    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, n: usize) -> __m256 {
        // SAFETY: the token proves the instructions, the caller the memory that the
        // mask selects.
        unsafe { _mm256_maskload_ps(from, mask(n)) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize, v: __m256) {
        // A masked store of AVX2 is 42 micro-operations on Zen 1 to 4, by the tables of uops.info.
        // SAFETY: the token proves the instructions, the caller the memory of the first values.
        unsafe {
            if n == 8 {
                return _mm256_storeu_ps(to, v);
            }
            let (mut to, mut rest) = (to, _mm256_castps256_ps128(v));
            if n & 4 != 0 {
                _mm_storeu_ps(to, rest);
                to = to.add(4);
                rest = _mm256_extractf128_ps::<1>(v);
            }
            if n & 2 != 0 {
                _mm_store_sd(to.cast(), _mm_castps_pd(rest));
                to = to.add(2);
                rest = _mm_movehl_ps(rest, rest);
            }
            if n & 1 != 0 {
                _mm_store_ss(to, rest);
            }
        }
    }

    #[inline(always)]
    fn between(self, first: usize, end: usize) -> __m256i {
        // SAFETY: the token proves the instructions.
        unsafe { _mm256_andnot_si256(mask(first), mask(end)) }
    }

    #[inline(always)]
    unsafe fn load_masked(self, from: *const f32, mask: __m256i) -> __m256 {
        // SAFETY: the token proves the instructions, the caller the memory that the
        // mask selects.
        unsafe { _mm256_maskload_ps(from, mask) }
    }

    #[inline(always)]
    fn prefetch(self, from: *const f32) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn fused(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn deinterleave(self, a: __m256, b: __m256) -> (__m256, __m256) {
        // SAFETY: the token proves the instructions.
        unsafe {
            // Shuffles stay within halves, so they leave pairs in the order 0, 2, 1, 3.
            let in_order = |v| _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(v)));
            (
                in_order(_mm256_shuffle_ps::<0b10_00_10_00>(a, b)),
                in_order(_mm256_shuffle_ps::<0b11_01_11_01>(a, b)),
            )
        }
    }

    #[inline(always)]
    fn interleave(self, a: __m256, b: __m256) -> (__m256, __m256) {
        // SAFETY: the token proves the instructions.
        unsafe {
            // Each half of a vector is interleaved by itself.
            let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            (_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
        }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn larger(self, best: (__m256, __m256), candidate: (__m256, __m256)) -> (__m256, __m256) {
        // SAFETY: the token proves the instructions.
        unsafe {
            let greater = _mm256_cmp_ps::<_CMP_GT_OQ>(candidate.0, best.0);
            let takes = _mm256_or_ps(greater, _mm256_cmp_ps::<_CMP_UNORD_Q>(candidate.0, candidate.0));
            (_mm256_blendv_ps(best.0, candidate.0, takes), _mm256_blendv_ps(best.1, candidate.1, takes))
        }
    }

    #[inline(always)]
    unsafe fn transpose8(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the token proves the instructions, the caller the memory.
        unsafe {
            let rows: [__m256; 8] = std::array::from_fn(|i| _mm256_loadu_ps(from.add(i * from_stride)));
            // Interleave pairs of rows, then pairs of pairs, then join the
            // halves.
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

    #[inline(always)]
    unsafe fn tile_sums<const R: usize, const N: usize>(
        self,
        depth: usize,
        a: (*const f32, usize),
        b: (*const f32, usize),
    ) -> [[__m256; N]; R] {
        // SAFETY: the token proves the instructions, the caller the memory.
        unsafe {
            if (R, N) == (4, 3) {
                let sums = sums_4x3(depth, a, b);
                return std::array::from_fn(|r| std::array::from_fn(|v| sums[r][v]));
            }
            tile_sums(self, depth, a, b)
        }
    }
}

/// [`Simd::tile_sums`] of four rows and three vectors. Twelve sums, three vectors and a row fill the sixteen registers, so the
/// order of instructions matters: compilers load the next row early and keep a sum in memory for it, at half the speed.
///
/// # Safety
/// As for [`Simd::tile_sums`]; the processor has AVX2 and FMA.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn sums_4x3(
    depth: usize,
    (a, a_step): (*const f32, usize),
    (b, b_step): (*const f32, usize),
) -> [[__m256; 3]; 4] {
    let mut sums = [[_mm256_set1_ps(0.0); 3]; 4];
    if depth == 0 {
        return sums;
    }
    let [[s00, s01, s02], [s10, s11, s12], [s20, s21, s22], [s30, s31, s32]] = &mut sums;
    // SAFETY: the loop reads `depth` times four values and three vectors, by this function's contract, and writes registers alone.
    unsafe {
        asm!(
            "2:",
            "vmovups {b0}, [{b}]",
            "vmovups {b1}, [{b} + 32]",
            "vmovups {b2}, [{b} + 64]",
            "vbroadcastss {row}, [{a}]",
            "vfmadd231ps {s00}, {row}, {b0}",
            "vfmadd231ps {s01}, {row}, {b1}",
            "vfmadd231ps {s02}, {row}, {b2}",
            "vbroadcastss {row}, [{a} + 4]",
            "vfmadd231ps {s10}, {row}, {b0}",
            "vfmadd231ps {s11}, {row}, {b1}",
            "vfmadd231ps {s12}, {row}, {b2}",
            "vbroadcastss {row}, [{a} + 8]",
            "vfmadd231ps {s20}, {row}, {b0}",
            "vfmadd231ps {s21}, {row}, {b1}",
            "vfmadd231ps {s22}, {row}, {b2}",
            "vbroadcastss {row}, [{a} + 12]",
            "vfmadd231ps {s30}, {row}, {b0}",
            "vfmadd231ps {s31}, {row}, {b1}",
            "vfmadd231ps {s32}, {row}, {b2}",
            "add {a}, {a_step}",
            "add {b}, {b_step}",
            "dec {depth}",
            "jnz 2b",
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            depth = inout(reg) depth => _,
            a_step = in(reg) a_step * size_of::<f32>(),
            b_step = in(reg) b_step * size_of::<f32>(),
            b0 = out(ymm_reg) _,
            b1 = out(ymm_reg) _,
            b2 = out(ymm_reg) _,
            row = out(ymm_reg) _,
            s00 = inout(ymm_reg) *s00,
            s01 = inout(ymm_reg) *s01,
            s02 = inout(ymm_reg) *s02,
            s10 = inout(ymm_reg) *s10,
            s11 = inout(ymm_reg) *s11,
            s12 = inout(ymm_reg) *s12,
            s20 = inout(ymm_reg) *s20,
            s21 = inout(ymm_reg) *s21,
            s22 = inout(ymm_reg) *s22,
            s30 = inout(ymm_reg) *s30,
            s31 = inout(ymm_reg) *s31,
            s32 = inout(ymm_reg) *s32,
            options(nostack, readonly),
        );
    }
    sums
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
    type Eight = Avx2;
    const LANES: usize = 16;

    #[inline(always)]
    fn eight(self) -> Avx2 {
        self.0
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: the token proves the instructions, the caller the memory.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m512) {
        // SAFETY: the token proves the instructions, the caller the memory.
        unsafe { _mm512_storeu_ps(to, v) }
    }

    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, n: usize) -> __m512 {
        // SAFETY: the token proves the instructions, the caller the memory that the
        // mask selects.
        unsafe { _mm512_maskz_loadu_ps(first(n), from) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize, v: __m512) {
        // SAFETY: the token proves the instructions, the caller the memory that the
        // mask selects.
        unsafe { _mm512_mask_storeu_ps(to, first(n), v) }
    }

    #[inline(always)]
    fn between(self, from: usize, end: usize) -> __mmask16 {
        first(end) & !first(from)
    }

    #[inline(always)]
    unsafe fn load_masked(self, from: *const f32, mask: __mmask16) -> __m512 {
        // SAFETY: the token proves the instructions, the caller the memory that the
        // mask selects.
        unsafe { _mm512_maskz_loadu_ps(mask, from) }
    }

    #[inline(always)]
    fn prefetch(self, from: *const f32) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn fused(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn deinterleave(self, a: __m512, b: __m512) -> (__m512, __m512) {
        // SAFETY: the token proves the instructions.
        unsafe {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            (_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b))
        }
    }

    #[inline(always)]
    fn interleave(self, a: __m512, b: __m512) -> (__m512, __m512) {
        // SAFETY: the token proves the instructions.
        unsafe {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            (_mm512_permutex2var_ps(a, low, b), _mm512_permutex2var_ps(a, high, b))
        }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn larger(self, best: (__m512, __m512), candidate: (__m512, __m512)) -> (__m512, __m512) {
        // SAFETY: the token proves the instructions.
        unsafe {
            let greater = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(candidate.0, best.0);
            let takes = greater | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(candidate.0, candidate.0);
            (
                _mm512_mask_blend_ps(takes, best.0, candidate.0),
                _mm512_mask_blend_ps(takes, best.1, candidate.1),
            )
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
