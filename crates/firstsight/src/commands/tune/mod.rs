mod earlier;
mod fine_tuning;
mod kept;
mod logged;
mod objectives;
mod page;
mod settings;
mod space;
mod subject;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use candle_core::Var;
use clap::ArgGroup;
use firstsight_data::InputSpec;
use firstsight_hpo::{
    FrozenTrial, Nsga2, Nsga2Config, Percentile, PercentileConfig, Random, Stop, Storage, Study,
    StudyBuilder, Tpe, TpeConfig, Trial, TrialState, storage,
};
use firstsight_lecture::search_report::{FAILURE, TrialJson};
use firstsight_log::LogTarget;
use firstsight_models::{InputShape, ModelInfo};
use firstsight_train::callbacks::{Checkpoint, EarlyStopping, Interrupt, Resume, StopOnNan};
use firstsight_train::{Callback, Epoch, EpochEnd, Monitor, StopReason, TrainBegin};
use firstsight_transfer::{
    DecodedSplits, FileNotes, Interrupted, Preset, RunFolder, Runtime, files, training::Training,
};
use serde::Serialize;

use self::fine_tuning::Backbones;
use self::objectives::{Objective, Objectives};
use self::page::page;
use self::settings::Settings;
use self::space::{Space, plain, training};
use self::subject::Subject;
use crate::{
    context::Context,
    data::DataArgs,
    logs::LogArgs,
    output,
    progress::{SearchProgress, TrialProgress},
    reading::{OnErrorArgs, ReadingArgs},
    splitting::{SplitArgs, images},
    values::{self, Backbone, InputSize},
};

/// Trials that fail for one reason before any has a value end the search: the others would fail too.
const HOPELESS: usize = 3;

