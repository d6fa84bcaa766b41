//! Shifts and zooms with gradients.

use candle_core::{Result, Tensor};

use crate::image_param::separable;

/// A shift and a zoom of images, as one linear map.
///
/// [`visualize_features`](crate::visualize_features) applies a random one before each step, so that the image excites the
/// channel at any position and scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShiftZoom {
    /// Pixels down and to the right.
    pub shift: (f64, f64),
    /// Magnification about the center.
    pub zoom: f64,
}

impl ShiftZoom {
    /// Applies the transform to images (B, C, H, W), which keep their size, with bilinear interpolation. Pixels from
    /// outside repeat the edge.
    pub fn apply(&self, xs: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = xs.dims4()?;
        let axis = |n: usize, shift: f64| {
            Tensor::from_vec(weights(n, shift, self.zoom), (n, n), xs.device())?.to_dtype(xs.dtype())
        };
        separable(xs, &axis(height, self.shift.0)?, &axis(width, self.shift.1)?)
    }
}

/// The n × n weights by which each pixel of a transformed line is made of the line's pixels.
fn weights(n: usize, shift: f64, zoom: f64) -> Vec<f64> {
    let center = (n as f64 - 1.0) / 2.0;
    let mut weights = vec![0.0; n * n];
    for i in 0..n {
        let source = ((i as f64 - shift - center) / zoom + center).clamp(0.0, n as f64 - 1.0);
        let (left, share) = (source.floor() as usize, source.fract());
        weights[i * n + left] += 1.0 - share;
        weights[i * n + (left + 1).min(n - 1)] += share;
    }
    weights
}
