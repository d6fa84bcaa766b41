//! The items of the CPU table: networks, batches, and how much work a step is.

use std::str::FromStr;

use anyhow::{Result, ensure};
use candle_core::{Device, ModuleT as _, Tensor};
use firstsight_models::{Dims, ImageClassifier, ModelKind, Params, Scheme};
use firstsight_train::{AdamEpsilon, Loss, Optimizer, OptimizerConfig, backward_step};
use serde::Serialize;

/// One row of the table. `benches/peers/steps.py` has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    A,
    B,
}

/// A step of an item.
type Step = Box<dyn FnMut() -> Result<()>>;

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Inference: logits of a batch.
    Forward,
    /// Forward, cross-entropy on logits, backward, Adam.
    Train,
}

impl Item {
    pub(crate) const ALL: [Self; 2] = [Self::A, Self::B];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }

    pub(crate) fn model(self) -> ModelKind {
        match self {
            Self::A => ModelKind::SmallCnn,
            Self::B => ModelKind::Logistic,
        }
    }

    pub(crate) fn batch(self) -> usize {
        128
    }

    /// The modes of the table.
    pub(crate) fn modes(self) -> &'static [Mode] {
        &[Mode::Train]
    }

    fn n_classes(self) -> usize {
        55
    }

    pub(crate) fn input(self) -> Dims {
        Dims::Map { channels: 1, height: 80, width: 60 }
    }

    fn network(self, seed: u64, device: &Device) -> Result<(ImageClassifier, Params)> {
        let params = Params::seeded(seed, device);
        let network =
            ImageClassifier::new(self.model(), self.input(), self.n_classes(), Scheme::PyTorch, &params)?;
        Ok((network, params))
    }

    /// A step to be run again and again, on one batch of noise; and the number of trainable parameters.
    pub(crate) fn step(self, mode: Mode, seed: u64, device: &Device) -> Result<(Step, usize)> {
        let (network, params) = self.network(seed, device)?;
        let n_params = params.trainable().iter().map(|var| var.elem_count()).sum();
        let mut dims = vec![self.batch()];
        match self.input() {
            Dims::Map { channels, height, width } => dims.extend([channels, height, width]),
            Dims::Features(n) => dims.push(n),
        }
        // The fractional parts of multiples of the golden ratio fill the bytes' range evenly.
        let byte = |i: usize| ((i as f64 * 0.618_033_988_749_895).fract() * 255.0) as f32;
        let images = Tensor::from_iter((0..dims.iter().product()).map(byte), device)?.reshape(dims)?;
        let labels = (0..self.batch()).map(|i| (i * 7 % self.n_classes()) as u32);
        let labels = Tensor::from_iter(labels, device)?;
        if mode == Mode::Forward {
            let step = move || {
                network.forward_t(&images, false)?;
                Ok(images.device().synchronize()?)
            };
            return Ok((Box::new(step), n_params));
        }
        let adam =
            OptimizerConfig::Adam { rate: 1e-4, beta1: 0.9, beta2: 0.999, epsilon: AdamEpsilon::Keras(1e-7) };
        let mut optimizer = Optimizer::new(adam, params.trainable())?;
        let step = move || {
            let logits = network.forward_t(&images, true)?;
            let loss = Loss::SparseCategoricalCrossEntropy.compute(&logits, &labels)?;
            backward_step(&loss, &mut optimizer)?;
            Ok(images.device().synchronize()?)
        };
        Ok((Box::new(step), n_params))
    }

    /// How much work a step is.
    pub(crate) fn work(self, mode: Mode) -> Result<Work> {
        let (network, params) = self.network(0, &Device::Cpu)?;
        Work::count(&network, &params, self.batch(), mode)
    }
}

impl FromStr for Item {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|item| item.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| format!("'{name}' is none of {}", known()))
    }
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Train => "train",
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::Forward, Self::Train]
            .into_iter()
            .find(|mode| mode.name() == name)
            .ok_or_else(|| format!("'{name}' is none of forward, train"))
    }
}

