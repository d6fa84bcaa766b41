//! Random numbers from a key: the same key gives the same numbers on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A stream of random numbers, identified by four words.
///
/// Everywhere in this crate, only additions, multiplications, divisions and square roots follow a draw. All of them
/// are exact to the bit under IEEE 754, so an image does not depend on a machine's sine or exponential.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(key: [u64; 4]) -> Self {
        let mut seed = [0; 32];
        for (bytes, word) in seed.chunks_exact_mut(8).zip(key) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Random(ChaCha8Rng::from_seed(seed))
    }

    /// Uniform in `[low, high)`.
    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.0.next_u32() >> 8) as f32 / (1 << 24) as f32)
    }

    /// True with this probability.
    pub(crate) fn happens(&mut self, probability: f32) -> bool {
        self.between(0.0, 1.0) < probability
    }

    /// Bell-shaped around 0 with this standard deviation: the sum of four uniform numbers, so never beyond 3.5
    /// deviations.
    pub(crate) fn bell(&mut self, deviation: f32) -> f32 {
        const SQRT_3: f32 = 1.732_050_8;
        let sum: f32 = (0..4).map(|_| self.between(-0.5, 0.5)).sum();
        sum * SQRT_3 * deviation
    }
}

/// A smooth random function of one number: values at the whole numbers, eased between.
pub(crate) struct Wander(Vec<f32>);

impl Wander {
    /// For arguments in `[0, upto]`, of this standard deviation at the whole numbers.
    pub(crate) fn new(random: &mut Random, upto: f32, deviation: f32) -> Self {
        Wander((0..upto as usize + 2).map(|_| random.bell(deviation)).collect())
    }

    pub(crate) fn at(&self, x: f32) -> f32 {
        let knot = (x.max(0.0) as usize).min(self.0.len() - 2);
        let t = (x - knot as f32).clamp(0.0, 1.0);
        let ease = t * t * (3.0 - 2.0 * t);
        self.0[knot] + (self.0[knot + 1] - self.0[knot]) * ease
    }
}
