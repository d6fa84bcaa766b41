//! Gradient ascent on the input.

use candle_core::{DType, Device, Tensor, Var};
use firstsight_models::{ImageClassifier, NamedLayer};
use firstsight_train::{Optimizer, OptimizerConfig, backward_step};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use rand_distr::{Distribution as _, StandardNormal};

use crate::probe::{place, run};
use crate::{Canvas, Error, Painting, Result, Wobble, total_variation};

/// How a picture is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Ascent {
    /// Steps of Adam.
    pub steps: usize,
    /// Its rate.
    pub rate: f64,
    /// What it turns.
    pub painting: Painting,
    /// How far the picture is shifted before each step, at most, in pixels.
    pub jitter: f64,
    /// How much larger it is made before each step, at least and at most.
    pub zoom: (f64, f64),
    /// How much total variation is worth, against the mean activation.
    pub total_variation: f64,
    /// The standard deviation of the noise that it starts from, before the sigmoid: enough for channels to answer somewhere,
    /// since a silent one has no gradient to follow.
    pub noise: f64,
    /// Of the noise that it starts from and of the jitter.
    pub seed: u64,
}

/// The pictures' size, and how their values in 0..=1 become the network's input: (x − mean) / std.
#[derive(Debug, Clone)]
pub struct Pixels {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Of each channel.
    pub mean: Vec<f32>,
    /// Of each channel.
    pub std: Vec<f32>,
    /// Where the network is.
    pub device: Device,
}

/// What excites a channel.
#[derive(Debug, Clone)]
pub struct Vision {
    /// The channel.
    pub channel: usize,
    /// (C, H, W), values in 0..=1.
    pub picture: Tensor,
    /// The channel's mean activation for the noise at the start.
    pub start: f64,
    /// The same for the picture.
    pub reached: f64,
}

/// Draws, for each of `channels` of the layer called `layer`, a picture that raises the channel's mean over all places as
/// far as the steps go. The pictures are independent of each other; they go through the network together.
///
/// `go_on` is told of each step and of their number, and may end the ascent; the pictures are then as far as they came.
///
/// # Errors
/// [`Error::UnknownLayer`] lists the layers, [`Error::Channel`] states the range, [`Error::Setting`].
pub fn ascend(
    network: &ImageClassifier,
    pixels: &Pixels,
    layer: &str,
    channels: &[usize],
    settings: &Ascent,
    go_on: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Vec<Vision>> {
    settings.check()?;
    let mut stages = network.named_layers();
    stages.truncate(place(&stages, layer)? + 1);
    if channels.is_empty() {
        return Ok(Vec::new());
    }
    let n_colors = pixels.mean.len();
    let &Pixels { height, width, ref device, .. } = pixels;
    let canvas = Canvas::new(settings.painting, (height, width), DType::F32, device)?;
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    let noise = noise(&mut rng, settings.noise, n_colors * height * width);
    // Each picture starts from the same noise, so that it doesn't depend on what is drawn beside it.
    let noise = Tensor::from_vec(noise, (1, n_colors, height, width), device)?;
    let parameters = Var::from_tensor(&noise.repeat((channels.len(), 1, 1, 1))?)?;

    let climb = Climb { stages, layer, channels, pixels };
    let start = climb.height(&canvas.paint(parameters.as_tensor())?)?.to_vec1::<f32>()?;
    let adam = OptimizerConfig::adam_torch(settings.rate);
    let mut optimizer = Optimizer::new(adam, vec![parameters.clone()])?;
    for step in 0..settings.steps {
        if !go_on(step, settings.steps) {
            break;
        }
        let picture = canvas.paint(parameters.as_tensor())?;
        let seen = settings.wobble(&mut rng).apply(&picture)?;
        let mut loss = climb.height(&seen)?.neg()?;
        if settings.total_variation > 0.0 {
            loss = (loss + (total_variation(&picture)? * settings.total_variation)?)?;
        }
        backward_step(&loss.sum_all()?, &mut optimizer)?;
    }
    let pictures = canvas.paint(parameters.as_tensor())?.detach();
    let reached = climb.height(&pictures)?.to_vec1::<f32>()?;
    let vision = |(i, &channel): (usize, &usize)| -> Result<Vision> {
        let (start, reached) = (f64::from(start[i]), f64::from(reached[i]));
        Ok(Vision { channel, picture: pictures.get(i)?, start, reached })
    };
    channels.iter().enumerate().map(vision).collect()
}

/// What is climbed.
struct Climb<'a> {
    /// Up to the layer.
    stages: Vec<NamedLayer<'a>>,
    layer: &'a str,
    channels: &'a [usize],
    pixels: &'a Pixels,
}

impl Climb<'_> {
    /// The mean activation of the i-th channel for the i-th picture, (B,).
    fn height(&self, pictures: &Tensor) -> Result<Tensor> {
        let Pixels { mean, std, .. } = self.pixels;
        let per_channel = |values: &[f32]| {
            Tensor::new(values, pictures.device())?
                .reshape((1, values.len(), 1, 1))?
                .to_dtype(pictures.dtype())
        };
        let input = pictures.broadcast_sub(&per_channel(mean)?)?.broadcast_div(&per_channel(std)?)?;
        let output = run(&self.stages, &input)?;
        let n_channels = output.dim(1)?;
        if let Some(&channel) = self.channels.iter().find(|&&channel| channel >= n_channels) {
            return Err(Error::Channel { layer: self.layer.to_owned(), channel, n_channels });
        }
        let means = if output.rank() > 2 { output.flatten_from(2)?.mean(2)? } else { output };
        let chosen: Vec<u32> = self.channels.iter().map(|&channel| channel as u32).collect();
        let chosen = Tensor::from_vec(chosen, (self.channels.len(), 1), means.device())?;
        Ok(means.contiguous()?.gather(&chosen, 1)?.squeeze(1)?)
    }
}

impl Ascent {
    fn check(&self) -> Result<()> {
        let refuse = |setting, expected, found: String| Err(Error::Setting { setting, expected, found });
        if !(self.rate > 0.0 && self.rate.is_finite()) {
            return refuse("rate", "a number above 0", self.rate.to_string());
        }
        let (least, most) = self.zoom;
        if !(least > 0.0 && least <= most && most.is_finite()) {
            return refuse(
                "zoom",
                "two numbers above 0, the first at most the second",
                format!("{:?}", self.zoom),
            );
        }
        if !(self.jitter >= 0.0 && self.jitter.is_finite()) {
            return refuse("jitter", "a number of at least 0", self.jitter.to_string());
        }
        if !(self.total_variation >= 0.0 && self.total_variation.is_finite()) {
            return refuse("total_variation", "a number of at least 0", self.total_variation.to_string());
        }
        if !(self.noise > 0.0 && self.noise.is_finite()) {
            return refuse("noise", "a number above 0", self.noise.to_string());
        }
        Ok(())
    }

    fn wobble(&self, rng: &mut ChaCha8Rng) -> Wobble {
        let mut between = |least: f64, most: f64| {
            let share = f64::from(rng.next_u32()) / f64::from(u32::MAX);
            least + share * (most - least)
        };
        Wobble {
            shift: (between(-self.jitter, self.jitter), between(-self.jitter, self.jitter)),
            zoom: between(self.zoom.0, self.zoom.1),
        }
    }
}

fn noise(rng: &mut ChaCha8Rng, strength: f64, n: usize) -> Vec<f32> {
    let mut draw = || {
        let value: f64 = StandardNormal.sample(rng);
        (strength * value) as f32
    };
    (0..n).map(|_| draw()).collect()
}
