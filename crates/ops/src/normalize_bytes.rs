//! From the bytes of images to floats.

use candle_core::{DType, Result, Tensor};

use crate::elsewhere;
use crate::error::Error;

/// Images (B, H, W, C) of bytes to floats (B, C, H, W), normalized by channel: `(x / 255 - mean) / std`, computed as
/// `(x - 255 mean) / (255 std)`.
///
/// On a GPU, bytes are a quarter of what floats would take to get there.
///
/// # Errors
///
/// A tensor that is not of u8 or not of rank 4, other numbers of means and stds than of channels, or stds that are not above 0.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let images = Tensor::new(&[0u8, 255, 51, 102], &Device::Cpu)?.reshape((1, 1, 2, 2))?;
/// let x = firstsight_ops::normalize_bytes(&images, &[0.0, 0.5], &[1.0, 0.5])?;
/// assert_eq!(x.dims(), [1, 2, 1, 2]);
/// assert_eq!(x.flatten_all()?.to_vec1::<f32>()?, [0., 0.2, 1., -0.2]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn normalize_bytes(images: &Tensor, mean: &[f32], std: &[f32]) -> Result<Tensor> {
    let op = "normalize_bytes";
    let channels = images.dims4()?.3;
    if images.dtype() != DType::U8 {
        let found = images.dtype().as_str().to_owned();
        return Err(Error::Setting { op, rule: "images are u8", found }.into());
    }
    let valid =
        std.iter().all(|std| std.is_finite() && *std > 0.0) && mean.iter().all(|mean| mean.is_finite());
    if !valid || mean.len() != channels || std.len() != channels {
        let rule = "there are as many finite means, and stds above 0, as channels";
        return Err(
            Error::Setting { op, rule, found: format!("{mean:?}, {std:?}, {channels} channels") }.into()
        );
    }
    let times_255 = |values: &[f32]| values.iter().map(|value| 255.0 * value).collect::<Vec<f32>>();
    elsewhere::normalize_bytes(images, &times_255(mean), &times_255(std))
}
