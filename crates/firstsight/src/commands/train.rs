use std::path::PathBuf;

use anyhow::Result;
use firstsight_data::{InputSpec, OnError, Task};
use firstsight_log::TrainingLog;
use firstsight_models::{ModelInfo, SaveDtype};
use firstsight_report::number;
use firstsight_train::{Identity, check_shards};
use firstsight_transfer::{
    DecodedSplits, Evaluation, Interrupted, LabelsEvaluation, RunFolder, Splits, TaskEvaluation,
    TrainingRecord, ValueEvaluation, report_sections,
    training::{Optimization, Training},
};

use crate::{
    augmentation,
    context::Context,
    data::{DataArgs, ResumeFrom, keeps},
    logs::{self, LogArgs, setting},
    reading::{OnErrorArgs, ReadingArgs},
    splitting::{FoldArgs, SplitArgs, Work},
    values::{self, InputSize},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    data: DataArgs,
    /// Model to train
    #[arg(long, value_parser = values::model, value_name = "MODEL")]
    model: &'static ModelInfo,
    /// Input size [default: the model's usual one]
    #[arg(long, value_name = "HxWxC")]
    input: Option<InputSize>,
    /// Maximum number of epochs
    #[arg(long, default_value_t = 100, value_parser = values::positive, value_name = "N")]
    epochs: usize,
    /// Batch size
    #[arg(long, default_value_t = 128, value_parser = values::positive, value_name = "N")]
    batch_size: usize,
    /// Shards of each batch, a power of two: what up to as many processes share out (`mpirun -n N firstsight train`). The result
    /// depends on the shards, not on the processes
    #[arg(long, default_value_t = 1, value_parser = values::positive, value_name = "N")]
    shards: usize,
    /// Learning rate of Adam
    #[arg(long, visible_alias = "lr", default_value_t = 0.001, value_parser = values::rate, value_name = "RATE")]
    learning_rate: f64,
    /// Epochs without a better validation accuracy (several labels: mean average precision; numbers: loss) after which
    /// training stops
    #[arg(long, default_value_t = 15, value_parser = values::positive, value_name = "N")]
    patience: usize,
    #[command(flatten)]
    split: SplitArgs,
    #[command(flatten)]
    folds: FoldArgs,
    #[command(flatten)]
    augmentation: augmentation::Args,
    #[command(flatten)]
    on_error: OnErrorArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Folder for weights, configuration, history, figures, report and checkpoint [default: DATA-MODEL]
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

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let InputSize { height, width, channels } = InputSize::or_usual(args.input, args.model);
    let plan = Training {
        model: args.model,
        input: InputSpec {
            reading: args.reading.reading(),
            ..args.model.input_spec(channels, height, width)
        },
        epochs: args.epochs,
        patience: args.patience,
        optimization: Optimization::Adam,
        save_dtype: args.save_dtype,
        record: TrainingRecord {
            seed: context.seed,
            split_seed: args.split.split_seed,
            batch_size: args.batch_size,
            shards: args.shards,
            learning_rate: args.learning_rate,
            augmentation: (&args.augmentation).into(),
        },
    };
    check_shards(args.shards, &*context.runtime.communicator)?;
    let work = Work::new(&args.data, &args.split, &args.folds, &context.runtime)?;
    match work.task() {
        Task::SingleLabel => train_all::<Evaluation>(args, &plan, &work, context),
        Task::MultiLabel => train_all::<LabelsEvaluation>(args, &plan, &work, context),
        Task::Regression => train_all::<ValueEvaluation>(args, &plan, &work, context),
    }
}

fn train_all<E: TaskEvaluation>(args: &Args, plan: &Training, work: &Work, context: &Context) -> Result<()> {
    let out = args.data.run_path(args.out.as_deref(), args.model.name, work)?;
    let targets = args.log.targets()?;
    let (resuming, runtime) = ((args.resume, ResumeFrom::Checkpoint), &context.runtime);
    let settings = |splits: &Splits| args.logged(plan, splits);
    let shared = |splits: &Splits| Ok(args.shared(plan, splits));
    work.train(&out, resuming, shared, runtime, |splits, run, resume| {
        let log = TrainingLog::new(&targets, (run, resume), settings(splits), runtime);
        logs::observed(log, |log| train::<E>(args, plan, splits, (run, resume, log), context))
    })
}

impl Args {
    /// The settings that logs have.
    fn logged(&self, plan: &Training, splits: &Splits) -> Vec<(String, String)> {
        let (channels, height, width) = plan.input.input_size;
        let TrainingRecord { seed, split_seed, batch_size, shards, learning_rate, augmentation } =
            plan.record;
        vec![
            setting("command", "train"),
            setting("data", self.data.path().display()),
            setting("network", plan.model.name),
            setting("input", format!("{height}x{width}x{channels}")),
            setting("training_images", splits.train.len()),
            setting("epochs", plan.epochs),
            setting("batch_size", batch_size),
            setting("shards", shards),
            setting("learning_rate", learning_rate),
            setting("patience", plan.patience),
            setting("augmentation", augmentation),
            setting("seed", seed),
            setting("split_seed", split_seed),
        ]
    }

    /// The settings that folds share; their images are compared by themselves.
    fn shared(&self, plan: &Training, splits: &Splits) -> Identity {
        let logged = self.logged(plan, splits).into_iter();
        logged
            .filter(|(name, _)| !["data", "training_images"].contains(&&**name))
            .fold(Identity::new(), |settings, (name, value)| settings.with(&name, value))
            .with("save_dtype", plan.save_dtype)
            .with("reading", format!("{:?}", plan.input.reading))
    }
}

/// Trains a run, and returns its validation images.
fn train<E: TaskEvaluation>(
    args: &Args,
    plan: &Training,
    splits: &Splits,
    (run, resume, log): (&RunFolder, bool, &mut TrainingLog<'_>),
    context: &Context,
) -> Result<E> {
    plan.check(splits, run, resume, &context.runtime)?;
    let on_error = args.on_error.policy(OnError::Fail);
    let decoded = DecodedSplits::decode(splits, &plan.input, on_error, &context.runtime)?;
    let splits = decoded.with_crop_source(
        splits,
        &plan.input,
        plan.record.augmentation,
        on_error,
        &context.runtime,
    )?;
    let trained = plan.run_observed::<E>(&splits, run, resume, log, &context.runtime)?;
    if !context.runtime.is_root() {
        return Ok(trained.val);
    }
    let source = firstsight_report::escape_markup(&args.data.path().display().to_string());
    let report = report_sections::run_report(plan, &splits, &trained, &source, &context.runtime)?;
    let written = report.write(&run.report());
    if trained.failure.is_none() {
        written?;
    }
    let side = |name: &str, measured: &E| {
        say!("{name:10} {}  ({})", measured.line(), number::of(measured.images().len(), "image"));
    };
    side("train", &trained.train);
    side("validation", &trained.val);
    if let Some(test) = &trained.test {
        side("test", test);
    }
    say!("{}", run.report().display());
    if let Some(failure) = trained.failure {
        let left = format!("{} holds the best epoch until then", run.path().display());
        return Err(keeps(failure, &left));
    }
    if trained.interrupted() {
        return Err(Interrupted(format!("`--resume` continues from {}", run.checkpoint().display())).into());
    }
    Ok(trained.val)
}