#[derive(Debug, clap::Args)]
#[command(after_long_help = space::help())]
#[command(group = ArgGroup::new("network").required(true).multiple(true).args(["model", "backbone", "weights"]))]
pub struct Args {
    #[command(flatten)]
    data: DataArgs,
    /// Model to train from scratch; several make it part of the search
    #[arg(long, conflicts_with_all = ["backbone", "weights"], value_parser = values::model, value_name = "MODEL")]
    model: Vec<&'static ModelInfo>,
    /// Pretrained network to fine-tune, as `fine-tune --backbone` takes it; several make it part of the search
    #[arg(long, value_parser = values::backbone, value_name = "MODEL")]
    backbone: Vec<Backbone>,
    /// Pretrained weights to fine-tune, as `fine-tune --weights` takes them; several make them part of the search
    #[arg(long, value_name = "HUB_ID, FOLDER or FILE")]
    weights: Vec<String>,
    /// What fine-tunings do where the search says nothing else [default: standard]
    #[arg(long, conflicts_with = "model", value_name = "PRESET")]
    preset: Option<Preset>,
    /// Input size [default: that of `train` where all models have the same, or else 80x60x1; of fine-tunings that of the weights]
    #[arg(long, value_name = "HxWxC")]
    input: Option<InputSize>,
    /// TOML file that states what is searched [default: a learning rate from 1e-4 to 1e-2 and a batch size of 32 to 256; of
    /// fine-tunings a learning rate from 2e-5 to 2e-3, the number of blocks to train and the decay of the rate from block to
    /// block]; `--help` lists the parameters
    #[arg(long, value_name = "FILE")]
    space: Option<PathBuf>,
    /// What is searched for; of several, settings to which no others are preferable in all of them: the Pareto front. Trials are pruned
    /// for accuracy alone
    #[arg(long, default_value = "accuracy", value_name = "OBJECTIVE")]
    objective: Vec<Objective>,
    /// Number of trials in all: those of a stored study, of all workers and of all commands that share it. Three that fail for
    /// one reason before any has a value end the search
    #[arg(long, value_parser = values::positive, value_name = "N")]
    trials: usize,
    /// Sampler of settings
    #[arg(long, default_value = "tpe", value_name = "SAMPLER")]
    sampler: SamplerName,
    /// Disable pruning of trials that are worse than the median of those before
    #[arg(long)]
    no_pruning: bool,
    /// Maximum number of epochs per trial [default: 20; of fine-tunings the preset's]
    #[arg(long, value_parser = values::positive, value_name = "N")]
    epochs: Option<usize>,
    /// Epochs without a better one, by the validation images, after which a training stops [default: 5]
    #[arg(long, conflicts_with_all = ["backbone", "weights"], value_parser = values::positive, value_name = "N")]
    patience: Option<usize>,
    /// Number of parallel workers
    #[arg(long, default_value_t = 1, value_parser = values::threads, value_name = "N")]
    workers: usize,
    /// What keeps the study, in Optuna's formats: a journal (study.log), a PostgreSQL database
    /// (postgresql://USER:PASSWORD@HOST:PORT/DATABASE; the password may be in the variable PGPASSWORD instead), or with the
    /// feature `sqlite` a file (sqlite:///study.db). Several commands may share it, and Python's workers too
    #[arg(long, value_name = "ADDRESS")]
    storage: Option<String>,
    /// Name of the study in the storage
    #[arg(long, default_value = "firstsight", value_name = "NAME")]
    study: String,
    /// Study in the same storage, on the same images, whose trials with a value a new study takes over: after a change of
    /// --model, --epochs or --patience
    #[arg(long, requires = "storage", value_name = "NAME")]
    from_study: Option<String>,
    /// Folder that keeps each trial's checkpoint (DIR/trials/NUMBER) and the winner as a run for `predict` (DIR/best). A trial whose
    /// worker was killed goes on from its last epoch. Commands that share a study share the folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Pruned trial to go on with from its checkpoint, as a new trial that is not pruned
    #[arg(long, requires = "out", requires = "storage", value_name = "NUMBER")]
    take_up: Vec<usize>,
    /// Seconds between a worker's signs of life. The trial of one that is silent for twice as long goes to another
    #[arg(long, default_value_t = 60, value_parser = values::positive, value_name = "SECONDS")]
    heartbeat: usize,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    split: SplitArgs,
    #[command(flatten)]
    on_error: OnErrorArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    /// HTML file for the search: every trial, history, slices, parallel coordinates, importances
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Args {
    fn is_fine_tuning(&self) -> bool {
        self.model.is_empty()
    }

    fn preset(&self) -> Preset {
        self.preset.unwrap_or(Preset::Standard)
    }

    /// The input of trainings.
    fn input(&self) -> InputSize {
        let mut usual = self.model.iter().map(|model| InputSize::or_usual(None, model));
        let shared = usual.next().filter(|first| usual.all(|size| size == *first));
        self.input.or(shared).unwrap_or(InputSize { height: 80, width: 60, channels: 1 })
    }

    /// The number of epochs of trainings.
    fn epochs(&self) -> usize {
        self.epochs.unwrap_or(20)
    }

    /// The patience of trainings.
    fn patience(&self) -> usize {
        self.patience.unwrap_or(5)
    }

    /// The input that images are decoded for, whatever the model.
    fn decoded(&self) -> InputSpec {
        let InputSize { height, width, channels } = self.input();
        InputSpec { reading: self.reading.reading(), ..InputSpec::bytes(channels, height, width) }
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SamplerName {
    /// Each trial by itself
    Random,
    /// Tree-structured Parzen estimator; of several objectives MOTPE
    Tpe,
    /// NSGA-II with generations of 10 trials, for several objectives and many trials
    Nsga2,
}

/// Trials of a generation of NSGA-II. Optuna's 50 would make most searches of trainings random.
const POPULATION: usize = 10;

#[derive(Serialize)]
struct TuneJson<'a> {
    study: String,
    /// None where no trial is complete, and of several objectives.
    best: Option<TrialJson>,
    /// Of several objectives: what they are, in the order of the values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    objectives: Vec<&'static str>,
    /// Of several objectives: the Pareto front.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    front: Vec<TrialJson>,
    trials: Vec<TrialJson>,
    #[serde(flatten)]
    files: Option<&'a FileNotes>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let read =
        [args.space.clone(), args.storage.as_ref().map(PathBuf::from), Some(args.data.path().to_owned())];
    output::check(args.report.as_deref().as_slice(), &read.into_iter().flatten().collect::<Vec<_>>())?;
    if let Some(out) = args.out.as_ref().filter(|out| out.exists() && !out.is_dir()) {
        bail!("{}: expected a folder for the trials, found a file", out.display());
    }
    let targets = args.log.targets()?;
    if !targets.is_empty() && args.out.is_none() {
        bail!("--log needs --out DIR: the folder of the trials keeps their logs, too");
    }
    // What cannot be searched is refused before the images are decoded.
    for (i, objective) in args.objective.iter().enumerate() {
        if args.objective[..i].contains(objective) {
            bail!("--objective {objective} is given twice: each objective once");
        }
    }
    let (runtime, fine_tunes) = (&context.runtime, args.is_fine_tuning());
    let builder = builder(args, context)?;
    let backbones = if fine_tunes { Some(Backbones::locate(args, runtime)?) } else { None };
    let space = Space::new(args, backbones.as_ref())?;
    let storage = args.storage.as_deref().map(open).transpose()?;
    if let Some(storage) = &storage {
        check(&**storage, args, &Settings::new(args, &space, context.seed, None))?;
    }
    if !fine_tunes {
        check_input(args, runtime)?;
    }
    let splits = args.data.splits(&args.split, runtime)?;
    if let Some(out) = &args.out {
        args.data.check_apart(out, images(std::slice::from_ref(&splits)))?;
    }
    space.check_task(splits.target().task())?;
    let subject = Subject::new(splits, backbones, args, runtime)?;
    let goal = Objectives::new(&args.objective, &subject.target());
    let work = Work { args, space: &space, context, subject: &subject, goal: &goal, targets: &targets };
    // Commands of one study share a folder; those of others may not.
    let lock = args.out.as_ref().filter(|_| storage.is_none()).map(|out| RunFolder::lock(out));
    let _lock = lock.transpose()?;
    let study = study(builder, storage, work)?;
    if let Some(out) = &args.out {
        kept::take_up(&study, out, &args.take_up)?;
    }
    let of_use = |trial: &&Arc<FrozenTrial>| matches!(trial.state, TrialState::Complete | TrialState::Pruned);
    let finished = || Ok::<_, firstsight_hpo::Error>(study.trials()?.iter().filter(of_use).count());
    let before = finished()?;
    if before > 0 {
        log!("{} holds {before} finished trials", args.study);
    }
    let started = Instant::now();
    let progress = SearchProgress::new(before, args.trials);
    let (ended, interrupted) = context.runtime.interrupt.with_graceful_interrupt(|pressed| {
        let objective = |trial: &mut Trial<'_>| {
            let bar = progress.trial(trial.number(), subject.target().monitor());
            let value = objective(trial, &study, work, Interrupt(pressed.clone()), bar);
            let value = value.map_err(|stop| explained(trial, stop));
            let known = finished().unwrap_or_default() + usize::from(value.is_ok());
            let best = match goal.are_many() {
                true => study.best_trials().ok().map(|front| format!("front of {}", front.len())),
                false => {
                    let best = study.best_trial().ok().and_then(|best| best.value());
                    let this = value.as_ref().ok().and_then(|values| values.first().copied());
                    let best = best.into_iter().chain(this).reduce(|a, b| goal.better(a, b));
                    best.map(|best| format!("best {best:.4}"))
                }
            };
            progress.finished(&line(trial, &value, &goal), known, best);
            value
        };
        let pressed = || pressed.load(Ordering::Relaxed);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Ctrl-C also ends the wait for the trials of other workers.
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if pressed() {
                        study.stop();
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
            let _over = SetOnDrop(&over);
            (study.optimize_total(args.workers, args.trials, objective), pressed())
        })
    });
    drop(progress);
    // However the search ended, what it has found is shown.
    let (trials, best) = (study.trials()?, study.best_trial().ok());
    let silent = study.silent_trials()?;
    let front = if goal.are_many() { study.best_trials()? } else { Vec::new() };
    // A page that cannot be written is told after the result.
    let written = match &args.report {
        None => Ok(()),
        Some(file) => page(work, (&trials, &silent), (best.as_deref(), &front), started.elapsed())
            .and_then(|page| Ok(files::write(file, page.to_html().as_bytes())?))
            .map(|()| log!("{}", file.display())),
    };
    if args.json {
        let document = TuneJson {
            study: args.study.clone(),
            best: best.as_deref().map(TrialJson::from),
            objectives: if goal.are_many() { goal.names() } else { Vec::new() },
            front: front.iter().map(|trial| (&**trial).into()).collect(),
            trials: trials
                .iter()
                .map(|trial| TrialJson::from(&**trial).stale(silent.contains(&trial.number)))
                .collect(),
            files: subject.provenance().map(|provenance| &provenance.files),
        };
        say!("{}", serde_json::to_string_pretty(&document)?);
    }
    if interrupted {
        let how = match &args.storage {
            Some(address) => format!("the same command continues the study in {}", storage::shown(address)),
            None => "the study is lost; `--storage ADDRESS` keeps one".to_owned(),
        };
        return Err(Interrupted(how).into());
    }
    ended?;
    if !front.is_empty() {
        keep_front(&front, work)?;
        return written;
    }
    let Some(best) = best else {
        let last = trials.iter().rev().find_map(|trial| trial.user_attrs.get(FAILURE)?.as_str());
        match last {
            Some(last) => bail!("none of {} trials has a value; the last one failed: {last}", trials.len()),
            None => bail!("none of {} trials has a value", trials.len()),
        }
    };
    let kept = args.out.as_deref().map(|out| kept::winner(out, &best, &out.join("best"), work));
    let kept = kept.transpose()?;
    if args.json {
        return written;
    }
    say!("best: trial {}, {}", best.number, goal.shown(&best.values));
    let settings = space.replay(&best)?;
    let usual = if fine_tunes || args.space.is_some() {
        None
    } else {
        Some(training(&settings, args, context.seed)?)
    };
    match &usual {
        Some(Training { model, record, .. }) => {
            say!("learning rate {}, batch size {}, model {model}", record.learning_rate, record.batch_size);
        }
        None => best.params.iter().for_each(|param| say!("{} = {}", param.name, param.value())),
    }
    let name = context.command.get_name();
    match (kept, usual) {
        (Some(kept), _) => say!("to use it: {name} predict --run {:?} IMAGE", kept.display()),
        (None, Some(training)) => say!("to train it: {}", train_command(args, &training, context)),
        (None, None) => say!("to keep it as a run: the same command with --out DIR"),
    }
    written
}

