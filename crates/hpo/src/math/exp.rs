//! e^x as NumPy computes it on x86-64 with AVX-512.
//!
//! A search may depend on a last bit: two choices whose merits are equal but for rounding. NumPy's bits depend on the
//! processor. With AVX-512 its e^x (Intel's SVML) rounds 5 of 100 results the other way, which decides one tie in
//! every 50 searches or so; the reference traces come from there, so this function does the same, everywhere.
//!
//! The method is table-driven: x = (m + j/16) ln 2 + r with 0 ≤ r < (ln 2) / 16, and e^x = 2^m 2^(j/16) e^r.
//! Reference: Tang, Table-driven implementation of the exponential function in IEEE floating-point arithmetic, ACM
//! TOMS 15, 1989. The polynomial's coefficients are fitted to results of NumPy as they were measured, by
//! `tests/goldens/fit_exp.py`.

use std::f64::consts::{LN_2, LOG2_E};

use super::fused::fused;

/// 2^(j/16), and its relative rounding error.
const POWERS: [(u64, u64); 16] = [
    (0x3ff0_0000_0000_0000, 0x0000_0000_0000_0000),
    (0x3ff0_b558_6cf9_890f, 0x3c97_9aa6_5d83_7b6d),
    (0x3ff1_72b8_3c7d_517b, 0xbc80_1b15_eaa5_9348),
    (0x3ff2_387a_6e75_6238, 0x3c96_8efd_e3a8_a894),
    (0x3ff3_06fe_0a31_b715, 0x3c83_4d75_4db0_abb6),
    (0x3ff3_dea6_4c12_3422, 0x3c85_9f48_a72a_4c6d),
    (0x3ff4_bfda_d536_2a27, 0x3c76_90ce_bb7a_afb0),
    (0x3ff5_ab07_dd48_5429, 0x3c90_63e1_e21c_5409),
    (0x3ff6_a09e_667f_3bcd, 0xbc93_b3ef_bf5e_2228),
    (0x3ff7_a114_73eb_0187, 0xbc7b_32dc_b94d_a51d),
    (0x3ff8_ace5_422a_a0db, 0x3c8d_b72f_c1f0_eab4),
    (0x3ff9_c491_82a3_f090, 0x3c71_affc_2b91_ce27),
    (0x3ffa_e89f_995a_d3ad, 0x3c8c_1a77_92cb_3387),
    (0x3ffc_199b_dd85_529c, 0x3c73_6eae_30af_0cb3),
    (0x3ffd_5818_dcfb_a487, 0x3c74_a385_a63d_07a7),
    (0x3ffe_a4af_a2a4_90da, 0xbc8f_f712_8fd3_91f0),
];

/// (e^r - 1) / r, lowest power first.
const POLYNOMIAL: [u64; 6] = [
    0x3fef_ffff_ffff_ff70,
    0x3fe0_0000_0000_d008,
    0x3fc5_5555_5393_9738,
    0x3fa5_5557_242d_6059,
    0x3f81_101c_bbc6_5b6b,
    0x3f57_4118_3561_a603,
];

/// The rounding error of the constant ln 2.
const LN_2_LOW: f64 = f64::from_bits(0x3c7a_bc9e_3b39_803f);

/// Below it in absolute value, results are normal numbers.
const LIMIT: f64 = 707.0;

#[inline(always)]
fn exp_steps(x: f64) -> f64 {
    let x16 = 16.0 * x;
    let mut n = (x16 * LOG2_E).floor();
    // The product may have been rounded up to a whole number.
    if x16.mul_add(LOG2_E, -n) < 0.0 {
        n -= 1.0;
    }
    let multiple = -n / 16.0;
    let r = multiple.mul_add(LN_2_LOW, multiple.mul_add(LN_2, x));
    let [c0, c1, c2, c3, c4, c5] = POLYNOMIAL.map(f64::from_bits);
    let r2 = r * r;
    let p = r2.mul_add(c5.mul_add(r, c4), c3.mul_add(r, c2));
    let p = r2.mul_add(p, c1.mul_add(r, c0));
    let n = n as i64;
    let (power, missing) = POWERS[(n & 15) as usize];
    let power = f64::from_bits(power);
    let y = power.mul_add(p.mul_add(r, f64::from_bits(missing)), power);
    f64::from_bits(y.to_bits().wrapping_add(((n >> 4) as u64) << 52))
}

fused!(
    /// e^x
    exp, exp_steps, |x| x.abs() < LIMIT, f64::exp
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::rounded;

    #[derive(serde::Deserialize)]
    struct Golden {
        x: Vec<f64>,
        exp: Vec<f64>,
    }

    #[test]
    fn numpy_with_avx_512_gives_the_same_to_the_last_bit() {
        let text = std::fs::read_to_string("tests/goldens/numpy_exp.json").unwrap();
        let golden: Golden = serde_json::from_str(&text).unwrap();
        assert_eq!(golden.x.len(), 4000);
        let mut rounded_otherwise = 0;
        for (x, y) in golden.x.iter().zip(&golden.exp) {
            assert_eq!(exp(*x), *y, "exp({x:e})");
            // e^x - 1 has more correct bits than e^x needs where x is great.
            rounded_otherwise += usize::from(*x > 40.0 && rounded::expm1(*x) != *y);
        }
        assert!(rounded_otherwise > 10, "these are the correctly rounded ones");
    }

    #[test]
    fn the_table_has_the_powers_of_two() {
        for (j, (power, missing)) in POWERS.into_iter().enumerate() {
            let less = rounded::expm1(j as f64 / 16.0 * LN_2);
            assert!((f64::from_bits(power) - 1.0 - less).abs() < 1e-15, "{j}");
            assert!(f64::from_bits(missing).abs() < f64::EPSILON / 2.0, "{j}");
        }
    }
}
