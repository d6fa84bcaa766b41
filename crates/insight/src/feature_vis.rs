//! Feature visualization: gradient ascent on the input.

use candle_core::{DType, Device, Tensor, Var};
use firstsight_models::{ImageClassifier, NamedLayer};
use firstsight_train::{Optimizer, OptimizerConfig, backward_step};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use rand_distr::{Distribution as _, StandardNormal};

use crate::layers::{maps, position, run};
use crate::{Error, ImageParam, Parametrization, Result, ShiftZoom, total_variation};

/// The settings of a feature visualization.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureVisConfig {
    /// Number of steps.
    pub steps: usize,
    /// Learning rate of Adam.
    pub lr: f64,
    /// The parameters that the steps change.
    pub parametrization: Parametrization,
    /// Largest random shift of the image before each step, in pixels.
    pub jitter: f64,
    /// Least and largest random zoom of the image before each step.
    pub zoom: (f64, f64),
    /// Weight of the total variation, against the mean activation.
    pub total_variation: f64,
    /// Standard deviation of the initial noise, before the sigmoid. It must make the channel respond somewhere, since
    /// a silent one has no gradient to follow.
    pub noise: f64,
    /// Seed of the initial noise, the shifts and the zooms.
    pub seed: u64,
}

/// Size of the images, and how their values in 0..=1 become the network's input: (x − mean) / std.
#[derive(Debug, Clone)]
pub struct InputFormat {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel.
    pub std: Vec<f32>,
    /// Device of the network.
    pub device: Device,
}

/// An image that excites a channel.
#[derive(Debug, Clone)]
pub struct FeatureVis {
    /// The channel.
    pub channel: usize,
    /// The image (C, H, W), with values in 0..=1.
    pub image: Tensor,
    /// The channel's mean activation for the initial noise.
    pub initial_activation: f64,
    /// The channel's mean activation for the image.
    pub activation: f64,
}

/// Makes, for each of `channels` of the layer called `layer`, an image that maximizes the channel's mean activation.
///
/// The images do not depend on each other; they go through the network together. `progress` is called before each step
/// with the step, from 0, and the number of steps; if it returns `false`, the images stay as they are.
///
/// # Errors
///
/// [`Error::UnknownLayer`] lists the layers, [`Error::Channel`] states the range, [`Error::Setting`] the setting.
pub fn visualize_features(
    network: &ImageClassifier,
    input: &InputFormat,
    layer: &str,
    channels: &[usize],
    config: &FeatureVisConfig,
    progress: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Vec<FeatureVis>> {
    config.check()?;
    let mut stages = network.named_layers();
    stages.truncate(position(&stages, layer)? + 1);
    if channels.is_empty() {
        return Ok(Vec::new());
    }
    let n_colors = input.mean.len();
    let &InputFormat { height, width, ref device, .. } = input;
    let param = ImageParam::new(config.parametrization, (height, width), DType::F32, device)?;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let noise = noise(&mut rng, config.noise, n_colors * height * width);
    // All images start from the same noise, so that each is independent of the others.
    let noise = Tensor::from_vec(noise, (1, n_colors, height, width), device)?;
    let parameters = Var::from_tensor(&noise.repeat((channels.len(), 1, 1, 1))?)?;

    let objective = Objective { network, stages, layer, channels, input };
    let initial = objective.activations(&param.image(parameters.as_tensor())?)?.to_vec1::<f32>()?;
    let mut optimizer = Optimizer::new(OptimizerConfig::adam_torch(config.lr), vec![parameters.clone()])?;
    for step in 0..config.steps {
        if !progress(step, config.steps) {
            break;
        }
        let images = param.image(parameters.as_tensor())?;
        let transformed = config.random_transform(&mut rng).apply(&images)?;
        let mut loss = objective.activations(&transformed)?.neg()?;
        if config.total_variation > 0.0 {
            loss = (loss + (total_variation(&images)? * config.total_variation)?)?;
        }
        backward_step(&loss.sum_all()?, &mut optimizer)?;
    }
    let images = param.image(parameters.as_tensor())?.detach();
    let reached = objective.activations(&images)?.to_vec1::<f32>()?;
    let result = |(i, &channel): (usize, &usize)| -> Result<FeatureVis> {
        let (initial_activation, activation) = (f64::from(initial[i]), f64::from(reached[i]));
        Ok(FeatureVis { channel, image: images.get(i)?, initial_activation, activation })
    };
    channels.iter().enumerate().map(result).collect()
}

/// The mean activations to maximize.
struct Objective<'a> {
    network: &'a ImageClassifier,
    /// The layers up to the one that is visualized.
    stages: Vec<NamedLayer<'a>>,
    layer: &'a str,
    channels: &'a [usize],
    input: &'a InputFormat,
}

impl Objective<'_> {
    /// The mean activation of the i-th channel for the i-th image, (B,).
    fn activations(&self, images: &Tensor) -> Result<Tensor> {
        let InputFormat { mean, std, .. } = self.input;
        let per_channel = |values: &[f32]| {
            Tensor::new(values, images.device())?.reshape((1, values.len(), 1, 1))?.to_dtype(images.dtype())
        };
        let input = images.broadcast_sub(&per_channel(mean)?)?.broadcast_div(&per_channel(std)?)?;
        let output = maps(self.network, &run(&self.stages, &input)?)?;
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

impl FeatureVisConfig {
    fn check(&self) -> Result<()> {
        let check = |setting, is_valid: bool, expected, found: String| match is_valid {
            true => Ok(()),
            false => Err(Error::Setting { setting, expected, found }),
        };
        let positive = |setting, value: f64| {
            check(setting, value > 0.0 && value.is_finite(), "a number above 0", value.to_string())
        };
        let not_negative = |setting, value: f64| {
            check(setting, value >= 0.0 && value.is_finite(), "a number of at least 0", value.to_string())
        };
        positive("lr", self.lr)?;
        let (least, largest) = self.zoom;
        check(
            "zoom",
            least > 0.0 && least <= largest && largest.is_finite(),
            "two numbers above 0, the first at most the second",
            format!("{:?}", self.zoom),
        )?;
        not_negative("jitter", self.jitter)?;
        not_negative("total_variation", self.total_variation)?;
        positive("noise", self.noise)
    }

    fn random_transform(&self, rng: &mut ChaCha8Rng) -> ShiftZoom {
        let mut between = |least: f64, largest: f64| {
            let share = f64::from(rng.next_u32()) / f64::from(u32::MAX);
            least + share * (largest - least)
        };
        ShiftZoom {
            shift: (between(-self.jitter, self.jitter), between(-self.jitter, self.jitter)),
            zoom: between(self.zoom.0, self.zoom.1),
        }
    }
}

/// `n` normal draws of the given standard deviation.
fn noise(rng: &mut ChaCha8Rng, std: f64, n: usize) -> Vec<f32> {
    let mut draw = || {
        let value: f64 = StandardNormal.sample(rng);
        (std * value) as f32
    };
    (0..n).map(|_| draw()).collect()
}