/// Keeps the trials of a Pareto front as runs, where that is asked for, and prints them.
fn keep_front(front: &[Arc<FrozenTrial>], work: Work<'_>) -> Result<()> {
    let Work { args, context, goal, .. } = work;
    let folder = |out: &Path, trial: &FrozenTrial| out.join("front").join(trial.number.to_string());
    if let Some(out) = &args.out {
        kept::clear_front(out, front)?;
        for trial in front {
            kept::winner(out, trial, &folder(out, trial), work)?;
        }
    }
    if args.json {
        return Ok(());
    }
    let trials = if front.len() == 1 { "trial" } else { "trials" };
    say!("Pareto front: {} {trials}", front.len());
    for trial in front {
        say!("trial {}: {} ({})", trial.number, goal.shown(&trial.values), objectives::settings(trial));
    }
    let name = context.command.get_name();
    match (&args.out, front) {
        (Some(out), [first, ..]) => {
            say!("to use one: {name} predict --run {:?} IMAGE", folder(out, first).display());
        }
        _ => say!("to keep them as runs: the same command with --out DIR"),
    }
    Ok(())
}

/// The storage of an address. A PostgreSQL address without a password takes that of PGPASSWORD, as PostgreSQL's own programs do,
/// since other users of a machine can read a command's arguments.
fn open(address: &str) -> Result<Arc<dyn Storage>> {
    let server = address.starts_with("postgresql") || address.starts_with("postgres:");
    let address = match std::env::var("PGPASSWORD") {
        Ok(password) if server && storage::shown(address) == address => {
            let encoded: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let sign = if address.contains('?') { '&' } else { '?' };
            &format!("{address}{sign}password={encoded}")
        }
        _ => address,
    };
    Ok(storage::open(address)?)
}

