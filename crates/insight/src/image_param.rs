//! Images as functions of parameters: pixels, or frequencies.

use candle_core::{DType, Device, Result, Tensor};

/// The parameters of an image. They are unbounded; a sigmoid maps what they make to 0..=1.
///
/// Gradient steps on pixels favor high frequencies. Steps on frequencies, each scaled by its strength in photos, favor
/// none (Olah, Mordvintsev and Schubert, Feature visualization, 2017).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Parametrization {
    /// One parameter per pixel and channel.
    Pixels,
    /// One parameter per frequency and channel, scaled by f^−decay for frequency f.
    Fourier {
        /// The power by which frequencies fall off: 1 for photos.
        decay: f64,
    },
}

/// Color axes scaled by the variation of photos along them (Ruderman, Cronin and Chiao 1998): lightness, blue against
/// yellow, green against magenta. Rows are red, green and blue.
const COLORS: [[f64; 3]; 3] = {
    const LIGHT: f64 = 0.577_350_269_189_625_8;
    const BLUE_YELLOW: f64 = 0.35 * std::f64::consts::FRAC_1_SQRT_2;
    const GREEN_MAGENTA: f64 = 0.2 * 0.408_248_290_463_863;
    [
        [LIGHT, BLUE_YELLOW, GREEN_MAGENTA],
        [LIGHT, 0.0, -2.0 * GREEN_MAGENTA],
        [LIGHT, -BLUE_YELLOW, GREEN_MAGENTA],
    ]
};

/// The map between parameters and images of one size.
#[derive(Debug, Clone)]
pub struct ImageParam {
    parametrization: Parametrization,
    /// (H, H) and (W, W), one wave per column.
    waves: (Tensor, Tensor),
    /// Factor of each frequency's parameter, (H, W).
    scale: Tensor,
}

impl ImageParam {
    /// The map for images of `height` × `width`.
    pub fn new(
        parametrization: Parametrization,
        (height, width): (usize, usize),
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let decay = match parametrization {
            Parametrization::Pixels => 0.0,
            Parametrization::Fourier { decay } => decay,
        };
        // The mean is scaled as the lowest frequency that fits.
        let lowest = 1.0 / height.max(width) as f64;
        let mut scale = Vec::with_capacity(height * width);
        for i in 0..height {
            for j in 0..width {
                let (down, across) = (frequency(i, height), frequency(j, width));
                scale.push(down.hypot(across).max(lowest).powf(-decay));
            }
        }
        // Noise of the same strength gives images of the same contrast, whatever the decay.
        let power = scale.iter().map(|s| s * s).sum::<f64>() / scale.len() as f64;
        scale.iter_mut().for_each(|s| *s /= power.sqrt());
        let tensor = |values: Vec<f64>, shape| Tensor::from_vec(values, shape, device)?.to_dtype(dtype);
        Ok(Self {
            parametrization,
            waves: (tensor(waves(height), (height, height))?, tensor(waves(width), (width, width))?),
            scale: tensor(scale, (height, width))?,
        })
    }

    /// The images (B, C, H, W) of parameters (B, C, H, W), with values in 0..=1. The parameters of three channels are along
    /// color axes, and the image's channels red, green and blue.
    pub fn image(&self, parameters: &Tensor) -> Result<Tensor> {
        let values = match self.parametrization {
            Parametrization::Pixels => parameters.clone(),
            Parametrization::Fourier { .. } => {
                let (down, across) = &self.waves;
                separable(&parameters.broadcast_mul(&self.scale)?, down, across)?
            }
        };
        sigmoid(&colored(&values)?)
    }

    /// The parameters of images (B, C, H, W) with values in (0, 1): the inverse of [`ImageParam::image`].
    pub fn parameters(&self, images: &Tensor) -> Result<Tensor> {
        let logits = (images.log()? - images.affine(-1.0, 1.0)?.log()?)?;
        let values = uncolored(&logits)?;
        match self.parametrization {
            Parametrization::Pixels => Ok(values),
            Parametrization::Fourier { .. } => {
                let (down, across) = &self.waves;
                let spectrum = separable(&values, &down.t()?.contiguous()?, &across.t()?.contiguous()?)?;
                spectrum.broadcast_div(&self.scale)
            }
        }
    }
}

/// The orthonormal waves of a real signal of n values, one per column: the mean, then cosine and sine of each frequency;
/// for even n the alternating wave last.
fn waves(n: usize) -> Vec<f64> {
    let length = n as f64;
    let mut matrix = Vec::with_capacity(n * n);
    for i in 0..n {
        for k in 0..n {
            let cycles = k.div_ceil(2);
            let angle = std::f64::consts::TAU * (cycles * i) as f64 / length;
            let single = cycles == 0 || 2 * cycles == n;
            let norm = if single { length.recip().sqrt() } else { (2.0 / length).sqrt() };
            matrix.push(norm * if k % 2 == 1 || k == 0 { angle.cos() } else { angle.sin() });
        }
    }
    matrix
}

/// The k-th of n waves in cycles per pixel.
fn frequency(k: usize, n: usize) -> f64 {
    k.div_ceil(2) as f64 / n as f64
}

/// `down` · x · `across`ᵀ of every channel x.
pub(crate) fn separable(xs: &Tensor, down: &Tensor, across: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = xs.dims4()?;
    let (height, width) = (down.dim(0)?, across.dim(0)?);
    let rows = xs.reshape((b * c * h, w))?.matmul(&across.t()?)?;
    let columns = rows.reshape((b * c, h, width))?.transpose(1, 2)?.contiguous()?;
    let both = columns.reshape((b * c * width, h))?.matmul(&down.t()?)?;
    both.reshape((b * c, width, height))?.transpose(1, 2)?.contiguous()?.reshape((b, c, height, width))
}

/// Color axes to red, green and blue; other numbers of channels are unchanged.
fn colored(xs: &Tensor) -> Result<Tensor> {
    recolored(xs, &COLORS)
}

/// The inverse of [`colored`].
fn uncolored(xs: &Tensor) -> Result<Tensor> {
    // The axes are orthogonal: the inverse is the transpose over their squared lengths.
    let mut inverse = [[0.0; 3]; 3];
    for axis in 0..3 {
        let squared: f64 = COLORS.iter().map(|row| row[axis] * row[axis]).sum();
        for (channel, row) in COLORS.iter().enumerate() {
            inverse[axis][channel] = row[axis] / squared;
        }
    }
    recolored(xs, &inverse)
}

fn recolored(xs: &Tensor, matrix: &[[f64; 3]; 3]) -> Result<Tensor> {
    let (b, c, h, w) = xs.dims4()?;
    if c != 3 {
        return Ok(xs.clone());
    }
    let matrix = Tensor::new(matrix, xs.device())?.to_dtype(xs.dtype())?;
    let pixels = xs.reshape((b, 3, h * w))?;
    matrix.unsqueeze(0)?.broadcast_as((b, 3, 3))?.contiguous()?.matmul(&pixels)?.reshape((b, 3, h, w))
}

/// 1 / (1 + e^−x), from operations with gradients.
fn sigmoid(xs: &Tensor) -> Result<Tensor> {
    xs.affine(0.5, 0.0)?.tanh()?.affine(0.5, 0.5)
}
