//! Resizing of small grids, such as position embeddings.

use candle_core::{Device, Result, Tensor};

use crate::error::Error;

/// Resizes `x` (B, C, h, w) to (B, C, height, width) by antialiased bicubic interpolation, as PyTorch does with
/// `interpolate(x, size, mode="bicubic", antialias=True)`. timm resizes position embeddings so.
///
/// Along each axis, output i is the mean of the inputs around its center, weighted by Keys's cubic with a = −0.5, which is widened
/// where the axis shrinks. The work grows with the square of the sizes.
///
/// # Errors
///
/// Ranks other than 4, or sizes of 0.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[[[0f32, 1.]]]], &Device::Cpu)?;
/// let y = firstsight_ops::resize_bicubic(&x, (1, 4))?.flatten_all()?.to_vec1::<f32>()?;
/// assert!(y.is_sorted() && (y[0] + y[3] - 1.0).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn resize_bicubic(x: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    let (batch, channels, h, w) = x.dims4()?;
    if [batch, channels, h, w, height, width].contains(&0) {
        let found = format!("{:?} to {height} × {width}", x.dims());
        let rule = "all sizes must be at least 1";
        return Err(Error::Setting { op: "resize_bicubic", rule, found }.into());
    }
    let matrix = |from, to| -> Result<Tensor> {
        let weights: Vec<f64> = (0..to).flat_map(|at| weights(from, to, at)).collect();
        Tensor::from_vec(weights, (to, from), &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())
    };
    let rows = x.contiguous()?.reshape((batch * channels * h, w))?.matmul(&matrix(w, width)?.t()?)?;
    let maps = rows.reshape((batch * channels, h, width))?;
    matrix(h, height)?.broadcast_matmul(&maps)?.reshape((batch, channels, height, width))
}

/// The weights of the `from` inputs for output `at` of `to`.
fn weights(from: usize, to: usize, at: usize) -> Vec<f64> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let center = scale * (at as f64 + 0.5);
    let first = (center - 2.0 * stretch + 0.5).max(0.0) as usize;
    let end = ((center + 2.0 * stretch + 0.5) as usize).min(from);
    let mut weights = vec![0.0; from];
    for (i, weight) in weights.iter_mut().enumerate().take(end).skip(first) {
        *weight = cubic((i as f64 - center + 0.5) / stretch);
    }
    let total: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= total);
    weights
}

/// Keys's cubic (1981) with a = −0.5.
fn cubic(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        -0.5 * (((x - 5.0) * x + 8.0) * x - 4.0)
    } else {
        0.0
    }
}
