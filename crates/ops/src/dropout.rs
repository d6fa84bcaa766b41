//! Dropout from a seed.

use candle_core::{Device, Result, Tensor};

use crate::elsewhere;
use crate::error::Error;

/// Inverted dropout: each value is 0 with probability `rate` in [0, 1), else multiplied by 1 / (1 − rate).
///
/// The dropped values depend on `seed` and their indices alone, so they are the same on every device and for every
/// dtype.
///
/// # Errors
///
/// A rate outside [0, 1).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// let x = Tensor::ones(1000, DType::F32, &Device::Cpu)?;
/// let y = firstsight_ops::dropout(&x, 0.5, 7)?.to_vec1::<f32>()?;
/// assert!(y.iter().all(|&v| v == 0. || v == 2.));
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn dropout(x: &Tensor, rate: f64, seed: u64) -> Result<Tensor> {
    elsewhere::dropout(x, rate, seed)
}

/// SplitMix64 (Steele, Lea, Flood 2014): the `index`-th output of the generator that starts at `seed`.
pub(crate) fn split_mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Draws `count` factors: 0 with probability `rate`, else 1 / (1 − rate).
pub(crate) fn dropout_scales(
    op: &'static str,
    count: usize,
    rate: f64,
    seed: u64,
) -> crate::Result<Vec<f32>> {
    if !(0.0..1.0).contains(&rate) {
        return Err(Error::Setting { op, rule: "the rate must be in [0, 1)", found: rate.to_string() });
    }
    let scale = (1.0 / (1.0 - rate)) as f32;
    // The upper 53 bits as a fraction in [0, 1).
    let dropped = |index| (split_mix(seed, index) >> 11) as f64 * (1.0 / (1u64 << 53) as f64) < rate;
    Ok((0..count as u64).map(|index| if dropped(index) { 0.0 } else { scale }).collect())
}

/// The factors (B, 1, …) of [`crate::drop_path`].
pub(crate) fn drop_path_scales(x: &Tensor, rate: f64, seed: u64) -> Result<Tensor> {
    let mut dims = vec![1; x.rank()];
    dims[0] = x.dim(0)?;
    let scales = Tensor::from_vec(dropout_scales("drop_path", dims[0], rate, seed)?, dims, &Device::Cpu)?;
    scales.to_dtype(x.dtype())?.to_device(x.device())
}

#[cfg(test)]
mod tests {
    use super::split_mix;

    /// The first outputs of the reference implementation for the seed 1234567 (<https://prng.di.unimi.it/splitmix64.c>).
    #[test]
    fn split_mix_is_the_published_one() {
        let expected = [6457827717110365317, 3203168211198807973, 9817491932198370423];
        assert_eq!([0, 1, 2].map(|index| split_mix(1234567, index)), expected);
    }
}
