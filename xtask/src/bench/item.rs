//! The items of the CPU table: networks, batches, and how much work a step is.

use std::str::FromStr;

use anyhow::{Context as _, Result};
use candle_core::{Device, Module, ModuleT as _, Tensor};
use firstsight_models::{ImageClassifier, Init, InputShape, Params, Summary, registry};
use firstsight_train::{
    CrossEntropy, Inference, Loss as _, Optimizer, OptimizerConfig, PackedWeights, backward_step,
};
use firstsight_transfer::{FineTuneConfig, FineTuner, Frozen, Preset};
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
    G,
    H,
    I,
    J,
}

/// Definition of an item.
#[derive(Debug, Clone, Copy)]
struct Spec {
    name: &'static str,
    /// Name in the registry.
    model: &'static str,
    batch: usize,
    /// (channels, height, width)
    input: (usize, usize, usize),
    n_classes: usize,
    /// Modes listed in the table.
    modes: &'static [Mode],
}

/// A step of an item.
type Step = Box<dyn FnMut() -> Result<()>>;

/// The timed work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Inference: logits of a batch.
    Forward,
    /// Forward, cross-entropy on logits, backward, Adam.
    Train,
    /// Inference of a frozen backbone: features of a batch.
    Features,
    /// As `train` with the lower blocks frozen as the standard preset has it, batch norm keeping its statistics, AdamW.
    FineTune,
}

const TRAIN: &[Mode] = &[Mode::Train];
const BOTH: &[Mode] = &[Mode::Forward, Mode::Train];
const ALL: &[Mode] = &[Mode::Forward, Mode::Train, Mode::Features, Mode::FineTune];

impl Item {
    pub(crate) const ALL: [Self; 10] =
        [Self::A, Self::B, Self::C, Self::D, Self::E, Self::F, Self::G, Self::H, Self::I, Self::J];

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
            Self::A => spec("A", "small-cnn", 128, (1, 80, 60), 55, TRAIN),
            Self::B => spec("B", "logistic", 128, (1, 80, 60), 55, TRAIN),
            Self::C => spec("C", "lenet5", 128, (1, 32, 32), 10, TRAIN),
            Self::D => spec("D", "alexnet", 16, (3, 227, 227), 1000, BOTH),
            Self::E => spec("E", "mobilenet-v2", 16, (3, 224, 224), 1000, ALL),
            Self::F => spec("F", "xception", 16, (3, 150, 150), 1000, BOTH),
            Self::G => spec("G", "resnet50", 16, (3, 224, 224), 1000, BOTH),
            Self::H => spec("H", "efficientnet_b0", 16, (3, 224, 224), 1000, BOTH),
            Self::I => spec("I", "convnext_tiny", 16, (3, 224, 224), 1000, BOTH),
            Self::J => spec("J", "vit_small_patch16_224", 16, (3, 224, 224), 1000, BOTH),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.spec().name
    }

    /// The network's name in the registry.
    pub(crate) fn model(self) -> &'static str {
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
        let input = InputShape::Map { channels, height, width };
        Ok(ImageClassifier::new(registry::find(model)?, input, n_classes, Init::PyTorch, params)?)
    }

    /// A step to be run again and again, on one batch of noise; and the number of trainable parameters.
    pub(crate) fn step(self, mode: Mode, batch: usize, seed: u64, device: &Device) -> Result<(Step, usize)> {
        let Spec { input: (channels, height, width), n_classes, .. } = self.spec();
        let params = Params::seeded(seed, device);
        let network = self.network(&params)?;
        let n_params = params.trainable().iter().map(|var| var.elem_count()).sum();
        let dims = [batch, channels, height, width];
        // The fractional parts of multiples of the golden ratio fill the bytes' range evenly.
        let byte = |i: usize| ((i as f64 * 0.618_033_988_749_895).fract() * 255.0) as f32;
        let images = Tensor::from_iter((0..dims.iter().product()).map(byte), device)?.reshape(&dims)?;
        let labels = (0..batch).map(|i| (i * 7 % n_classes) as u32);
        let labels = Tensor::from_iter(labels, device)?;
        if matches!(mode, Mode::Forward | Mode::Features) {
            let packed = PackedWeights::default();
            let step = move || {
                match mode {
                    Mode::Features => Inference::in_pool(network.backbone(), &packed).forward(&images)?,
                    _ => Inference::in_pool(&network, &packed).forward(&images)?,
                };
                Ok(images.device().synchronize()?)
            };
            return Ok((Box::new(step), n_params));
        }
        if mode == Mode::FineTune {
            let config = fine_tuning(&network)?;
            let tuner = FineTuner::new(&network, &config)?;
            let (n_trained, _) = tuner.counts();
            let mut optimizer = tuner.optimizer(&config)?;
            let network = Frozen(tuner.network);
            let step = move || {
                let loss = config.loss.compute(&network.forward_t(&images, true)?, &labels)?;
                backward_step(&loss, &mut optimizer)?;
                Ok(images.device().synchronize()?)
            };
            return Ok((Box::new(step), n_trained));
        }
        let mut optimizer = Optimizer::new(OptimizerConfig::adam_keras(1e-4), params.trainable())?;
        let step = move || {
            let logits = network.forward_t(&images, true)?;
            let loss = CrossEntropy.compute(&logits, &labels)?;
            backward_step(&loss, &mut optimizer)?;
            Ok(images.device().synchronize()?)
        };
        Ok((Box::new(step), n_params))
    }

    /// Amount of work of a step.
    pub(crate) fn work(self, mode: Mode, batch: usize) -> Result<Work> {
        let network = self.network(&Params::zeros(&Device::Cpu))?;
        match mode {
            Mode::FineTune => {
                let (summary, trained) = FineTuner::new(&network, &fine_tuning(&network)?)?.summary();
                Ok(Work::count(&summary, batch, mode, &trained))
            }
            _ => {
                let summary = network.summary();
                let trained = vec![mode == Mode::Train; summary.rows.len()];
                Ok(Work::count(&summary, batch, mode, &trained))
            }
        }
    }

    /// The first block that [`Mode::FineTune`] trains.
    pub(crate) fn unfreeze_from(self) -> Result<String> {
        let network = self.network(&Params::zeros(&Device::Cpu))?;
        Ok(fine_tuning(&network)?.unfreeze_from)
    }
}

