//! Total variation.

use candle_core::{Result, Tensor};

/// Added under the root, so that flat images have a gradient.
const EPSILON: f64 = 1e-6;

/// Total variation (B,) of images (B, C, H, W): the mean of √(Δx² + Δy² + ε) over channels and pixels.
///
/// Δx and Δy are the differences to the pixel on the right and to the one below, 0 at the edge (Rudin, Osher and Fatemi
/// 1992).
///
/// ```
/// use candle_core::{Device, Tensor};
/// let step = Tensor::new(&[[[[0f32, 0.0, 3.0, 3.0]]]], &Device::Cpu)?;
/// let found = firstsight_insight::total_variation(&step)?.to_vec1::<f32>()?;
/// // One of four pixels differs from its neighbor, by 3; ε adds 0.001 to each other.
/// assert!((found[0] - 0.75075).abs() < 1e-5);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn total_variation(xs: &Tensor) -> Result<Tensor> {
    let across = differences(xs, 3)?.sqr()?;
    let down = differences(xs, 2)?.sqr()?;
    (across + down)?.affine(1.0, EPSILON)?.sqrt()?.flatten_from(1)?.mean(1)
}

/// Differences to the next value along `axis`; 0 at the end.
fn differences(xs: &Tensor, axis: usize) -> Result<Tensor> {
    let n = xs.dim(axis)?;
    if n < 2 {
        return xs.zeros_like();
    }
    let differences = (xs.narrow(axis, 1, n - 1)? - xs.narrow(axis, 0, n - 1)?)?;
    differences.pad_with_zeros(axis, 0, 1)
}
