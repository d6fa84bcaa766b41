//! From bytes to floats.

#[cfg(feature = "candle")]
use crate::error::{Error, Result};

/// Normalization of bytes: `(x / 255 - mean) / std` for each channel.
///
/// A mean of 0 and a std of 1/255 leave the bytes unchanged: exactly 0.0 to 255.0.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalize {
    /// Mean of each channel, for values in [0, 1].
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, for values in [0, 1].
    pub std: Vec<f32>,
}

#[cfg(feature = "candle")]
impl Normalize {
    /// For each channel, the value of each byte, computed as `(x - 255 mean) / (255 std)`: 255 times the f32 nearest
    /// to 1/255 is exactly 1, whereas dividing by 255 first would leave an error in the last bit.
    pub(crate) fn tables(&self, channels: usize) -> Result<Vec<[f32; 256]>> {
        if self.mean.len() != channels || self.std.len() != channels {
            let found = format!("{} and {}", self.mean.len(), self.std.len());
            return Err(Error::invalid("normalize", format!("{channels} means and as many stds"), found));
        }
        if let Some(std) = self.std.iter().find(|std| !(std.is_finite() && **std > 0.0)) {
            return Err(Error::invalid("normalize", "stds that are finite and above 0", std));
        }
        if let Some(mean) = self.mean.iter().find(|mean| !mean.is_finite()) {
            return Err(Error::invalid("normalize", "means that are finite", mean));
        }
        let table = |(&mean, &std): (&f32, &f32)| {
            let (mean, std) = (255.0 * mean, 255.0 * std);
            std::array::from_fn(|byte| (byte as f32 - mean) / std)
        };
        Ok(self.mean.iter().zip(&self.std).map(table).collect())
    }
}
