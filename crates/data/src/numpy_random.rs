//! NumPy's legacy `RandomState(seed).permutation(n)`, which scikit-learn's splits use.
//!
//! The generator, MT19937, comes from the crate `rand_mt`, which is small and tested against the reference vectors.
//! `firstsight-hpo`, which depends on no other crate of the workspace, uses it too.

use rand_mt::Mt;

/// `numpy.random.RandomState(seed).permutation(n)`.
///
/// Source: NumPy's `mtrand.pyx` (`permutation`, `shuffle`) and `distributions.c` (`random_interval`), which NumPy
/// froze in 2019 (NEP 19).
pub(crate) fn permutation(n: usize, seed: u32) -> Vec<usize> {
    let mut rng = Mt::new(seed);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, interval(&mut rng, i as u64) as usize);
    }
    order
}

/// A uniform draw from `0..=max`: bits under a mask, drawn again while they exceed `max`.
fn interval(rng: &mut Mt, max: u64) -> u64 {
    let mask = u64::MAX >> max.leading_zeros().min(63);
    loop {
        let value = if max <= u64::from(u32::MAX) { u64::from(rng.next_u32()) } else { wide(rng) } & mask;
        if value <= max {
            return value;
        }
    }
}

/// NumPy puts the first draw in the upper half.
fn wide(rng: &mut Mt) -> u64 {
    let upper = u64::from(rng.next_u32());
    upper << 32 | u64::from(rng.next_u32())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `python -c "import numpy; print(numpy.random.RandomState(1).permutation(10))"`, NumPy 2.4.6.
    #[test]
    fn ten_in_numpys_order() {
        assert_eq!(permutation(10, 1), [2, 9, 6, 4, 0, 3, 1, 7, 8, 5]);
        assert!(permutation(0, 1).is_empty());
        assert_eq!(permutation(1, 1), [0]);
    }
}
