//! Arithmetic that rounds as NumPy's does.

mod exp;
mod fused;
mod rounded;

use std::cmp::Ordering;

pub(crate) use self::exp::exp as np_exp;
pub(crate) use self::rounded::{expm1 as np_expm1, log as np_log, log1p as np_log1p};

/// NumPy's `sum` over contiguous doubles: pairwise in blocks of 128, eight at a time.
pub(crate) fn sum(x: &[f64]) -> f64 {
    if x.len() < 8 {
        return x.iter().fold(0.0, |sum, &x| sum + x);
    }
    if x.len() <= 128 {
        let mut r = [x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]];
        let mut chunks = x[8..].chunks_exact(8);
        for chunk in &mut chunks {
            for (r, x) in r.iter_mut().zip(chunk) {
                *r += x;
            }
        }
        let eight = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
        return chunks.remainder().iter().fold(eight, |sum, &x| sum + x);
    }
    let half = x.len() / 2;
    let (a, b) = x.split_at(half - half % 8);
    sum(a) + sum(b)
}

/// `numpy.logaddexp`.
pub(crate) fn logaddexp(x: f64, y: f64) -> f64 {
    if x == y {
        return x + std::f64::consts::LN_2;
    }
    let d = x - y;
    if d > 0.0 { x + (-d).exp().ln_1p() } else { y + d.exp().ln_1p() }
}

/// `numpy.linspace(start, stop, n)`.
pub(crate) fn linspace(start: f64, stop: f64, n: usize) -> Vec<f64> {
    let step = (stop - start) / (n.saturating_sub(1).max(1)) as f64;
    let mut x: Vec<f64> = (0..n).map(|i| i as f64 * step + start).collect();
    if n > 1 {
        x[n - 1] = stop;
    }
    x
}

mod libm {
    unsafe extern "C" {
        pub(super) fn erf(x: f64) -> f64;
        pub(super) fn erfc(x: f64) -> f64;
    }
}

/// The error function of the system's C library, which Python's `math.erf` is too.
pub(crate) fn erf(x: f64) -> f64 {
    // SAFETY: C's `erf` takes and returns a double, and is defined for all of them.
    unsafe { libm::erf(x) }
}

/// The complementary error function of the system's C library, which Python's `math.erfc` is too.
pub(crate) fn erfc(x: f64) -> f64 {
    // SAFETY: C's `erfc` takes and returns a double, and is defined for all of them.
    unsafe { libm::erfc(x) }
}

/// The order of floats, in which 0 and -0 are equal and NaN comes last.
pub(crate) fn order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// The most numbers that NumPy sorts in a network, which decides where equal ones end up.
pub(crate) const NETWORK: usize = 256;

/// The index of the first greatest number, or of the first NaN.
pub(crate) fn argmax(x: &[f64]) -> usize {
    let mut best = 0;
    for (i, &v) in x.iter().enumerate() {
        if v.is_nan() {
            return i;
        }
        if v > x[best] {
            best = i;
        }
    }
    best
}

/// `numpy.argsort` of at most 256 numbers, ties included: a bitonic network in which equal neighbors never
/// change places.
///
/// NumPy 2 sorts up to 256 doubles with vector instructions in this network, whatever the width of the
/// vectors. Beyond that it partitions first, and where ties end up depends on the machine; then this function
/// keeps them in their order.
pub(crate) fn argsort(x: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    if x.len() > NETWORK {
        // Doubles of either sign sort as integers once the bits of negative ones are turned over.
        let key = |x: f64| {
            let bits = (x + 0.0).to_bits();
            if bits >> 63 == 1 { !bits } else { bits | (1 << 63) }
        };
        let mut keys: Vec<(u64, usize)> = order.iter().map(|&i| (key(x[i]), i)).collect();
        keys.sort_unstable();
        return keys.into_iter().map(|(_, i)| i).collect();
    }
    let size = x.len().next_power_of_two();
    order.extend(x.len()..size);
    let mut keys = x.to_vec();
    keys.resize(size, f64::INFINITY);
    let mut exchange = |i: usize, j: usize| {
        if keys[j] < keys[i] {
            keys.swap(i, j);
            order.swap(i, j);
        }
    };
    let mut block = 2;
    while block <= size {
        for start in (0..size).step_by(block) {
            (0..block / 2).for_each(|i| exchange(start + i, start + block - 1 - i));
        }
        let mut half = block / 4;
        while half >= 1 {
            for start in (0..size).step_by(2 * half) {
                (start..start + half).for_each(|i| exchange(i, i + half));
            }
            half /= 2;
        }
        block *= 2;
    }
    order.truncate(x.len());
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elementary_functions_are_the_standard_ones_but_for_the_last_bit() {
        let mut rng = crate::RandomState::new(1);
        let near = |ours: f64, theirs: f64| (ours - theirs).abs() <= 1.01 * theirs.abs() * f64::EPSILON;
        let mut differ = [0; 4];
        for _ in 0..100_000 {
            let x = rng.uniform(-700.0, 700.0);
            let small = rng.uniform(-1.0, 1.0) * 10f64.powf(rng.uniform(-18.0, 0.0));
            let positive = 10f64.powf(rng.uniform(-300.0, 300.0));
            for (place, ours, theirs) in [
                (0, np_exp(x), x.exp()),
                (0, np_exp(small), small.exp()),
                (1, np_expm1(x), x.exp_m1()),
                (1, np_expm1(small), small.exp_m1()),
                (2, np_log(positive), positive.ln()),
                (2, np_log(1.0 + small.abs()), (1.0 + small.abs()).ln()),
                (3, np_log1p(positive), positive.ln_1p()),
                (3, np_log1p(small), small.ln_1p()),
            ] {
                assert!(near(ours, theirs), "function {place}: {ours:e} and {theirs:e}");
                differ[place] += usize::from(ours != theirs);
            }
        }
        assert!(differ.iter().all(|&n| n > 0), "these are the standard functions themselves: {differ:?}");
    }

    #[test]
    fn sorting_is_by_value_whatever_the_sign() {
        let mut rng = crate::RandomState::new(2);
        for n in [0, 1, 2, 7, NETWORK, NETWORK + 1, 1000] {
            let x: Vec<f64> = (0..n).map(|_| rng.uniform(-1.0, 1.0)).collect();
            let sorted: Vec<f64> = argsort(&x).into_iter().map(|i| x[i]).collect();
            assert!(sorted.is_sorted() && sorted.len() == n, "{n}: {sorted:?}");
        }
    }

    #[test]
    fn elementary_functions_at_the_ends() {
        assert_eq!(np_exp(f64::NEG_INFINITY), 0.0);
        assert_eq!(np_exp(0.0), 1.0);
        assert_eq!(np_expm1(0.0), 0.0);
        assert_eq!(np_expm1(-700.0), -1.0);
        assert_eq!(np_log(0.0), f64::NEG_INFINITY);
        assert_eq!(np_log(1.0), 0.0);
        assert!(np_log(-1.0).is_nan());
        assert_eq!(np_log1p(-1.0), f64::NEG_INFINITY);
        assert_eq!(np_log1p(0.0), 0.0);
    }
}
