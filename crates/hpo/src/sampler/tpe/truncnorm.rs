//! The normal distribution cut off at both ends, in the arithmetic of Optuna's `_truncnorm`.

use std::f64::consts::SQRT_2;

use crate::math::{erf, erfc, logaddexp, np_exp, np_expm1, np_log, np_log1p};

/// log √(2π)
pub(super) const LOG_SQRT_2PI: f64 = 0.918_938_533_204_672_7;

/// Φ(a) where it is a summand.
fn ndtr(a: f64) -> f64 {
    0.5 + 0.5 * erf(a / SQRT_2)
}

/// Φ(a) to full relative accuracy.
fn ndtr_accurate(a: f64) -> f64 {
    let x = a / SQRT_2;
    if x < -1.0 / SQRT_2 {
        0.5 * erfc(-x)
    } else if x < 1.0 / SQRT_2 {
        0.5 + 0.5 * erf(x)
    } else {
        1.0 - 0.5 * erfc(x)
    }
}

/// log Φ(a)
pub(super) fn log_ndtr(a: f64) -> f64 {
    if a > 6.0 {
        return -ndtr_accurate(-a);
    }
    if a > -20.0 {
        return ndtr_accurate(a).ln();
    }
    // The asymptotic series of the tail, summed until a term changes nothing.
    let leading = -0.5 * (a * a) - (-a).ln() - 0.5 * (2.0 * std::f64::consts::PI).ln();
    let (mut last, mut total) = (0.0_f64, 1.0_f64);
    let (mut numerator, mut denominator, mut sign) = (1.0, 1.0, 1.0);
    let mut i = 0.0;
    while (last - total).abs() > f64::EPSILON {
        i += 1.0;
        last = total;
        sign = -sign;
        denominator *= 1.0 / (a * a);
        numerator *= 2.0 * i - 1.0;
        total += sign * numerator * denominator;
    }
    leading + total.ln()
}

/// log(Φ(b) - Φ(a)), worked out in the left tail.
pub(super) fn log_mass(a: f64, b: f64) -> f64 {
    let left = |a: f64, b: f64| {
        let (log_a, log_b) = (log_ndtr(a), log_ndtr(b));
        log_b + np_log1p(-np_exp(log_a - log_b))
    };
    if b <= 0.0 {
        left(a, b)
    } else if a > 0.0 {
        left(-b, -a)
    } else {
        np_log1p(-ndtr(a) - ndtr(-b))
    }
}

/// The log density at `x`, standardized, of a normal cut off at `a` and `b`, without its log σ.
pub(super) fn log_pdf(x: f64) -> f64 {
    -(x * x) / 2.0 - LOG_SQRT_2PI
}

/// x with log Φ(x) = y, for many y at once: Newton's method, until every one has converged.
fn ndtri_exp(y: &[f64]) -> Vec<f64> {
    const LOGISTIC: f64 = 0.551_328_895_421_792_1; // √3 / π
    let flipped = |y: f64| y > -1e-2;
    let z: Vec<f64> = y.iter().map(|&y| if flipped(y) { np_log(-np_expm1(y)) } else { y }).collect();
    let mut x: Vec<f64> =
        z.iter()
            .map(|&z| {
                if z < -5.0 { -(-2.0 * (z + LOG_SQRT_2PI)).sqrt() } else { -LOGISTIC * np_log(np_expm1(-z)) }
            })
            .collect();
    for _ in 0..100 {
        let mut converged = true;
        for (x, &z) in x.iter_mut().zip(&z) {
            let log_phi = log_ndtr(*x);
            let log_density = -0.5 * (*x * *x) - LOG_SQRT_2PI;
            let dx = (log_phi - z) * np_exp(log_phi - log_density);
            *x -= dx;
            converged &= dx.abs() < 1e-8 * x.abs();
        }
        if converged {
            break;
        }
    }
    for (x, &y) in x.iter_mut().zip(y) {
        if flipped(y) {
            *x *= -1.0;
        }
    }
    x
}

/// The quantiles `q` of normals cut off at `a` and `b`.
pub(super) fn ppf(q: &[f64], a: &[f64], b: &[f64]) -> Vec<f64> {
    // The two sides are each one batch, whose members share the number of Newton steps.
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let (mut left_y, mut right_y) = (Vec::new(), Vec::new());
    for (i, ((&q, &a), &b)) in q.iter().zip(a).zip(b).enumerate() {
        let mass = log_mass(a, b);
        if a < 0.0 {
            left.push(i);
            left_y.push(logaddexp(log_ndtr(a), np_log(q) + mass));
        } else {
            right.push(i);
            right_y.push(logaddexp(log_ndtr(-b), np_log1p(-q) + mass));
        }
    }
    let mut x = vec![0.0; q.len()];
    for (i, root) in left.into_iter().zip(ndtri_exp(&left_y)) {
        x[i] = root;
    }
    for (i, root) in right.into_iter().zip(ndtri_exp(&right_y)) {
        x[i] = -root;
    }
    for (i, x) in x.iter_mut().enumerate() {
        if q[i] == 0.0 {
            *x = a[i];
        }
        if q[i] == 1.0 {
            *x = b[i];
        }
        if a[i] == b[i] {
            *x = f64::NAN;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64, tolerance: f64, what: f64) {
        assert!((found - expected).abs() <= tolerance * expected.abs(), "{what}: {found} against {expected}");
    }

    #[test]
    fn logarithms_of_the_distribution_are_those_of_the_error_function() {
        for a in [-37.0, -30.0, -25.0, -20.1, -20.0, -19.9, -8.0, -5.0, -1.0, -0.5, 0.0, 0.5, 1.0, 5.0, 6.0] {
            close(log_ndtr(a), (0.5 * erfc(-a / SQRT_2)).ln(), 1e-12, a);
        }
        for a in [6.1, 9.0, 20.0] {
            close(log_ndtr(a), -0.5 * erfc(a / SQRT_2), 1e-12, a);
        }
    }

    #[test]
    fn quantiles_have_their_share_of_the_mass_before_them() {
        let ends = [(-1.0, 2.0), (-30.0, 0.5), (-9.0, -7.0), (0.5, 3.0), (7.0, 40.0), (0.0, 1.0)];
        for (a, b) in ends {
            let q = [1e-6, 0.1, 0.5, 0.9, 1.0 - 1e-6];
            let x = ppf(&q, &[a; 5], &[b; 5]);
            for (q, x) in q.into_iter().zip(x) {
                assert!(a < x && x < b, "{x} between {a} and {b}");
                close((log_mass(a, x) - log_mass(a, b)).exp(), q, 1e-8, q);
            }
            assert_eq!(ppf(&[0.0, 1.0], &[a; 2], &[b; 2]), [a, b]);
        }
        assert!(ppf(&[0.5], &[1.0], &[1.0])[0].is_nan());
    }
}
