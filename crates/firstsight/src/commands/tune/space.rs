//! What a search varies: its parameters, their defaults, and the training that their values make.

use std::ops::Bound::{Excluded, Included, Unbounded};

use anyhow::{Result, bail};
use firstsight_data::{AugmentationConfig, AugmentationPreset, Crops, InputSpec, Mix, Task};
use firstsight_hpo::{Error, FrozenTrial, Known, SearchSpace, Settings, Suggest, Values};
use firstsight_models::SaveDtype;
use firstsight_transfer::{
    TrainingRecord,
    training::{Optimization, OptimizerKind, Training},
};
use serde_json::Value;

use super::{Args, fine_tuning::Backbones};
use crate::values::{self, InputSize};

/// The space of trainings where no file states another.
const USUAL: &str = "
learning_rate = { low = 1e-4, high = 1e-2, log = true }
batch_size = { choices = [32, 64, 128, 256] }
";

/// The space of fine-tunings of networks of up to `blocks` blocks where no file states another.
fn usual_of_fine_tuning(blocks: usize) -> String {
    format!(
        "
        learning_rate = {{ low = 2e-5, high = 2e-3, log = true }}
        blocks = {{ low = 1, high = {blocks} }}
        layer_decay = {{ low = 0.5, high = 1.0 }}
        "
    )
}

/// A search space, and the parameters that it may have.
pub(super) struct Space {
    pub(super) stated: SearchSpace,
    known: Vec<Known>,
}

/// A parameter whose default is elsewhere: an argument of the command, or the preset's.
fn param(name: &'static str, values: Values, about: &'static str) -> Known {
    Known { name, values, each: None, default: None, about }
}

fn with_default(name: &'static str, values: Values, default: Value, about: &'static str) -> Known {
    Known { default: Some(default), ..param(name, values, about) }
}

fn positive() -> Values {
    Values::Floats(Excluded(0.0), Unbounded)
}

fn names(names: &[&str]) -> Values {
    Values::Names(names.iter().map(|name| (*name).to_owned()).collect())
}

/// The parameters of a training from scratch.
fn of_training() -> Vec<Known> {
    let share = || Values::Floats(Included(0.0), Excluded(1.0));
    vec![
        with_default("learning_rate", positive(), 0.001.into(), "learning rate"),
        with_default("batch_size", Values::Integers(1, i64::MAX), 128.into(), "batch size"),
        param("epochs", Values::Integers(1, i64::MAX), "maximum number of epochs [default: --epochs]"),
        with_default("optimizer", names(&["adam", "adamw", "sgd"]), "adam".into(), "optimizer"),
        with_default("momentum", share(), 0.9.into(), "momentum of sgd"),
        with_default(
            "weight_decay",
            Values::Floats(Included(0.0), Unbounded),
            0.01.into(),
            "weight decay of adamw",
        ),
        with_default(
            "schedule",
            names(&["constant", "cosine"]),
            "constant".into(),
            "learning rate over the steps: constant, or rising to its value and falling along a cosine to 0",
        ),
        with_default(
            "warmup",
            share(),
            0.05.into(),
            "share of the steps over which the learning rate of cosine rises",
        ),
        with_default(
            "augment",
            names(&AugmentationPreset::ALL.map(AugmentationPreset::name)),
            "none".into(),
            "random changes of the training images",
        ),
        with_default(
            "mix",
            names(&["none", "mixup", "cutmix"]),
            "none".into(),
            "blending of training images",
        ),
        with_default(
            "mix_alpha",
            positive(),
            0.2.into(),
            "the share of mixup and cutmix is drawn from Beta(alpha, alpha)",
        ),
        with_default(
            "label_smoothing",
            share(),
            0.0.into(),
            "share of each label that is spread over all classes",
        ),
    ]
}

