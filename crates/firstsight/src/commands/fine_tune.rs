use std::path::PathBuf;

use anyhow::Result;
use firstsight_data::{AugmentationConfig, AugmentationPreset, Crops, OnError, ResizeMode, Task};
use firstsight_log::TrainingLog;
use firstsight_models::SaveDtype;
use firstsight_report::number;
use firstsight_train::check_shards;
use firstsight_transfer::{
    Evaluation, FineTuning, Interrupted, Kept, LabelsEvaluation, LearningRate, Preset, Pretrained, RunFolder,
    Runtime, Splits, TaskEvaluation, ValueEvaluation, WeightsSource,
};

use crate::{
    context::Context,
    data::{DataArgs, ResumeFrom, keeps},
    hub,
    logs::{self, LogArgs, setting},
    reading::{OnErrorArgs, ReadingArgs},
    splitting::{FoldArgs, SplitArgs, Work},
    values::{self, Backbone, InputSize},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    data: DataArgs,
    /// Pretrained network: a name of `firstsight models`, timm's name of weights (resnet50.a1_in1k), or a hub repository in
    /// timm's layout (owner/name) [default: the one that --weights names, or mobilenet-v2]
    #[arg(long, value_parser = values::backbone, value_name = "MODEL")]
    backbone: Option<Backbone>,
    /// Pretrained weights: a hub repository (owner/name), a folder with model.safetensors and config.json, or a file
    /// [default: the published ones, from the hub]
    #[arg(long, value_name = "HUB_ID, FOLDER or FILE")]
    weights: Option<String>,
    /// Amount of work. quick: the last layer, unless --unfreeze-from names blocks; standard: also the upper third; thorough: nearly all, for longer
    #[arg(long, default_value = "standard", value_name = "PRESET")]
    preset: Preset,
    /// Input size [default: that of the weights]
    #[arg(long, value_name = "HxWxC")]
    input: Option<InputSize>,
    /// How to fit non-square images
    #[arg(long, default_value = "auto", value_name = "MODE")]
    crop: Crop,
    /// First block to train after the last layer, such as blocks.5 [default: the preset's]
    #[arg(long, value_name = "BLOCK")]
    unfreeze_from: Option<String>,
    /// Maximum number of epochs for the unfrozen blocks [default: the preset's, or more where 200 to 800 images make few steps]
    #[arg(long, value_parser = values::positive, value_name = "N")]
    epochs: Option<usize>,
    /// Learning rate of the last layer while the blocks are trained, or `find` for a range test [default: the preset's]
    #[arg(long, visible_alias = "lr", value_parser = values::rate_or_find, value_name = "RATE")]
    learning_rate: Option<LearningRate>,
    /// Batch size while the blocks are trained [default: the preset's]
    #[arg(long, value_parser = values::positive, value_name = "N")]
    batch_size: Option<usize>,
    /// Shards of each batch while the blocks are trained, a power of two: what up to as many processes share out (`mpirun -n N
    /// firstsight fine-tune`). The result depends on the shards, not on the processes
    #[arg(long, default_value_t = 1, value_parser = values::positive, value_name = "N")]
    shards: usize,
    /// Random changes of the photos while the blocks are trained
    #[arg(long, value_parser = values::augmentation_preset(), default_value = "photos", value_name = "PRESET")]
    augment: AugmentationPreset,
    /// What crops of the preset `photos` are cut from
    #[arg(long = "crops-from", value_parser = values::crops(), default_value = "reduced", value_name = "SIZE")]
    crops: Crops,
    /// Share of each label that is spread over all classes while the blocks are trained [default: 0.1; 0 for regression]
    #[arg(long, value_parser = values::share, value_name = "SHARE")]
    label_smoothing: Option<f64>,
    /// Let batch norm follow the new images instead of keeping the pretraining's statistics
    #[arg(long)]
    update_statistics: bool,
    /// Show rare classes as often as frequent ones
    #[arg(long, alias = "balance")]
    class_balanced: bool,
    /// Once the validation images are measured, train the last layer again on them and the training images together. Only
    /// where the run keeps the last layer alone
    #[arg(long, conflicts_with = "folds")]
    refit: bool,
    #[command(flatten)]
    split: SplitArgs,
    #[command(flatten)]
    folds: FoldArgs,
    #[command(flatten)]
    on_error: OnErrorArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Folder for weights, configuration, history, figures and report [default: DATA-MODEL]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Type of the weights in the run folder: float32, float16 or bfloat16; the latter two halve the file
    #[arg(long, default_value = "float32", value_name = "TYPE")]
    save_dtype: SaveDtype,
    /// Resume from the checkpoint in the run folder
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Crop {
    /// The better of the two in cross-validation on the training photos
    Auto,
    /// The whole photo, stretched
    Squash,
    /// The center of the photo
    Center,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let runtime = &context.runtime;
    check_shards(args.shards, &*runtime.communicator)?;
    let (model, weights) = values::model_and_weights(args.backbone.as_ref(), args.weights.as_deref())
        .map_err(anyhow::Error::msg)?;
    // What is no name of weights is said before the images are read.
    weights.map(WeightsSource::parse).transpose()?;
    let work = Work::new(&args.data, &args.split, &args.folds, runtime)?;
    let channels = args.input.map(|input| input.channels);
    let pretrained = hub::locate_any(model, weights, channels, runtime)?;
    let preset = FineTuning::preset(args.preset, context.seed);
    let task = work.task();
    let usual_smoothing = if task == Task::Regression { 0.0 } else { preset.augmentation.label_smoothing };
    let settings = FineTuning {
        input_size: args.input.map(|input| (input.height, input.width)),
        resize_modes: match args.crop {
            Crop::Auto => preset.resize_modes.clone(),
            Crop::Squash => vec![ResizeMode::Squash],
            Crop::Center => vec![ResizeMode::CenterCrop],
        },
        unfreeze_from: args.unfreeze_from.clone(),
        epochs: args.epochs,
        lr: args.learning_rate,
        batch_size: args.batch_size,
        shards: args.shards,
        update_statistics: args.update_statistics,
        class_balanced: args.class_balanced,
        refit: args.refit,
        augmentation: AugmentationConfig {
            preset: args.augment,
            mix: None,
            label_smoothing: args.label_smoothing.unwrap_or(usual_smoothing),
            crops: args.crops,
        },
        save_dtype: args.save_dtype,
        reading: args.reading.reading(),
        on_error: args.on_error.policy(OnError::Fail),
        ..preset
    };
    match task {
        Task::SingleLabel => fine_tune_all::<Evaluation>(args, &settings, &pretrained, &work, runtime),
        Task::MultiLabel => fine_tune_all::<LabelsEvaluation>(args, &settings, &pretrained, &work, runtime),
        Task::Regression => fine_tune_all::<ValueEvaluation>(args, &settings, &pretrained, &work, runtime),
    }
}

fn fine_tune_all<E: TaskEvaluation>(
    args: &Args,
    settings: &FineTuning,
    pretrained: &Pretrained,
    work: &Work,
    runtime: &Runtime,
) -> Result<()> {
    let out = args.data.run_path(args.out.as_deref(), pretrained.model.name, work)?;
    let targets = args.log.targets()?;
    let logged = |splits: &Splits| args.logged(settings, pretrained, splits);
    let shared = |first: &Splits| Ok(settings.shared_settings(pretrained, first, runtime)?);
    work.train(&out, (args.resume, ResumeFrom::Weights), shared, runtime, |splits, run, resume| {
        let log = TrainingLog::new(&targets, (run, resume), logged(splits), runtime);
        logs::observed(log, |log| fine_tune::<E>(settings, pretrained, splits, (run, resume, log), runtime))
    })
}

impl Args {
    /// The settings that logs have.
    fn logged(
        &self,
        settings: &FineTuning,
        pretrained: &Pretrained,
        splits: &Splits,
    ) -> Vec<(String, String)> {
        let (_, height, width) = pretrained.input.input_size;
        let (height, width) = settings.input_size.unwrap_or((height, width));
        let mut logged = vec![
            setting("command", "fine-tune"),
            setting("data", self.data.path().display()),
            setting("network", pretrained.model.name),
            setting("weights", &pretrained.origin),
            setting("preset", settings.preset.name()),
            setting("input", format!("{height}x{width}")),
            setting("resize_modes", format!("{:?}", settings.resize_modes)),
            setting("class_balanced", settings.class_balanced),
            setting("update_statistics", settings.update_statistics),
            setting("refit", settings.refit),
            setting("augmentation", settings.augmentation),
            setting("seed", settings.seed),
            setting("split_seed", splits.config.seed),
        ];
        logged.extend(settings.unfreeze_from.iter().map(|block| setting("unfreeze_from", block)));
        logged.extend(settings.blocks.map(|n| setting("blocks", n)));
        logged.extend(settings.epochs.map(|n| setting("epochs", n)));
        logged.extend(settings.batch_size.map(|size| setting("batch_size", size)));
        logged.extend(settings.lr.map(|lr| match lr {
            LearningRate::Value(lr) => setting("learning_rate", lr),
            LearningRate::Find => setting("learning_rate", "by a range test"),
        }));
        logged
    }
}

/// Fine-tunes a run, and returns its validation images.
fn fine_tune<E: TaskEvaluation>(
    settings: &FineTuning,
    pretrained: &Pretrained,
    splits: &Splits,
    (run, resume, log): (&RunFolder, bool, &mut TrainingLog<'_>),
    runtime: &Runtime,
) -> Result<E> {
    let result = settings.fit_observed::<E>(pretrained, splits, Some((run, resume)), log, runtime)?;
    if !runtime.is_root() {
        return Ok(result.val);
    }
    let saved = result.save_to(run);
    let is_saved = saved.is_ok();
    if result.failure.is_none() {
        saved?;
    }
    for (name, evaluation) in result.evaluations() {
        say!("{name:10} {}  ({})", evaluation.line(), number::of(evaluation.images().len(), "image"));
    }
    say!("{}", run.report().display());
    if let Some(failure) = result.failure {
        let left = match result.kept {
            Kept::Epoch(_) if is_saved => "the best epoch until then",
            Kept::Head | Kept::Epoch(_) => "the last layer alone",
        };
        return Err(keeps(failure, &format!("{} holds {left}", run.path().display())));
    }
    if result.interrupted() {
        return Err(Interrupted(match result.history.epochs.is_empty() {
            true => format!("{} holds the last layer alone", run.path().display()),
            false => format!("`--resume` continues from {}", run.checkpoint().display()),
        })
        .into());
    }
    Ok(result.val)
}
