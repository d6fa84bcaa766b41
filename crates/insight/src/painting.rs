//! What gradient ascent turns: pixels, or the frequencies that a picture is made of.

use candle_core::{DType, Device, Result, Tensor};

/// How a picture is parametrised. Values are free; the sigmoid of what they say is the share of white.
///
/// Steps along the gradient of pixels make high frequencies fastest. Steps along the gradient of frequencies, each scaled
/// by what photos have of it, make all alike (Olah, Mordvintsev and Schubert, Feature visualization, 2017).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Painting {
    /// A value a pixel.
    Pixels,
    /// A value a frequency, a frequency f being scaled by f^−decay: 1 for photos.
    Fourier {
        /// The power.
        decay: f64,
    },
}

/// Axes of colour by how much photos vary along them (Ruderman, Cronin and Chiao 1998): light, blue against yellow, green
/// against magenta. Rows are red, green and blue.
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

/// Pictures of one size, as [`Painting`] says: from parameters to pictures and back.
#[derive(Debug, Clone)]
pub struct Canvas {
    painting: Painting,
    /// (H, H) and (W, W): columns are waves.
    waves: (Tensor, Tensor),
    /// (H, W): what each frequency's parameter is multiplied by.
    scale: Tensor,
}

impl Canvas {
    /// For pictures of `height` × `width`.
    pub fn new(
        painting: Painting,
        (height, width): (usize, usize),
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let decay = match painting {
            Painting::Pixels => 0.0,
            Painting::Fourier { decay } => decay,
        };
        // A mean counts as the lowest wave that fits.
        let lowest = 1.0 / height.max(width) as f64;
        let mut scale = Vec::with_capacity(height * width);
        for i in 0..height {
            for j in 0..width {
                let (down, across) = (frequency(i, height), frequency(j, width));
                scale.push(down.hypot(across).max(lowest).powf(-decay));
            }
        }
        // So that noise of the same strength gives pictures of the same contrast, whatever the decay.
        let power = scale.iter().map(|s| s * s).sum::<f64>() / scale.len() as f64;
        scale.iter_mut().for_each(|s| *s /= power.sqrt());
        let tensor = |values: Vec<f64>, shape| Tensor::from_vec(values, shape, device)?.to_dtype(dtype);
        Ok(Self {
            painting,
            waves: (tensor(waves(height), (height, height))?, tensor(waves(width), (width, width))?),
            scale: tensor(scale, (height, width))?,
        })
    }

    /// From parameters (B, C, H, W) to pictures (B, C, H, W) in 0..=1. Three channels are red, green and blue, and their
    /// parameters axes of colour.
    pub fn paint(&self, parameters: &Tensor) -> Result<Tensor> {
        let values = match self.painting {
            Painting::Pixels => parameters.clone(),
            Painting::Fourier { .. } => {
                let (down, across) = &self.waves;
                separable(&parameters.broadcast_mul(&self.scale)?, down, across)?
            }
        };
        sigmoid(&colored(&values)?)
    }

    /// The parameters of a picture (B, C, H, W) of values between 0 and 1, both excluded: what [`Canvas::paint`] undoes.
    pub fn parameters(&self, picture: &Tensor) -> Result<Tensor> {
        let logits = (picture.log()? - picture.affine(-1.0, 1.0)?.log()?)?;
        let values = uncolored(&logits)?;
        match self.painting {
            Painting::Pixels => Ok(values),
            Painting::Fourier { .. } => {
                let (down, across) = &self.waves;
                let spectrum = separable(&values, &down.t()?.contiguous()?, &across.t()?.contiguous()?)?;
                spectrum.broadcast_div(&self.scale)
            }
        }
    }
}

/// The waves of a real signal of n values, orthonormal, one a column: the mean, then cosine and sine of each frequency,
/// and the alternating one where n is even.
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

/// Cycles a pixel of the k-th wave of n.
fn frequency(k: usize, n: usize) -> f64 {
    k.div_ceil(2) as f64 / n as f64
}

/// `down` · x · `across`ᵀ for every channel.
pub(crate) fn separable(xs: &Tensor, down: &Tensor, across: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = xs.dims4()?;
    let (height, width) = (down.dim(0)?, across.dim(0)?);
    let rows = xs.reshape((b * c * h, w))?.matmul(&across.t()?)?;
    let columns = rows.reshape((b * c, h, width))?.transpose(1, 2)?.contiguous()?;
    let both = columns.reshape((b * c * width, h))?.matmul(&down.t()?)?;
    both.reshape((b * c, width, height))?.transpose(1, 2)?.contiguous()?.reshape((b, c, height, width))
}

/// From axes of colour to red, green and blue; other numbers of channels as they are.
fn colored(xs: &Tensor) -> Result<Tensor> {
    recolored(xs, &COLORS)
}

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

/// 1 / (1 + e^−x) of operations that all have gradients.
fn sigmoid(xs: &Tensor) -> Result<Tensor> {
    xs.affine(0.5, 0.0)?.tanh()?.affine(0.5, 0.5)
}