/// The parameters of a fine-tuning of networks of up to `blocks` blocks.
fn of_fine_tuning(blocks: i64) -> Vec<Known> {
    vec![
        param(
            "blocks",
            Values::Integers(0, blocks),
            "number of blocks to train, counted from the last, which is the last layer; 0 trains that alone, on features",
        ),
        param("learning_rate", positive(), "learning rate of the last layer while the blocks are trained"),
        param(
            "layer_decay",
            Values::Floats(Excluded(0.0), Included(1.0)),
            "factor of the learning rate from each block to the one before it",
        ),
        Known {
            each: Some("blocks"),
            ..param(
                "block_rate",
                positive(),
                "with each = \"blocks\": factor of the learning rate of each trained block, the last one's first; in place of \
                 layer_decay",
            )
        },
        param("weight_decay", Values::Floats(Included(0.0), Unbounded), "weight decay of AdamW"),
        param("epochs", Values::Integers(1, i64::MAX), "maximum number of epochs for the blocks"),
        param("batch_size", Values::Integers(1, i64::MAX), "batch size while the blocks are trained"),
        with_default(
            "augment",
            names(&AugmentationPreset::ALL.map(AugmentationPreset::name)),
            "photos".into(),
            "random changes of the photos while the blocks are trained",
        ),
        with_default(
            "crops_from",
            names(&["reduced", "full"]),
            "reduced".into(),
            "what crops of photos are cut from",
        ),
        param(
            "label_smoothing",
            Values::Floats(Included(0.0), Excluded(1.0)),
            "share of each label that is spread over all classes",
        ),
        with_default(
            "crop",
            names(&["auto", "squash", "center"]),
            "auto".into(),
            "how to fit non-square images",
        ),
        param("input_size", Values::Integers(16, 2048), "height and width of the input"),
        with_default(
            "update_statistics",
            Values::Flags,
            false.into(),
            "let batch norm follow the new images",
        ),
        with_default(
            "class_balanced",
            Values::Flags,
            false.into(),
            "show rare classes as often as frequent ones",
        ),
    ]
}

