//! Random numbers of augmentation.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The purpose of a stream of random numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Image,
    #[cfg(feature = "candle")]
    Mix,
}

/// The random numbers of one image in one epoch: ChaCha8 with the key (seed, purpose, epoch, index in the data).
pub(super) struct Random(ChaCha8Rng);

impl Random {
    pub(super) fn new(seed: u64, purpose: Purpose, epoch: usize, index: usize) -> Self {
        let mut key = [0; 32];
        let words = [seed, purpose as u64, epoch as u64, index as u64];
        for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform in [low, high).
    pub(super) fn uniform(&mut self, (low, high): (f64, f64)) -> f64 {
        low + (high - low) * self.unit()
    }

    /// In [low, high), with a uniform logarithm.
    pub(super) fn log_uniform(&mut self, (low, high): (f64, f64)) -> f64 {
        self.uniform((low.ln(), high.ln())).exp()
    }

    /// Uniform in 0..n, with a deviation below n / 2^64.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// True with this probability.
    pub(super) fn bernoulli(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Fills with uniform bytes.
    pub(super) fn bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// The generator, for distributions of `rand_distr`.
    #[cfg(feature = "candle")]
    pub(super) fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.0
    }

    /// 53 random bits as a number in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}
