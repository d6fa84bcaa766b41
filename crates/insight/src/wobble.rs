use candle_core::{Result, Tensor};

use crate::painting::separable;

/// A shift and a change of size, as one linear map: what gradient ascent does to the picture before each step, so that it
/// draws what excites a channel wherever it lies and however large it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wobble {
    /// Pixels down and to the right.
    pub shift: (f64, f64),
    /// How much larger.
    pub zoom: f64,
}

impl Wobble {
    /// Moves pictures (B, C, H, W), which keep their size. Pixels are read by bilinear interpolation; what comes in from
    /// outside is the edge, going on.
    pub fn apply(&self, xs: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = xs.dims4()?;
        let axis = |n: usize, shift: f64| {
            Tensor::from_vec(reads(n, shift, self.zoom), (n, n), xs.device())?.to_dtype(xs.dtype())
        };
        separable(xs, &axis(height, self.shift.0)?, &axis(width, self.shift.1)?)
    }
}

/// The n × n weights with which each pixel of a moved line reads the line's pixels.
fn reads(n: usize, shift: f64, zoom: f64) -> Vec<f64> {
    let centre = (n as f64 - 1.0) / 2.0;
    let mut weights = vec![0.0; n * n];
    for i in 0..n {
        let place = ((i as f64 - shift - centre) / zoom + centre).clamp(0.0, n as f64 - 1.0);
        let (left, share) = (place.floor() as usize, place.fract());
        weights[i * n + left] += 1.0 - share;
        weights[i * n + (left + 1).min(n - 1)] += share;
    }
    weights
}