/// The parameters as `tune --help` lists them.
pub(super) fn help() -> String {
    let tables = [
        ("a training (--model)", of_training()),
        (
            "a fine-tuning (--backbone, --weights); the others' defaults are the preset's",
            of_fine_tuning(i64::MAX),
        ),
    ];
    let mut text = String::new();
    for (of, table) in tables {
        text += &format!("Parameters of {of}, with what they take and their defaults:\n");
        for Known { name, values, default, about, .. } in table {
            let default = default.map(|default| format!(" [default: {}]", plain(&default)));
            text += &format!("  {name:17} {about}: {values}{}\n", default.unwrap_or_default());
        }
        text += "\n";
    }
    text += "A space file is TOML, a parameter a line:
  learning_rate = { low = 1e-4, high = 1e-1, log = true }
  optimizer = { choices = [\"adam\", \"sgd\"] }
  momentum = { low = 0.5, high = 0.95, step = 0.05, when = { optimizer = \"sgd\" } }
  batch_size = 64
`when` names values of other parameters, one or an array; `model` and `backbone` are those that the command names.";
    text
}

/// A value without quotes.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Space {
    /// The space that the file states, or else the usual one, with the models or, for fine-tunings, the backbones.
    pub(super) fn new(args: &Args, backbones: Option<&Backbones>) -> Result<Self> {
        let (known, given, usual) = match backbones {
            Some(backbones) => {
                let blocks = backbones.most_blocks()?;
                let given = ("backbone", backbones.labels());
                (of_fine_tuning(blocks as i64), given, usual_of_fine_tuning(blocks))
            }
            None => {
                let models = args.model.iter().map(|model| model.name.to_owned()).collect();
                (of_training(), ("model", models), USUAL.to_owned())
            }
        };
        let stated = match &args.space {
            Some(file) => SearchSpace::read(file, &known, &[given])?,
            None => SearchSpace::parse(&usual, "the usual space", &known, &[given])?,
        };
        if let (Some(file), true, true) = (&args.space, args.epochs.is_some(), stated.has("epochs")) {
            bail!("{} has `epochs`, and --epochs says them too: leave one out", file.display());
        }
        if stated.has("block_rate") && stated.has("layer_decay") {
            bail!(
                "the space has `block_rate` and `layer_decay`: expected one of the two ways to set the blocks' learning rates"
            );
        }
        Ok(Self { stated, known })
    }

    /// Refuses what has no meaning for a task, before an image is read.
    pub(super) fn check_task(&self, task: Task) -> Result<()> {
        let has = |name: &str, value: &Value| {
            self.stated.choices(name).is_some_and(|choices| choices.contains(value))
        };
        let single = task == Task::SingleLabel;
        let wrong = if has("class_balanced", &Value::Bool(true)) && !single {
            "`class_balanced` = true"
        } else if has("mix", &"cutmix".into()) && task == Task::Regression {
            "`mix` = \"cutmix\""
        } else if self.stated.largest("label_smoothing") > Some(0.0) && task == Task::Regression {
            "`label_smoothing` above 0"
        } else {
            return Ok(());
        };
        bail!("{wrong} in the search space has no meaning for {task}: leave it out")
    }

    /// The settings of a trial, with the defaults of those that it has not.
    pub(super) fn settings(&self, trial: &mut impl Suggest) -> firstsight_hpo::Result<Settings> {
        Ok(self.stated.sample(trial)?.or_defaults(&self.known))
    }

    /// The settings that a finished trial had.
    pub(super) fn replay(&self, trial: &FrozenTrial) -> firstsight_hpo::Result<Settings> {
        Ok(self.stated.replay(trial)?.or_defaults(&self.known))
    }
}

/// The value of a parameter, which has one by itself or by default.
pub(super) fn there<T>(name: &str, value: Option<T>) -> firstsight_hpo::Result<T> {
    let place = || "the settings of a trial".to_owned();
    value.ok_or_else(|| Error::UnknownParam { name: name.to_owned(), place: place(), known: Vec::new() })
}

/// The training of these settings.
pub(super) fn training(settings: &Settings, args: &Args, seed: u64) -> firstsight_hpo::Result<Training> {
    let float = |name| there(name, settings.float(name));
    let text = |name| there(name, settings.text(name));
    let whole = |name| settings.int(name).and_then(|n| usize::try_from(n).ok());
    let optimizer = match text("optimizer")? {
        "adamw" => OptimizerKind::AdamW { decay: float("weight_decay")? },
        "sgd" => OptimizerKind::Sgd { momentum: float("momentum")? },
        _ => OptimizerKind::Adam,
    };
    let warmup = if text("schedule")? == "cosine" { Some(float("warmup")?) } else { None };
    let mix = match text("mix")? {
        "mixup" => Some(Mix::Mixup(float("mix_alpha")?)),
        "cutmix" => Some(Mix::Cutmix(float("mix_alpha")?)),
        _ => None,
    };
    let model = there("model", settings.text("model").and_then(|name| values::model(name).ok()))?;
    let InputSize { height, width, channels } = args.input();
    // Every model sees the same decoded images, each normalized as its own layers want them.
    let InputSpec { mean, std, .. } = model.input_spec(channels, height, width);
    Ok(Training {
        model,
        input: InputSpec { mean, std, ..args.decoded() },
        epochs: whole("epochs").unwrap_or(args.epochs()),
        patience: args.patience(),
        optimization: match (optimizer, warmup) {
            (OptimizerKind::Adam, None) => Optimization::Adam,
            (optimizer, warmup) => Optimization::Other { optimizer, warmup },
        },
        save_dtype: SaveDtype::Float32,
        record: TrainingRecord {
            seed,
            split_seed: args.split.split_seed,
            batch_size: there("batch_size", whole("batch_size"))?,
            shards: 1,
            learning_rate: float("learning_rate")?,
            augmentation: AugmentationConfig {
                preset: there("augment", text("augment")?.parse().ok())?,
                mix,
                label_smoothing: float("label_smoothing")?,
                crops: Crops::Reduced,
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_takes_has_a_default_that_it_takes() {
        for Known { name, values, default, .. } in of_training() {
            let Some(default) = default else { continue };
            let text = format!("{name} = {default}\nbatch_size = {{ low = 1, high = 2 }}");
            let text =
                if name == "batch_size" { "batch_size = { choices = [128] }".to_owned() } else { text };
            let parsed = SearchSpace::parse(&text, name, &of_training(), &[]);
            assert!(parsed.is_ok(), "{values}: {parsed:?}");
        }
        assert!(help().contains("momentum of sgd: a number of at least 0, below 1 [default: 0.9]"));
    }
}
