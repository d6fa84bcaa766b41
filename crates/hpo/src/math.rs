//! Arithmetic that rounds as NumPy's does.

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

pub(crate) fn np_exp(x: f64) -> f64 {
    x.exp()
}
pub(crate) fn np_log(x: f64) -> f64 {
    x.ln()
}
pub(crate) fn np_log1p(x: f64) -> f64 {
    x.ln_1p()
}
pub(crate) fn np_expm1(x: f64) -> f64 {
    x.exp_m1()
}

/// `numpy.argsort` of at most 256 numbers, ties included: a bitonic network in which equal neighbours never
/// change places.
///
/// NumPy 2 sorts up to 256 doubles with vector instructions in this network, whatever the width of the
/// vectors. Beyond that it partitions first, and where ties end up depends on the machine; then this function
/// keeps them in their order.
pub(crate) fn argsort(x: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    if x.len() > 256 {
        order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
        return order;
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