/// Sets a flag when it goes out of scope, also by a panic.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Refuses an input that no model takes, and says which models it is too small for: their trials fail.
fn check_input(args: &Args, runtime: &Runtime) -> Result<()> {
    let input = InputShape::from(&args.decoded());
    let refusals: Vec<_> = args.model.iter().filter_map(|model| model.check_input(input).err()).collect();
    if refusals.len() < args.model.len() {
        refusals.iter().for_each(|error| runtime.message(&format!("{error}; its trials will fail")));
        return Ok(());
    }
    Err(refusals.into_iter().next().map_or_else(|| anyhow!("no model is named"), anyhow::Error::from))
}

/// A study of these arguments, without its storage.
fn builder(args: &Args, context: &Context) -> Result<StudyBuilder> {
    let seed = u32::try_from(context.seed)
        .map_err(|_| anyhow!("a sampler's seed is less than 2^32, found {}", context.seed))?;
    let heartbeat = Duration::from_secs(args.heartbeat as u64);
    // A training follows from its settings, so a trial that is taken over without a checkpoint is the same from its start.
    let builder = Study::builder(&args.study).heartbeat(heartbeat).take_over().give_up_after(HOPELESS);
    // Workers do not propose what others are trying. Alone, a worker finds no running trial.
    let shared = args.workers > 1 || args.storage.is_some();
    let builder = match args.sampler {
        SamplerName::Random => builder.sampler(Random::new(seed)),
        SamplerName::Nsga2 => {
            let config = Nsga2Config { population_size: POPULATION, ..Nsga2Config::optuna(seed) };
            builder.sampler(Nsga2::new(config)?)
        }
        SamplerName::Tpe => {
            builder.sampler(Tpe::new(TpeConfig { constant_liar: shared, ..TpeConfig::optuna4(seed) })?)
        }
    };
    Ok(if args.no_pruning { builder } else { builder.pruner(Percentile::new(PercentileConfig::median())?) })
}

