//! exp, log, log1p and expm1 that round as NumPy's do where it has AVX-512.
//!
//! There NumPy takes them from Intel's SVML in its high-accuracy variant (`__svml_exp8_ha` and the like, BSD
//! licence), whose results differ in the last bit now and then from those of the C library that it calls
//! elsewhere. A search may hang on that bit: two choices whose merits are equal but for rounding. The
//! functions here carry out SVML's operations one by one, with its constants; so they give one and the same
//! result on every machine. Arguments that SVML hands to its slow path go to the standard library.

/// 2^(j/16)
const EXP2: [u64; 16] = [
    0x3ff0_0000_0000_0000,
    0x3ff0_b558_6cf9_890f,
    0x3ff1_72b8_3c7d_517b,
    0x3ff2_387a_6e75_6238,
    0x3ff3_06fe_0a31_b715,
    0x3ff3_dea6_4c12_3422,
    0x3ff4_bfda_d536_2a27,
    0x3ff5_ab07_dd48_5429,
    0x3ff6_a09e_667f_3bcd,
    0x3ff7_a114_73eb_0187,
    0x3ff8_ace5_422a_a0db,
    0x3ff9_c491_82a3_f090,
    0x3ffa_e89f_995a_d3ad,
    0x3ffc_199b_dd85_529c,
    0x3ffd_5818_dcfb_a487,
    0x3ffe_a4af_a2a4_90da,
];
/// What is missing in [`EXP2`], relative to it.
const EXP2_LOW: [u64; 16] = [
    0x0000_0000_0000_0000,
    0x3c97_9aa6_5d83_7b6d,
    0xbc80_1b15_eaa5_9348,
    0x3c96_8efd_e3a8_a894,
    0x3c83_4d75_4db0_abb6,
    0x3c85_9f48_a72a_4c6d,
    0x3c76_90ce_bb7a_afb0,
    0x3c90_63e1_e21c_5409,
    0xbc93_b3ef_bf5e_2228,
    0xbc7b_32dc_b94d_a51d,
    0x3c8d_b72f_c1f0_eab4,
    0x3c71_affc_2b91_ce27,
    0x3c8c_1a77_92cb_3387,
    0x3c73_6eae_30af_0cb3,
    0x3c74_a385_a63d_07a7,
    0xbc8f_f712_8fd3_91f0,
];
/// -ln(1 + j/16), with ln 2 added in the upper half, to 38 bits.
const LOG: [u64; 16] = [
    0x0000_0000_0000_0000,
    0xbfaf_0a30_c012_0000,
    0xbfbe_2707_6e2b_0000,
    0xbfc5_ff30_70a7_8000,
    0xbfcc_8ff7_c79a_8000,
    0xbfd1_675c_abab_c000,
    0xbfd4_618b_c21c_4000,
    0xbfd7_39d7_f6bb_c000,
    0x3fd2_6962_1134_c000,
    0x3fcf_991c_6cb3_8000,
    0x3fca_93ed_3c8b_0000,
    0x3fc5_bf40_6b54_0000,
    0x3fc1_178e_8228_0000,
    0x3fb9_335e_5d59_0000,
    0x3fb0_8598_b59e_0000,
    0x3fa0_415d_89e8_0000,
];
/// What is missing in [`LOG`].
const LOG_LOW: [u64; 16] = [
    0x0000_0000_0000_0000,
    0x3d53_ab33_d066_d1d2,
    0x3d2a_342c_2af0_003c,
    0xbd43_d3c8_73e2_0a07,
    0xbd4a_21ac_25d8_1ef3,
    0x3d59_f1fc_6338_2a8f,
    0xbd5e_c27d_0b7b_37b3,
    0xbd50_069c_e24c_53fb,
    0x3d5b_9278_3beb_7677,
    0x3d59_bcbe_cca0_cdf3,
    0xbd53_0e48_6a0a_c42d,
    0x3d5e_d8fd_c149_767e,
    0xbd4b_8421_cc74_be04,
    0x3d52_622b_8757_a8fb,
    0x3d4d_0344_51fe_cdfb,
    0xbd57_7771_fd18_7145,
];

