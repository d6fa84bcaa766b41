//! The order in which an epoch visits the examples.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The order of the examples in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// The order of the data.
    Sequential,
    /// A new random order in each epoch.
    Shuffled {
        /// Seed; the order is a function of the seed, the epoch and the number of examples alone.
        seed: u64,
    },
}

impl Sampling {
    /// The indices of `n` examples in the order of `epoch`.
    ///
    /// Shuffling is Fisher–Yates from the end, drawing from ChaCha8 whose key is the seed and whose stream is the
    /// epoch, so that no epoch's order depends on an earlier one.
    ///
    /// # Examples
    ///
    /// ```
    /// use firstsight_data::Sampling;
    ///
    /// let shuffled = Sampling::Shuffled { seed: 7 };
    /// assert_ne!(shuffled.indices(100, 0), shuffled.indices(100, 1));
    /// assert_eq!(Sampling::Sequential.indices(3, 1), [0, 1, 2]);
    /// ```
    pub fn indices(self, n: usize, epoch: usize) -> Vec<usize> {
        let mut indices: Vec<usize> = (0..n).collect();
        if let Self::Shuffled { seed } = self {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&seed.to_le_bytes());
            let mut rng = ChaCha8Rng::from_seed(key);
            rng.set_stream(epoch as u64);
            for i in (1..n).rev() {
                // 64 random bits scaled to 0..=i: the deviation from uniform is below n / 2^64.
                let j = (u128::from(rng.next_u64()) * (i as u128 + 1)) >> 64;
                indices.swap(i, j as usize);
            }
        }
        indices
    }
}

/// Indices of examples, grouped by class, with those of rare classes repeated until every class has as many as the
/// largest.
///
/// # Examples
///
/// ```
/// assert_eq!(firstsight_data::balanced(&[0, 1, 0, 0, 1]), [0, 2, 3, 1, 4, 1]);
/// ```
pub fn balanced(labels: &[u32]) -> Vec<usize> {
    let n_classes = labels.iter().max().map_or(0, |&label| label as usize + 1);
    let mut by_class = vec![Vec::new(); n_classes];
    for (i, &label) in labels.iter().enumerate() {
        by_class[label as usize].push(i);
    }
    let largest = by_class.iter().map(Vec::len).max().unwrap_or(0);
    let repeat = |class: &Vec<usize>| {
        let n = if class.is_empty() { 0 } else { largest };
        class.iter().copied().cycle().take(n).collect::<Vec<_>>()
    };
    by_class.iter().flat_map(repeat).collect()
}