/// Checks a stored study, and the one to take over, against the settings as far as these are known.
fn check(storage: &dyn Storage, args: &Args, settings: &Settings) -> Result<()> {
    if let Some(stored) = Settings::stored(storage, &args.study)? {
        settings.check_same(&stored, &args.study)?;
    }
    let Some(from) = &args.from_study else { return Ok(()) };
    if *from == args.study {
        bail!("--from-study names the study itself: name the new one with --study");
    }
    match Settings::stored(storage, from)? {
        Some(stored) => settings.check_comparable(&stored, from),
        None => bail!("the storage holds no study of this command that is called {from}"),
    }
}

/// The study, new or stored. A stored one must be about the same data, models and training.
fn study(
    builder: StudyBuilder,
    storage: Option<Arc<dyn Storage>>,
    Work { args, space, context, subject, goal, .. }: Work<'_>,
) -> Result<Study> {
    let builder = builder.directions(goal.directions());
    let Some(storage) = storage else { return Ok(builder.create()?) };
    let settings = Settings::new(args, space, context.seed, Some(subject.data()));
    check(&*storage, args, &settings)?;
    let study = builder.shared_storage(storage.clone()).load_or_create()?;
    if study.directions() != goal.directions() {
        bail!(
            "the study {} is about other objectives: expected directions {:?}, found {:?}; name another with --study",
            args.study,
            goal.directions(),
            study.directions()
        );
    }
    if Settings::stored(&*storage, &args.study)?.is_none() {
        settings.store(&study)?;
    }
    if let Some(from) = &args.from_study
        && let Some(old) = Settings::stored(&*storage, from)?
    {
        earlier::take_over(&study, storage, from, &old, args, space)?;
    }
    Ok(study)
}

/// A failure without the backtrace that candle appends to its messages, kept with the trial.
fn explained(trial: &mut Trial<'_>, stop: Stop) -> Stop {
    let Stop::Failed(error) = stop else { return stop };
    let text = error.to_string();
    let reason = text.split("\n   0: ").next().unwrap_or_default().trim_end();
    match trial.set_user_attr(FAILURE, reason) {
        Ok(()) => Stop::failed(reason),
        Err(error) => error.into(),
    }
}

/// How a trial ends whose training failed. What the machine refuses, such as space on a disk, it refuses the next trial too: the search
/// ends, and a trial that is kept waits for the next command.
fn failed(error: firstsight_transfer::Error, trial: &Trial<'_>, study: &Study, keeps: bool) -> Stop {
    if crate::exit::system_error(&error).is_none() {
        return Stop::Failed(error.into());
    }
    match keeps.then(|| kept::put_back(study, trial)).transpose() {
        Ok(_) => Stop::Abort(error.into()),
        Err(error) => error.into(),
    }
}