const fn f(bits: u64) -> f64 {
    f64::from_bits(bits)
}

const LOG2_E: f64 = std::f64::consts::LOG2_E;
const LN_2: f64 = std::f64::consts::LN_2;
const LN_2_LOW: f64 = f(0x3c7a_bc9e_3b39_803f);
/// Added to a number, it leaves a multiple of 1/16.
const SHIFT: f64 = f(0x42f8_0000_0000_3ff0);
/// Beyond this, powers need the slow path.
const LIMIT: f64 = f(0x4086_1da0_4cba_fe44);
/// ln 2 in two parts, of which the first has few bits.
const LN_2_PARTS: [f64; 2] = [f(0x3fe6_2e42_fefa_0000), f(0x3d7c_f79a_bc9e_0000)];
/// (e^r - 1) / r, highest power first.
const EXP: [f64; 6] = [
    f(0x3f57_4118_3694_0c04),
    f(0x3f81_101c_bbc2_65c0),
    f(0x3fa5_5557_242d_68fe),
    f(0x3fc5_5555_5393_9732),
    f(0x3fe0_0000_0000_d008),
    f(0x3fef_ffff_ffff_ff70),
];
/// (e^r - 1 - r) / r^2 without its first term, highest power first.
const EXPM1: [f64; 6] = [
    f(0x3efa_01f8_f4be_0bb2),
    f(0x3f2a_01f8_f4b1_29c3),
    f(0x3f56_c16c_1630_4601),
    f(0x3f81_1111_10a6_5711),
    f(0x3fa5_5555_5555_560a),
    f(0x3fc5_5555_5555_55f9),
];
/// (ln(1 + r) - r) / r^2, highest power first.
const LOG1P: [f64; 8] = [
    f(0x3fbc_81cd_309d_7c70),
    f(0xbfc0_0735_7e93_af62),
    f(0x3fc2_4922_9cee_81ef),
    f(0xbfc5_5553_fb28_db06),
    f(0x3fc9_9999_99cc_9f5c),
    f(0xbfd0_0000_000c_05bd),
    f(0x3fd5_5555_5555_5466),
    f(0xbfdf_ffff_ffff_ffc6),
];

/// x * 2^floor(n)
#[inline(always)]
fn scale(x: f64, n: f64) -> f64 {
    x * f(((n.floor() as i64 + 1023) as u64) << 52)
}

/// Clears the second highest bit, which guards what follows against an overflow.
#[inline(always)]
fn guard(x: f64) -> f64 {
    f(x.to_bits() & 0xbfff_ffff_ffff_ffff)
}

#[inline(always)]
fn exp_steps(x: f64) -> f64 {
    // The sum is rounded down, so a multiple that rounding took above the product goes back by one.
    let mut shifted = x.mul_add(LOG2_E, SHIFT);
    if x.mul_add(LOG2_E, -(shifted - SHIFT)) < 0.0 {
        shifted = shifted.next_down();
    }
    let n = shifted - SHIFT;
    let j = (shifted.to_bits() & 15) as usize;
    let r = guard((-n).mul_add(LN_2_LOW, (-n).mul_add(LN_2, x)));
    let r2 = r * r;
    let [c5, c4, c3, c2, c1, c0] = EXP;
    let p = r2.mul_add(c5.mul_add(r, c4), c3.mul_add(r, c2));
    let p = r2.mul_add(p, c1.mul_add(r, c0));
    let t = f(EXP2[j]);
    scale(t.mul_add(p.mul_add(r, f(EXP2_LOW[j])), t), n)
}

