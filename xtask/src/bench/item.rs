//! The items of the CPU table: networks, batches, and how much work a step is.

use std::str::FromStr;

use anyhow::Result;
use candle_core::{Device, ModuleT as _, Tensor};
use firstsight_models::{Dims, ImageClassifier, ModelKind, Params, Scheme, Summary};
use firstsight_train::{AdamEpsilon, Loss, Optimizer, OptimizerConfig, backward_step};
use serde::Serialize;

/// One row of the table. `benches/peers/steps.py` has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    A,
    B,
    C,
    D,
    E,
    F,
}

/// What an item is.
#[derive(Debug, Clone, Copy)]
struct Spec {
    name: &'static str,
    model: ModelKind,
    batch: usize,
    /// (channels, height, width)
    input: (usize, usize, usize),
    n_classes: usize,
    /// What the table has of it.
    modes: &'static [Mode],
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

const TRAIN: &[Mode] = &[Mode::Train];
const BOTH: &[Mode] = &[Mode::Forward, Mode::Train];

impl Item {
    pub(crate) const ALL: [Self; 6] = [Self::A, Self::B, Self::C, Self::D, Self::E, Self::F];

    fn spec(self) -> Spec {
        let spec = |name, model, batch, input, n_classes, modes| Spec {
            name,
            model,
            batch,
            input,
            n_classes,
            modes,
        };
        match self {
            Self::A => spec("A", ModelKind::SmallCnn, 128, (1, 80, 60), 55, TRAIN),
            Self::B => spec("B", ModelKind::Logistic, 128, (1, 80, 60), 55, TRAIN),
            Self::C => spec("C", ModelKind::LeNet5, 128, (1, 32, 32), 10, TRAIN),
            Self::D => spec("D", ModelKind::AlexNet, 16, (3, 227, 227), 1000, BOTH),
            Self::E => spec("E", ModelKind::MobileNetV2, 16, (3, 224, 224), 1000, BOTH),
            Self::F => spec("F", ModelKind::Xception, 16, (3, 150, 150), 1000, BOTH),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.spec().name
    }

    pub(crate) fn model(self) -> ModelKind {
        self.spec().model
    }

    pub(crate) fn batch(self) -> usize {
        self.spec().batch
    }

    /// The modes of the table.
    pub(crate) fn modes(self) -> &'static [Mode] {
        self.spec().modes
    }

    fn network(self, params: &Params) -> Result<ImageClassifier> {
        let Spec { model, input: (channels, height, width), n_classes, .. } = self.spec();
        let input = Dims::Map { channels, height, width };
        Ok(ImageClassifier::new(model, input, n_classes, Scheme::PyTorch, params)?)
    }

    /// A step to be run again and again, on one batch of noise; and the number of trainable parameters.
    pub(crate) fn step(self, mode: Mode, seed: u64, device: &Device) -> Result<(Step, usize)> {
        let Spec { batch, input: (channels, height, width), n_classes, .. } = self.spec();
        let params = Params::seeded(seed, device);
        let network = self.network(&params)?;
        let n_params = params.trainable().iter().map(|var| var.elem_count()).sum();
        let dims = [batch, channels, height, width];
        // The fractional parts of multiples of the golden ratio fill the bytes' range evenly.
        let byte = |i: usize| ((i as f64 * 0.618_033_988_749_895).fract() * 255.0) as f32;
        let images = Tensor::from_iter((0..dims.iter().product()).map(byte), device)?.reshape(&dims)?;
        let labels = (0..batch).map(|i| (i * 7 % n_classes) as u32);
        let labels = Tensor::from_iter(labels, device)?;
        if mode == Mode::Forward {
            let network = self.network(&params.freezing(|_| true))?;
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
        let params = Params::seeded(0, &Device::Cpu);
        let summary = self.network(&params)?.summary();
        Ok(Work::count(&summary, self.batch(), mode))
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
    fn count(summary: &Summary, batch: usize, mode: Mode) -> Self {
        let (mut macs, mut first, mut maps) = (0, 0, 0);
        let mut previous = 0;
        for row in &summary.rows {
            macs += row.multiply_adds;
            first = if first == 0 { macs } else { first };
            let by_batch = mode == Mode::Train && row.kind == "BatchNormalization";
            let starts_a_pass = row.multiply_adds > 0 || by_batch;
            if starts_a_pass && macs > first {
                maps += previous;
            }
            previous = row.output.count();
        }
        let (inputs, maps) = (summary.input.count() as f64, maps as f64);
        let (batch, n_params) = (batch as f64, summary.total_params() as f64);
        let (macs, values) = match mode {
            Mode::Forward => (macs, batch * (inputs + 2.0 * maps) + n_params),
            Mode::Train => (3 * macs - first, batch * (2.0 * inputs + 5.0 * maps) + 10.0 * n_params),
        };
        Self { gflop: 2.0 * batch * macs as f64 / 1e9, gigabytes: 4.0 * values / 1e9 }
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

    /// The papers' and timm's counts: 0.30 to 0.31 billion multiply-adds for MobileNetV2, 1.1 for AlexNet in one tower.
    #[test]
    fn larger_networks_arithmetic_is_as_published() {
        let macs = |item: Item| item.work(Mode::Forward).unwrap().gflop / 2.0 / item.batch() as f64;
        assert!((0.299..0.316).contains(&macs(Item::E)), "{}", macs(Item::E));
        assert!((1.10..1.15).contains(&macs(Item::D)), "{}", macs(Item::D));
    }
}