/// What trials work on.
#[derive(Clone, Copy)]
struct Work<'a> {
    args: &'a Args,
    space: &'a Space,
    context: &'a Context,
    subject: &'a Subject,
    goal: &'a Objectives,
    targets: &'a [LogTarget],
}

/// The values of a trial.
fn objective(
    trial: &mut Trial<'_>,
    study: &Study,
    work: Work<'_>,
    interrupt: Interrupt,
    bar: TrialProgress,
) -> Result<Vec<f64>, Stop> {
    let Work { args, space, context, subject, .. } = work;
    let settings = space.settings(trial)?;
    let run = args.out.as_deref().map(|out| kept::folder(out, trial)).transpose();
    let run = run.map_err(|error| failed(error, trial, study, true))?;
    let run = run.as_ref();
    let mut log = run.zip(args.out.as_deref()).map(|(run, out)| logged::log(run, out, trial, work));
    let observer = log.as_mut().map(|log| log as &mut dyn Callback);
    let values = match subject {
        Subject::Trainings(splits) => {
            let plan = training(&settings, args, context.seed)?;
            train(trial, study, &plan, (splits, work), (run, observer), (interrupt, bar))
        }
        Subject::FineTunings(tunings) => {
            let plan = tunings.plan(&settings, args, context.seed)?;
            tunings.objective(trial, study, &plan, work, (run, observer), bar)
        }
    };
    if let Some(log) = log {
        logged::end(log, &values, work);
    }
    values
}