/// The arithmetic and the traffic of a step, counted from the network's layers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Work {
    /// Multiply-adds of convolutions and dense layers, directly computed, two operations each, in 10⁹. Training
    /// is three times the forward pass, less the first layer's gradient for the images, which nothing needs.
    pub(crate) gflop: f64,
    /// The least traffic with memory if each convolution or dense layer, with all that follows it up to the next,
    /// reads its input and writes its output once, in 10⁹ bytes. Training reads both again, and writes and reads a
    /// gradient for each; batch norm in training makes a layer of two; Adam reads and writes three values a parameter.
    pub(crate) gigabytes: f64,
}

impl Work {
    fn count(network: &ImageClassifier, params: &Params, batch: usize, mode: Mode) -> Result<Self> {
        let Passes { macs, first, maps } = Passes::count(network, params, mode)?;
        let n_params: usize = params.trainable().iter().map(|var| var.elem_count()).sum();
        let (inputs, maps, n_params) = (network.summary().input.count() as f64, maps as f64, n_params as f64);
        let batch = batch as f64;
        let (macs, values) = match mode {
            Mode::Forward => (macs, batch * (inputs + 2.0 * maps) + n_params),
            Mode::Train => (3 * macs - first, batch * (2.0 * inputs + 5.0 * maps) + 10.0 * n_params),
        };
        Ok(Self { gflop: 2.0 * batch * macs as f64 / 1e9, gigabytes: 4.0 * values / 1e9 })
    }
}

/// What one example costs in the forward pass.
struct Passes {
    /// Multiply-adds of all convolutions and dense layers.
    macs: usize,
    /// Those of the first of them.
    first: usize,
    /// Values of the maps between passes over memory.
    maps: usize,
}

impl Passes {
    fn count(network: &ImageClassifier, params: &Params, mode: Mode) -> Result<Self> {
        let summary = network.summary();
        let weights: Vec<(String, usize)> = params
            .named()
            .into_iter()
            .filter(|(_, var)| var.rank() >= 2)
            .map(|(name, var)| (name, var.elem_count()))
            .collect();
        let (mut macs, mut first, mut maps, mut counted) = (0, 0, 0, 0);
        let mut previous: Option<Dims> = None;
        for row in &summary.rows {
            let own = |name: &str| name.strip_prefix(&row.name).is_some_and(|rest| rest.starts_with('.'));
            let weight: usize = weights.iter().filter(|(name, _)| own(name)).map(|(_, n)| n).sum();
            let pixels = match row.output {
                Dims::Map { height, width, .. } => height * width,
                Dims::Features(_) => 1,
            };
            counted += weight;
            macs += weight * pixels;
            first = if first == 0 { macs } else { first };
            let starts_a_pass = weight > 0 || (mode == Mode::Train && row.kind == "BatchNormalization");
            if starts_a_pass && macs > first {
                maps += previous.map_or(0, Dims::count);
            }
            previous = Some(row.output);
        }
        let all: usize = weights.iter().map(|(_, n)| n).sum();
        ensure!(counted == all, "{}'s layers hold {counted} weights, expected {all}", summary.model);
        Ok(Self { macs, first, maps })
    }
}

#[cfg(test)]
mod tests {
    use super::{Item, Mode};

    /// By hand: 80·60·9·16 + 40·30·16·9·32 + 20·15·32·9·64 + 960·64 + 64·55 multiply-adds an image.
    #[test]
    fn the_small_network_s_arithmetic_is_counted() {
        let macs = 691_200 + 5_529_600 + 5_529_600 + 61_440 + 3_520;
        let work = Item::A.work(Mode::Forward).unwrap();
        assert_eq!(work.gflop, 2.0 * 128.0 * f64::from(macs) / 1e9);
        let training = Item::A.work(Mode::Train).unwrap();
        assert_eq!(training.gflop, 2.0 * 128.0 * f64::from(3 * macs - 691_200) / 1e9);
        // The maps between: after each pool, and after the first dense layer.
        let maps = 16 * 40 * 30 + 32 * 20 * 15 + 960 + 64;
        let values = 128.0 * f64::from(4800 + 2 * maps) + 88_375.0;
        assert_eq!(work.gigabytes, 4.0 * values / 1e9);
    }
}