/// The second part of the standard preset.
fn fine_tuning(network: &ImageClassifier) -> Result<FineTuneConfig> {
    let tuning = Preset::Standard.recipe(&network.blocks(), 0).tuning;
    Ok(tuning.context("the standard preset fine-tunes")?.config)
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
            Self::Features => "features",
            Self::FineTune => "fine-tune",
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || ALL.iter().map(|mode| mode.name()).collect::<Vec<_>>().join(", ");
        ALL.iter()
            .copied()
            .find(|mode| mode.name() == name)
            .ok_or_else(|| format!("'{name}' is none of {}", known()))
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
    /// Frozen layers have a forward pass only.
    pub(crate) gigabytes: f64,
}

impl Work {
    /// `trained` says of each row whether its layer is trained.
    fn count(summary: &Summary, batch: usize, mode: Mode, trained: &[bool]) -> Self {
        let (mut macs, mut first, mut maps) = (0, 0, 0);
        let (mut backward, mut trained_maps, mut trained_params) = (0, 0, 0);
        let mut previous = 0;
        for (row, &trained) in summary.rows.iter().zip(trained) {
            macs += row.multiply_adds;
            first = if first == 0 { macs } else { first };
            let by_batch = mode == Mode::Train && row.kind == "BatchNormalization";
            let starts_a_pass = row.multiply_adds > 0 || by_batch;
            if starts_a_pass && macs > first {
                maps += previous;
                // The input of the first trained layer needs no gradient.
                trained_maps += if trained && backward > 0 { previous } else { 0 };
            }
            if trained {
                backward += if backward == 0 { row.multiply_adds } else { 2 * row.multiply_adds };
                trained_params += row.params;
            }
            previous = row.output.count();
        }
        let inputs = summary.input.count() * if mode == Mode::Train { 2 } else { 1 };
        let values =
            batch * (inputs + 2 * maps + 3 * trained_maps) + summary.total_params() + 9 * trained_params;
        Self {
            gflop: 2.0 * batch as f64 * (macs + backward) as f64 / 1e9,
            gigabytes: 4.0 * values as f64 / 1e9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Item, Mode};

    /// By hand: 80·60·9·16 + 40·30·16·9·32 + 20·15·32·9·64 + 960·64 + 64·55 multiply-adds an image.
    #[test]
    fn the_small_network_s_arithmetic_is_counted() {
        let macs = 691_200 + 5_529_600 + 5_529_600 + 61_440 + 3_520;
        let work = Item::A.work(Mode::Forward, 128).unwrap();
        assert_eq!(work.gflop, 2.0 * 128.0 * f64::from(macs) / 1e9);
        let training = Item::A.work(Mode::Train, 128).unwrap();
        assert_eq!(training.gflop, 2.0 * 128.0 * f64::from(3 * macs - 691_200) / 1e9);
        // The maps between: after each pool, and after the first dense layer.
        let maps = 16 * 40 * 30 + 32 * 20 * 15 + 960 + 64;
        let values = 128.0 * f64::from(4800 + 2 * maps) + 88_375.0;
        assert_eq!(work.gigabytes, 4.0 * values / 1e9);
    }

    /// The papers' and timm's counts: 0.30 to 0.31 billion multiply-adds for MobileNetV2, 1.1 for AlexNet in one tower.
    #[test]
    fn larger_networks_arithmetic_is_as_published() {
        let macs = |item: Item| item.work(Mode::Forward, 1).unwrap().gflop / 2.0;
        assert!((0.299..0.316).contains(&macs(Item::E)), "{}", macs(Item::E));
        assert!((1.10..1.15).contains(&macs(Item::D)), "{}", macs(Item::D));
    }
}