/// The values of a training, by its best epoch.
fn train(
    trial: &mut Trial<'_>,
    study: &Study,
    plan: &Training,
    (splits, Work { context, goal, .. }): (&DecodedSplits, Work<'_>),
    (run, log): Place<'_>,
    (mut interrupt, mut bar): (Interrupt, TrialProgress),
) -> Result<Vec<f64>, Stop> {
    let keeps = run.is_some();
    let network =
        plan.network(splits, &context.runtime.device).map_err(|error| failed(error, trial, study, keeps))?;
    let monitor = splits.target().monitor();
    let mut stopping = EarlyStopping::new(monitor.clone(), plan.patience);
    let checkpoint = run.map(|run| {
        Checkpoint::new(&run.checkpoint(), monitor.clone(), plan.identity(splits))
            .resume(run.has_checkpoint())
    });
    let log = log.map(|log| log as &mut dyn Callback);
    let mut pruning = Pruning::new(trial, goal, &monitor, checkpoint, log);
    let callbacks: &mut [&mut dyn Callback] =
        &mut [&mut StopOnNan, &mut interrupt, &mut stopping, &mut bar, &mut pruning];
    let history = plan.fit(&network, splits, &context.runtime, callbacks);
    let Pruning { trial, pruned, error, .. } = pruning;
    if let Some(error) = error {
        return Err(error.into());
    }
    let history = history.map_err(|error| failed(error, trial, study, keeps))?;
    if pruned {
        return Err(Stop::Pruned);
    }
    if history.interrupted() {
        if keeps {
            kept::put_back(study, trial)?;
        }
        return Err(Stop::failed("interrupted"));
    }
    let best = monitor
        .best(&history.epochs)
        .ok_or_else(|| Stop::failed(format!("no epoch had a {}", monitor.name())))?;
    let best = &history.epochs[best];
    goal.measure((monitor.value(best), best.val.as_ref()), &network, &context.runtime)
        .map_err(|error| failed(error, trial, study, keeps))
}

/// The folder of a trial, and its log.
type Place<'a> = (Option<&'a RunFolder>, Option<&'a mut dyn Callback>);

/// Reports each epoch's value to the trial, where the search is for it, keeps a checkpoint, logs the epoch, and stops a training that should
/// be pruned.
struct Pruning<'t, 's> {
    trial: &'t mut Trial<'s>,
    reports: bool,
    monitor: Monitor,
    checkpoint: Option<Checkpoint>,
    log: Option<&'t mut dyn Callback>,
    pruned: bool,
    error: Option<firstsight_hpo::Error>,
}

impl<'t, 's> Pruning<'t, 's> {
    fn new(
        trial: &'t mut Trial<'s>,
        goal: &Objectives,
        monitor: &Monitor,
        checkpoint: Option<Checkpoint>,
        log: Option<&'t mut dyn Callback>,
    ) -> Self {
        let (reports, monitor) = (goal.follow_epochs(), monitor.clone());
        Self { trial, reports, monitor, checkpoint, log, pruned: false, error: None }
    }

    /// Reports epochs that are not reported yet, and asks whether to stop after the last one.
    fn report(&mut self, history: &[Epoch]) -> firstsight_hpo::Result<bool> {
        if !self.reports {
            return self.trial.check_worker().map(|()| false);
        }
        for (step, epoch) in history.iter().enumerate() {
            let step = step as u64;
            if !self.trial.record().intermediate.contains_key(&step) {
                self.trial.report(self.monitor.value(epoch), step)?;
            }
        }
        let last = self.trial.record().last_report().map(|(step, _)| step + 1);
        // A report may be ahead of the checkpoint that the training goes on from.
        let prune = last == Some(history.len() as u64)
            && !kept::is_taken_up(self.trial)
            && self.trial.should_prune()?;
        // This process may have stood still while a report was stored, and the checkpoint be another worker's by now.
        self.trial.check_worker()?;
        Ok(prune)
    }

    fn flow(&mut self, history: &[Epoch]) -> ControlFlow<StopReason> {
        match self.report(history) {
            Ok(prune) => self.pruned = prune,
            Err(error) => self.error = Some(error),
        }
        match self.pruned || self.error.is_some() {
            true => ControlFlow::Break(StopReason::Callback("pruned".to_owned())),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Callback for Pruning<'_, '_> {
    fn resume(&mut self, vars: &[(String, Var)]) -> firstsight_train::Result<Option<Resume>> {
        self.checkpoint.as_mut().map_or(Ok(None), |checkpoint| checkpoint.resume(vars))
    }

    fn on_train_begin(
        &mut self,
        begin: &TrainBegin<'_>,
    ) -> firstsight_train::Result<ControlFlow<StopReason>> {
        let flow = self.flow(begin.history);
        if let (Some(log), None) = (&mut self.log, &self.error) {
            let _ = log.on_train_begin(begin)?;
        }
        Ok(flow)
    }

    fn on_epoch_end(&mut self, end: &EpochEnd<'_>) -> firstsight_train::Result<ControlFlow<StopReason>> {
        let flow = self.flow(end.history);
        // A trial that another worker has by now has that one's checkpoint and log.
        if self.error.is_none() {
            let checkpoint = self.checkpoint.as_mut().map(|checkpoint| checkpoint as &mut dyn Callback);
            let log = self.log.as_mut().map(|log| &mut **log as &mut dyn Callback);
            for observer in checkpoint.into_iter().chain(log) {
                let _ = observer.on_epoch_end(end)?;
            }
        }
        Ok(flow)
    }
}

/// The command that trains a search's winner, where no file states what was searched.
fn train_command(args: &Args, Training { model, record, .. }: &Training, context: &Context) -> String {
    format!(
        "{} train --data {:?} --model {model} --input {} --learning-rate {} --batch-size {} --seed {}{} --epochs {} \
         --patience {}{}{} --out RUN",
        context.command.get_name(),
        args.data.path(),
        args.input(),
        record.learning_rate,
        record.batch_size,
        record.seed,
        args.split.as_flags(),
        args.epochs(),
        args.patience(),
        args.data.typed(),
        args.on_error.typed() + &args.reading.typed()
    )
}

/// Whether an error says that a trial was taken over or ended by another worker.
fn is_anothers(error: &(dyn std::error::Error + 'static)) -> bool {
    use firstsight_hpo::Error::{Finished, Taken};
    matches!(error.downcast_ref(), Some(Finished { .. } | Taken { .. }))
}

/// Outcome of a trial in words.
fn line(trial: &Trial<'_>, values: &Result<Vec<f64>, Stop>, goal: &Objectives) -> String {
    let how = match values {
        Ok(values) => goal.shown(values),
        Err(Stop::Pruned) => {
            let last = trial.record().last_report().map_or(f64::NAN, |(_, value)| value);
            format!("{} at {last:.4}", TrialState::Pruned)
        }
        Err(Stop::Abort(error)) if is_anothers(&**error) => "another worker has it by now".to_owned(),
        Err(Stop::Failed(error) | Stop::Abort(error)) => format!("failed: {error}"),
    };
    format!("trial {}: {how} ({})", trial.number(), objectives::settings(trial.record()))
}