#[inline(always)]
fn expm1_steps(x: f64) -> f64 {
    let shifted = x.mul_add(LOG2_E, SHIFT);
    let n = shifted - SHIFT;
    let j = (shifted.to_bits() & 15) as usize;
    let high = (-n).mul_add(LN_2, x);
    let sum = (-n).mul_add(LN_2_LOW, high);
    let r = guard(sum);
    let r_low = guard((-n).mul_add(LN_2_LOW, high - sum));
    let t = scale(f(EXP2[j]), n.max(-128.0));
    let t_low = f(EXP2_LOW[j]);
    let r2 = r * r;
    let [c5, c4, c3, c2, c1, c0] = EXPM1;
    let p = r2.mul_add(c5.mul_add(r, c4), c3.mul_add(r, c2));
    let p = r2.mul_add(p, c1.mul_add(r, c0));
    let p = r2.mul_add(r.mul_add(p, 0.5), r.mul_add(t_low, r_low + t_low));
    let less = t - 1.0;
    let (big, small) = if t < 1.0 { (-1.0, t) } else { (t, -1.0) };
    let less_low = (big - less) + small;
    let product = r.mul_add(t, less);
    let product_low = r.mul_add(t, -(product - less));
    let y = product + (p.mul_add(t, less_low) + product_low);
    f(y.to_bits() | (x.to_bits() & (1 << 63)))
}

/// A positive normal number as m 2^e with m in [1, 2), and 1/m rounded to 5 bits.
#[inline(always)]
fn split(x: f64) -> (f64, f64, f64) {
    let bits = x.to_bits();
    let m = f((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    let e = (bits >> 52) as i64 as f64 - 1023.0;
    (m, e, ((1.0 / m) * 32.0).round_ties_even() / 32.0)
}

/// ln(2^e (1 + r + r_low) / reciprocal)
#[inline(always)]
fn log_steps(e: f64, reciprocal: f64, r: f64, r_low: f64) -> f64 {
    let e = if reciprocal < 0.75 { e + 1.0 } else { e };
    let j = ((reciprocal.to_bits() >> 48) & 15) as usize;
    let [c7, c6, c5, c4, c3, c2, c1, c0] = LOG1P;
    let r2 = r * r;
    let upper = r2.mul_add(c7.mul_add(r, c6), c5.mul_add(r, c4));
    let lower = r2.mul_add(c3.mul_add(r, c2), c1.mul_add(r, c0));
    let p = (r2 * r2).mul_add(upper, lower);
    let high = e.mul_add(LN_2_PARTS[0], f(LOG[j]));
    let sum = high + r;
    let rest = r2.mul_add(p, r - (sum - high));
    sum + (rest + LN_2_PARTS[1].mul_add(e, f(LOG_LOW[j]) + r_low))
}

#[inline(always)]
fn normal_log_steps(x: f64) -> f64 {
    let (m, e, reciprocal) = split(x);
    log_steps(e, reciprocal, reciprocal.mul_add(m, -1.0), 0.0)
}

#[inline(always)]
fn log1p_steps(x: f64) -> f64 {
    let sum = 1.0 + x;
    let missing = x.min(1.0) - (sum - x.max(1.0));
    let (m, e, reciprocal) = split(sum);
    let high = reciprocal.mul_add(m, -1.0);
    let low = reciprocal * scale(missing, -e);
    let r = high + low;
    let y = log_steps(e, reciprocal, r, low - (r - high));
    f(y.to_bits() | (x.to_bits() & (1 << 63)))
}

/// The steps above, compiled for a processor with fused multiply-add where there is one: elsewhere that
/// operation is a slow function call, with the same result.
macro_rules! fused {
    ($(#[$doc:meta])* $name:ident, $steps:ident, $plain:expr, $slow:expr) => {
        $(#[$doc])*
        pub(crate) fn $name(x: f64) -> f64 {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn fast(x: f64) -> f64 {
                $steps(x)
            }
            let plain: fn(f64) -> bool = $plain;
            if !plain(x) {
                let slow: fn(f64) -> f64 = $slow;
                return slow(x);
            }
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                // SAFETY: The processor has the instructions that `fast` is compiled for.
                return unsafe { fast(x) };
            }
            $steps(x)
        }
    };
}

fused!(
    /// `numpy.exp`
    exp, exp_steps, |x| x.abs() < LIMIT, f64::exp
);
fused!(
    /// `numpy.expm1`
    expm1, expm1_steps, |x| x.abs() < LIMIT, f64::exp_m1
);
fused!(
    /// `numpy.log`
    log, normal_log_steps, |x| x.is_normal() && x > 0.0, f64::ln
);
fused!(
    /// `numpy.log1p`
    log1p, log1p_steps, |x| x > -1.0 && x < f64::MAX, f64::ln_1p
);
