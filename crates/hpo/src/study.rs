//! Studies: ask for a trial, tell its outcome, or optimize an objective.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::math::order;
use crate::pareto;
use crate::pruner::{NeverPrune, Pruner};
use crate::python;
use crate::sampler::{Attrs, Sampler, StudyView, Tpe, TpeConfig, losses};
use crate::space::Distribution;
use crate::storage::{
    Change, HEARTBEAT, Memory, Snapshot, Storage, StudyRecord, WAITING, WORKER, heartbeat, now, worker_name,
};
use crate::trial::{FrozenTrial, Param, Trial, TrialState};

/// The direction of an optimization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Small values are better, such as losses.
    #[default]
    Minimize,
    /// Large values are better, such as accuracies.
    Maximize,
}

impl Direction {
    /// The value with its sign changed, if needed, so that smaller is better.
    pub fn loss(self, value: f64) -> f64 {
        match self {
            Self::Minimize => value,
            Self::Maximize => -value,
        }
    }
}

/// The end of a trial.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Complete, with the value of each objective.
    Complete(Vec<f64>),
    /// Pruned; its last intermediate value, if any, becomes its value.
    Pruned,
    /// Failed, without a value.
    Failed,
}

impl From<f64> for Outcome {
    fn from(value: f64) -> Self {
        Self::Complete(vec![value])
    }
}

impl From<Vec<f64>> for Outcome {
    fn from(values: Vec<f64>) -> Self {
        Self::Complete(values)
    }
}

impl<const N: usize> From<[f64; N]> for Outcome {
    fn from(values: [f64; N]) -> Self {
        Self::Complete(values.to_vec())
    }
}

/// The reason why an objective returned no value.
///
/// Any error becomes `Abort` through `?`, as an exception ends `optimize` in Optuna.
#[derive(Debug)]
pub enum Stop {
    /// The trial was pruned.
    Pruned,
    /// The trial failed, and the study continues with the next one.
    Failed(Box<dyn std::error::Error + Send + Sync>),
    /// The trial failed, and the run of the study ends.
    Abort(Box<dyn std::error::Error + Send + Sync>),
}

impl Stop {
    /// A failure that the study survives: `train(…).map_err(Stop::failed)?`.
    pub fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Abort(Box::new(error))
    }
}

/// Target of the events that tell how each trial ended, in Optuna's words: a program that says so itself can turn them off.
const OUTCOMES: &str = "firstsight_hpo::outcomes";

/// The system attribute of a trial that failed because its worker fell silent.
const ABANDONED: &str = "firstsight:abandoned";

/// How long a worker without a trial waits before it looks again at those of others.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) type SharedSampler = Arc<Mutex<Box<dyn Sampler>>>;

/// Builder of a [`Study`]; see [`Study::builder`].
pub struct StudyBuilder {
    name: String,
    directions: Vec<Direction>,
    storage: Arc<dyn Storage>,
    sampler: Option<Box<dyn Sampler>>,
    seed: Option<u32>,
    pruner: Box<dyn Pruner>,
    heartbeat: Option<Duration>,
    take_over: bool,
    give_up_after: Option<usize>,
}

impl StudyBuilder {
    /// The direction; [`Direction::Minimize`] unless this is called.
    pub fn direction(self, direction: Direction) -> Self {
        self.directions([direction])
    }

    /// The directions of several objectives, whose values a trial ends with in this order.
    ///
    /// ```
    /// use firstsight_hpo::{Direction, Study, Suggest};
    /// let study = Study::builder("two").directions([Direction::Maximize, Direction::Minimize]).seed(1).create()?;
    /// study.optimize(30, |trial| {
    ///     let width = trial.int("width", 1..=100)? as f64;
    ///     let (accuracy, seconds) = (1.0 - 1.0 / width, (width - 3.0).abs() / 1000.0);
    ///     Ok([accuracy, seconds])
    /// })?;
    /// for trial in study.best_trials()? {
    ///     println!("width {}: {:?}", trial.params[0].value(), trial.values);
    /// }
    /// # Ok::<(), firstsight_hpo::Error>(())
    /// ```
    pub fn directions(self, directions: impl IntoIterator<Item = Direction>) -> Self {
        Self { directions: directions.into_iter().collect(), ..self }
    }

    /// The seed of the default sampler, [`Tpe`] with the settings of Optuna 4.
    ///
    /// A study needs either this or a [`sampler`](Self::sampler), which takes precedence.
    pub fn seed(self, seed: u32) -> Self {
        Self { seed: Some(seed), ..self }
    }

    /// The sampler, which proposes parameters.
    pub fn sampler(self, sampler: impl Sampler + 'static) -> Self {
        Self { sampler: Some(Box::new(sampler)), ..self }
    }

    /// The pruner, which stops trials early. Without one, no trial is pruned.
    pub fn pruner(self, pruner: impl Pruner + 'static) -> Self {
        Self { pruner: Box::new(pruner), ..self }
    }

    /// The storage of the study; memory unless this is called.
    pub fn storage(self, storage: impl Storage + 'static) -> Self {
        Self { storage: Arc::new(storage), ..self }
    }

    /// A storage that others use too, such as one by its [address](crate::storage::open).
    pub fn shared_storage(self, storage: Arc<dyn Storage>) -> Self {
        Self { storage, ..self }
    }

    /// The interval at which running trials of [`Study::optimize`] store a heartbeat. Before each trial, those
    /// without a heartbeat for twice as long are marked failed, or [taken over](Self::take_over).
    pub fn heartbeat(self, interval: Duration) -> Self {
        Self { heartbeat: Some(interval), ..self }
    }

    /// Trials of this and other such studies whose workers fell silent are not marked failed. The next worker runs the objective
    /// on the same trial, with its number, parameters and reports, which an objective that keeps checkpoints goes on from. A
    /// worker that comes back to life learns of it from [`Error::Taken`] and takes its next trial. Needs a
    /// [heartbeat](Self::heartbeat).
    pub fn take_over(self) -> Self {
        Self { take_over: true, ..self }
    }

    /// Ends [`Study::optimize`] with [`Error::GaveUp`] once `n` of its trials have failed for the same reason and no trial of
    /// the study is complete or pruned. Reasons that differ in their numbers alone are the same. Without this, every
    /// trial is run.
    pub fn give_up_after(self, n: usize) -> Self {
        Self { give_up_after: Some(n), ..self }
    }

    /// A new study.
    ///
    /// # Errors
    ///
    /// [`Error::StudyExists`] if the storage has one of that name; [`Error::InvalidSetting`] without a
    /// sampler and without a seed, and without a direction.
    pub fn create(self) -> Result<Study> {
        self.check_directions()?;
        let record = self.storage.create_study(&self.name, &self.directions)?;
        tracing::info!("A new study created with name: {}", self.name);
        self.open(record)
    }

    /// The study of that name that the storage holds. Its directions are the stored ones.
    ///
    /// # Errors
    ///
    /// [`Error::NoStudy`] if there is none.
    pub fn load(self) -> Result<Study> {
        let studies = self.storage.studies()?;
        match studies.iter().find(|s| s.name == self.name) {
            Some(record) => self.open(record.clone()),
            None => {
                Err(Error::NoStudy { name: self.name, known: studies.into_iter().map(|s| s.name).collect() })
            }
        }
    }

    /// The study of that name, which is created if the storage has none.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    pub fn load_or_create(self) -> Result<Study> {
        self.check_directions()?;
        let record = match self.storage.create_study(&self.name, &self.directions) {
            Err(Error::StudyExists { .. }) => return self.load(),
            created => created?,
        };
        self.open(record)
    }

    fn check_directions(&self) -> Result<()> {
        match self.directions.is_empty() {
            true => {
                let rule = "one direction or more";
                Err(Error::InvalidSetting { what: "directions", rule, found: "none".into() })
            }
            false => Ok(()),
        }
    }

    fn open(self, record: StudyRecord) -> Result<Study> {
        let sampler: Box<dyn Sampler> = match (self.sampler, self.seed) {
            (Some(sampler), _) => sampler,
            (None, Some(seed)) => Box::new(Tpe::new(TpeConfig::optuna4(seed))?),
            (None, None) => {
                let rule = "a sampler, or the seed of the default one";
                return Err(Error::InvalidSetting { what: "Study", rule, found: "neither".into() });
            }
        };
        Ok(Study {
            record,
            storage: self.storage,
            sampler: Arc::new(Mutex::new(sampler)),
            pruner: self.pruner,
            heartbeat: self.heartbeat,
            take_over: self.take_over,
            give_up_after: self.give_up_after,
            failures: Mutex::default(),
            snapshot: Mutex::new(Snapshot::default()),
            best: Mutex::new(Best::default()),
            stop: AtomicBool::new(false),
        })
    }
}

/// A search: its trials, the sampler and the pruner.
///
/// ```
/// use firstsight_hpo::{Study, Suggest, Tpe, TpeConfig};
/// let study = Study::builder("parabola").sampler(Tpe::new(TpeConfig::optuna4(1))?).create()?;
/// study.optimize(30, |trial| {
///     let x = trial.float("x", -5.0..=5.0)?;
///     Ok((x - 2.0).powi(2))
/// })?;
/// assert!(study.best_trial()?.value().unwrap() < 0.1);
///
/// // The same by hand.
/// let mut trial = study.ask()?;
/// let x = trial.float("x", -5.0..=5.0)?;
/// study.tell(&trial, (x - 2.0).powi(2))?;
/// assert_eq!(study.trials()?.len(), 31);
/// # Ok::<(), firstsight_hpo::Error>(())
/// ```
pub struct Study {
    record: StudyRecord,
    storage: Arc<dyn Storage>,
    sampler: SharedSampler,
    pruner: Box<dyn Pruner>,
    heartbeat: Option<Duration>,
    take_over: bool,
    give_up_after: Option<usize>,
    /// The number of failed trials of this run by reason.
    failures: Mutex<HashMap<String, usize>>,
    snapshot: Mutex<Snapshot>,
    best: Mutex<Best>,
    stop: AtomicBool,
}

/// The source of a trial's random numbers.
#[derive(Clone, Copy)]
enum Draws {
    /// The study's one stream, as in Optuna.
    Shared,
    /// A stream of the trial's own, so that trials may run side by side.
    Own,
}

/// The best trial among those seen so far.
#[derive(Default)]
struct Best {
    number: Option<usize>,
    /// Unfinished trials among those seen.
    open: Vec<usize>,
    looked_at: usize,
}

impl Study {
    /// A builder of the study of this name.
    pub fn builder(name: &str) -> StudyBuilder {
        StudyBuilder {
            name: name.into(),
            directions: vec![Direction::Minimize],
            storage: Arc::new(Memory::new()),
            sampler: None,
            seed: None,
            pruner: Box::new(NeverPrune),
            heartbeat: None,
            take_over: false,
            give_up_after: None,
        }
    }

    /// The study's name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// The direction of the first objective, which usually is the only one.
    pub fn direction(&self) -> Direction {
        self.record.directions.first().copied().unwrap_or_default()
    }

    /// The direction of each objective.
    pub fn directions(&self) -> &[Direction] {
        &self.record.directions
    }

    pub(crate) fn check_one_objective(&self, what: &'static str) -> Result<()> {
        match self.directions().len() {
            0 | 1 => Ok(()),
            n => Err(Error::OneObjective { study: self.name().into(), n, what }),
        }
    }

    /// The storage of the study.
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Attaches a value to the study.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] if the value has no JSON; those of the storage.
    pub fn set_user_attr(&self, key: &str, value: impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value)
            .map_err(|source| Error::Json { what: format!("user attribute `{key}`"), source })?;
        self.storage.set_study_attr(self.record.id, key, &value)
    }

    /// Every trial, by number.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    pub fn trials(&self) -> Result<Vec<Arc<FrozenTrial>>> {
        Ok(self.synced()?.trials().to_vec())
    }

    /// The complete trial with the best value; of equals, the first.
    ///
    /// # Errors
    ///
    /// [`Error::NoCompleteTrial`] if there is none, [`Error::OneObjective`] in a study of several.
    pub fn best_trial(&self) -> Result<Arc<FrozenTrial>> {
        self.check_one_objective("the best trial")?;
        self.find_best()?.ok_or_else(|| Error::NoCompleteTrial { study: self.name().into() })
    }

    /// The Pareto front: the complete trials to which no other is preferable, being at least as good in each objective and better in
    /// one. With one objective, all that share the best value.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    pub fn best_trials(&self) -> Result<Vec<Arc<FrozenTrial>>> {
        let trials = self.trials()?;
        let n = self.directions().len();
        let complete: Vec<_> = trials
            .into_iter()
            .filter(|trial| trial.state == TrialState::Complete && trial.values.len() == n)
            .collect();
        let rows: Vec<_> = complete.iter().map(|trial| losses(trial, self.directions())).collect();
        let on_front = pareto::front(&rows);
        Ok(complete.into_iter().zip(on_front).filter(|(_, on)| *on).map(|(trial, _)| trial).collect())
    }

    fn find_best(&self) -> Result<Option<Arc<FrozenTrial>>> {
        let snapshot = self.synced()?;
        let trials = snapshot.trials();
        let mut best = self.best.lock().map_err(|_| Error::Poisoned { what: "the best trial" })?;
        let mut look = std::mem::take(&mut best.open);
        look.extend(best.looked_at..trials.len());
        best.looked_at = trials.len();
        let loss = |number: usize| trials[number].value().map_or(f64::NAN, |v| self.direction().loss(v));
        for number in look {
            match trials[number].state {
                TrialState::Complete => {
                    let beaten =
                        best.number.is_none_or(|b| order(loss(number), loss(b)).then(number.cmp(&b)).is_lt());
                    if beaten {
                        best.number = Some(number);
                    }
                }
                state if state.is_finished() => {}
                _ => best.open.push(number),
            }
        }
        Ok(best.number.map(|number| trials[number].clone()))
    }

    fn synced(&self) -> Result<MutexGuard<'_, Snapshot>> {
        let mut snapshot = self.snapshot.lock().map_err(|_| Error::Poisoned { what: "the study" })?;
        self.storage.sync(self.record.id, &mut snapshot)?;
        Ok(snapshot)
    }

    fn view<'a>(&'a self, snapshot: &'a Snapshot) -> StudyView<'a> {
        StudyView { name: &self.record.name, directions: &self.record.directions, trials: snapshot.trials() }
    }

    /// Enqueues a trial with these parameters; the next [`Study::ask`] returns it. Other parameters are
    /// sampled.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    pub fn enqueue(&self, params: serde_json::Map<String, Value>) -> Result<usize> {
        self.enqueue_with(params, BTreeMap::new())
    }

    /// [`Study::enqueue`] with attributes, which the objective finds in the trial's record.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    pub fn enqueue_with(
        &self,
        params: serde_json::Map<String, Value>,
        user_attrs: BTreeMap<String, Value>,
    ) -> Result<usize> {
        let mut trial = FrozenTrial { user_attrs, ..FrozenTrial::new(0, 0, TrialState::Waiting) };
        trial.system_attrs.insert("fixed_params".into(), Value::Object(params));
        self.add_trial(&trial)
    }

    /// Adds a trial that ran elsewhere, and returns its number.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTrial`] if it is complete without a value for each objective, or a parameter's value is none of its kind; those
    /// of the storage.
    pub fn add_trial(&self, trial: &FrozenTrial) -> Result<usize> {
        if let Some((expected, found)) = trial.fault(self.directions().len()) {
            return Err(Error::InvalidTrial { expected, found });
        }
        Ok(self.storage.create_trial(self.record.id, trial, usize::MAX)?.number)
    }

    /// Starts a trial: the next enqueued one, otherwise a new one.
    ///
    /// # Errors
    ///
    /// Those of the storage and the sampler.
    pub fn ask(&self) -> Result<Trial<'_>> {
        self.ask_from(Draws::Shared, usize::MAX)
    }

    /// A trial, unless none waits and the study has `limit` of them.
    fn ask_from(&self, draws: Draws, limit: usize) -> Result<Trial<'_>> {
        let waiting = self.synced()?.trials().iter().find(|t| t.state == TrialState::Waiting).cloned();
        let mut claimed = None;
        if waiting.is_some() {
            for trial in self.trials()?.iter().filter(|t| t.state == TrialState::Waiting) {
                if self.storage.claim(trial.id)? {
                    for (key, value) in self.signs_of_life() {
                        self.storage.update(trial.id, &Change::SystemAttr { key, value: &value })?;
                    }
                    claimed = Some(trial.number);
                    break;
                }
            }
        }
        let mut record = match claimed {
            Some(number) => (*self.synced()?.trials()[number]).clone(),
            None => {
                let mut template = FrozenTrial::new(0, 0, TrialState::Running);
                let signs = self.signs_of_life().map(|(key, value)| (key.to_owned(), value));
                template.system_attrs.extend(signs);
                self.storage.create_trial(self.record.id, &template, limit)?
            }
        };
        let sampler = match draws {
            Draws::Shared => self.sampler.clone(),
            Draws::Own => Arc::new(Mutex::new(lock(&self.sampler)?.fork(record.number))),
        };
        let changes = {
            let snapshot = self.synced()?;
            lock(&sampler)?.before_trial(&self.view(&snapshot), &record)?
        };
        for (key, value) in &changes {
            let change = Change::SystemAttr { key, value };
            self.storage.update(record.id, &change)?;
            change.apply(&mut record);
        }
        Ok(Trial::new(self, sampler, record))
    }

    /// The attributes by which others see that a trial that begins has a worker.
    fn signs_of_life(&self) -> impl Iterator<Item = (&'static str, Value)> {
        let beat = self.heartbeat.map(|_| (HEARTBEAT, heartbeat()));
        let worker = self.heartbeat.filter(|_| self.take_over).map(|_| (WORKER, worker_name().into()));
        beat.into_iter().chain(worker)
    }

    /// A trial whose worker fell silent, which is this worker's now, or `None`. Those that cannot be taken over are marked failed.
    fn adopt(&self, draws: Draws) -> Result<Option<Trial<'_>>> {
        let Some(silence) = self.heartbeat.map(|interval| interval.saturating_mul(2)) else {
            return Ok(None);
        };
        for trial in self.storage.stale_trials(self.record.id, silence)? {
            if !(self.take_over && trial.system_attrs.contains_key(WORKER)) {
                self.fail_silent(&trial, silence)?;
            } else if self.storage.take_over(trial.id, silence, &worker_name())? {
                tracing::warn!(
                    "Trial {} goes on here: its worker gave no sign of life for {silence:?}.",
                    trial.number
                );
                let record = (*self.synced()?.trials()[trial.number]).clone();
                let sampler = match draws {
                    Draws::Shared => self.sampler.clone(),
                    Draws::Own => Arc::new(Mutex::new(lock(&self.sampler)?.fork(record.number))),
                };
                return Ok(Some(Trial::taken_over(self, sampler, record)));
            }
        }
        Ok(None)
    }

    /// Whether the trial is still its worker's.
    pub(crate) fn check_worker(&self, record: &FrozenTrial) -> Result<()> {
        let Some(worker) = record.system_attrs.get(WORKER) else { return Ok(()) };
        match self.synced()?.trials().get(record.number) {
            Some(now) if now.system_attrs.get(WORKER) != Some(worker) => {
                Err(Error::Taken { number: record.number })
            }
            _ => Ok(()),
        }
    }

    /// Ends a trial and returns its final state, which is failed if a value is NaN or infinite, or there are not as many as objectives.
    ///
    /// # Errors
    ///
    /// [`Error::Finished`] if the trial is already finished, [`Error::Taken`] if another worker goes on with it; those of the
    /// storage.
    pub fn tell(&self, trial: &Trial<'_>, outcome: impl Into<Outcome>) -> Result<TrialState> {
        self.finish(trial.record(), outcome.into())
    }

    /// [`Study::tell`] by number, for a trial that was asked for elsewhere.
    ///
    /// # Errors
    ///
    /// [`Error::NoTrial`] if there is none of that number, [`Error::Finished`] if it is already finished.
    pub fn tell_number(&self, number: usize, outcome: impl Into<Outcome>) -> Result<TrialState> {
        let found = self.synced()?.trials().get(number).cloned();
        let count = self.synced()?.trials().len();
        let record = found.ok_or_else(|| Error::NoTrial { study: self.name().into(), number, count })?;
        self.finish(&record, outcome.into())
    }

    fn finish(&self, record: &FrozenTrial, outcome: Outcome) -> Result<TrialState> {
        let n = self.directions().len();
        let (state, values) = match outcome {
            Outcome::Complete(values) => match values.len() == n && values.iter().all(|v| v.is_finite()) {
                true => (TrialState::Complete, values),
                false => {
                    let expected = match n {
                        1 => "a finite value".to_owned(),
                        n => format!("{n} finite values"),
                    };
                    let found = match values[..] {
                        [value] => value.to_string(),
                        _ => format!("{values:?}"),
                    };
                    tracing::warn!(
                        target: OUTCOMES,
                        "Trial {} failed: expected {expected}, found {found}.",
                        record.number
                    );
                    (TrialState::Failed, Vec::new())
                }
            },
            Outcome::Pruned => {
                let last = record.last_report().map(|(_, value)| value);
                (TrialState::Pruned, last.filter(|value| value.is_finite()).into_iter().collect())
            }
            Outcome::Failed => (TrialState::Failed, Vec::new()),
        };
        self.check_worker(record)?;
        self.storage.update(record.id, &Change::State { state, values: &values, at: now() })?;
        let stop = {
            let snapshot = self.synced()?;
            lock(&self.sampler)?.after_trial(&self.view(&snapshot), record)?
        };
        if stop {
            self.stop();
        }
        self.log(record.number)?;
        Ok(state)
    }

    /// Logs the outcome of a trial in Optuna's words.
    fn log(&self, number: usize) -> Result<()> {
        if !tracing::enabled!(target: OUTCOMES, tracing::Level::INFO) {
            return Ok(());
        }
        let trial = self.synced()?.trials()[number].clone();
        let params = python::dict(trial.params.iter().map(|p| (&*p.name, p.value())));
        match (trial.state, &trial.values[..]) {
            (TrialState::Complete, &[value]) => {
                let value = python::float(value);
                let mut line =
                    format!("Trial {number} finished with value: {value} and parameters: {params}.");
                if let Some(best) = self.find_best()? {
                    let value = best.value().map(python::float).unwrap_or_default();
                    let _ = write!(line, " Best is trial {} with value: {value}.", best.number);
                }
                tracing::info!(target: OUTCOMES, "{line}");
            }
            (TrialState::Complete, values) => {
                let values: Vec<String> = values.iter().copied().map(python::float).collect();
                tracing::info!(
                    target: OUTCOMES,
                    "Trial {number} finished with values: [{}] and parameters: {params}.",
                    values.join(", ")
                );
            }
            (TrialState::Pruned, _) => tracing::info!(target: OUTCOMES, "Trial {number} pruned."),
            (state, _) => {
                tracing::warn!(target: OUTCOMES, "Trial {number} {state} with parameters: {params}.");
            }
        }
        Ok(())
    }

    /// Marks running trials without a heartbeat for that long as failed, and returns their numbers.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    pub fn fail_stale(&self, silence: Duration) -> Result<Vec<usize>> {
        let mut failed = Vec::new();
        for trial in self.storage.stale_trials(self.record.id, silence)? {
            if self.fail_silent(&trial, silence)? {
                failed.push(trial.number);
            }
        }
        Ok(failed)
    }

    /// Running trials whose workers give no sign of life for twice the [heartbeat](StudyBuilder::heartbeat): killed ones, which the
    /// next worker fails or takes over. None without a heartbeat.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    pub fn silent_trials(&self) -> Result<Vec<usize>> {
        let Some(interval) = self.heartbeat else { return Ok(Vec::new()) };
        let silent = self.storage.stale_trials(self.record.id, interval.saturating_mul(2))?;
        Ok(silent.iter().map(|trial| trial.number).collect())
    }

    fn fail_silent(&self, trial: &FrozenTrial, silence: Duration) -> Result<bool> {
        let mark = Change::SystemAttr { key: ABANDONED, value: &Value::Bool(true) };
        let failure = Change::State { state: TrialState::Failed, values: &[], at: now() };
        let done =
            self.storage.update(trial.id, &mark).and_then(|()| self.storage.update(trial.id, &failure));
        match done {
            Err(Error::Finished { .. }) => Ok(false), // Another worker was faster.
            done => {
                tracing::warn!("Trial {} failed: no sign of life for {silence:?}.", trial.number);
                done.map(|()| true)
            }
        }
    }

    /// Ends [`Study::optimize`] after the running trials.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn begin(&self) -> Result<()> {
        self.stop.store(false, Ordering::Relaxed);
        self.failures.lock().map_err(|_| Error::Poisoned { what: "the failures" })?.clear();
        Ok(())
    }

    /// Runs the objective for `n_trials` trials, or until [`Study::stop`]. It returns a value, or as many as there are objectives.
    ///
    /// # Errors
    ///
    /// [`Error::Objective`] if the objective returns [`Stop::Abort`], which any error becomes through `?`;
    /// [`Error::GaveUp`], if that was [asked for](StudyBuilder::give_up_after); those of the storage.
    pub fn optimize<F, V>(&self, n_trials: usize, mut objective: F) -> Result<()>
    where
        F: FnMut(&mut Trial<'_>) -> std::result::Result<V, Stop>,
        V: Into<Outcome>,
    {
        self.begin()?;
        for _ in 0..n_trials {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            self.run_one(Draws::Shared, usize::MAX, &mut objective)?;
        }
        Ok(())
    }

    /// [`Study::optimize`] with several trials at a time.
    ///
    /// Each trial draws from a generator of its own, seeded by the sampler's seed and the trial's number,
    /// so a random search does not depend on `n_workers`. A TPE search depends on which trials had finished
    /// when another started, so it is not reproducible.
    ///
    /// # Errors
    ///
    /// As [`Study::optimize`]; the first error is returned once the running trials are over.
    pub fn optimize_parallel<F, V>(&self, n_workers: usize, n_trials: usize, objective: F) -> Result<()>
    where
        F: Fn(&mut Trial<'_>) -> std::result::Result<V, Stop> + Sync,
        V: Into<Outcome>,
    {
        self.begin()?;
        let taken = AtomicUsize::new(0);
        self.in_threads(n_workers.clamp(1, n_trials.max(1)), || {
            if taken.fetch_add(1, Ordering::Relaxed) >= n_trials {
                return Ok(false);
            }
            self.run_one(Draws::Own, usize::MAX, &objective).map(|()| true)
        })
    }

    /// [`Study::optimize_parallel`] until the study has `total` trials, however many workers and processes share it: each new trial is
    /// counted and added in one step. Trials that had failed before count as not there, as do those whose workers fell silent. With
    /// a [heartbeat](StudyBuilder::heartbeat), workers stay until the others' running trials are over, which they may have to repeat
    /// or to [take over](StudyBuilder::take_over).
    ///
    /// # Errors
    ///
    /// As [`Study::optimize_parallel`].
    pub fn optimize_total<F, V>(&self, n_workers: usize, total: usize, objective: F) -> Result<()>
    where
        F: Fn(&mut Trial<'_>) -> std::result::Result<V, Stop> + Sync,
        V: Into<Outcome>,
    {
        self.begin()?;
        let failed = |t: &&Arc<FrozenTrial>| t.state == TrialState::Failed;
        let before: HashSet<usize> = self.trials()?.iter().filter(failed).map(|t| t.number).collect();
        let not_there = |t: &&Arc<FrozenTrial>| {
            failed(t) && (before.contains(&t.number) || t.system_attrs.contains_key(ABANDONED))
        };
        let said = AtomicBool::new(false);
        self.in_threads(n_workers.max(1), || {
            let limit = total.saturating_add(self.synced()?.trials().iter().filter(not_there).count());
            match self.run_one(Draws::Own, limit, &objective) {
                Err(Error::Full { .. }) => {
                    let running = match self.heartbeat {
                        Some(_) => self.storage.stale_trials(self.record.id, Duration::ZERO)?.len(),
                        None => 0,
                    };
                    if running > 0 {
                        if !said.swap(true, Ordering::Relaxed) {
                            tracing::info!(target: WAITING, "Waiting for the running trials of other workers: {running}.");
                        }
                        std::thread::sleep(LOOK);
                    }
                    Ok(running > 0)
                }
                done => done.map(|()| true),
            }
        })
    }

    /// Calls `step` in several threads, in each until it returns false or the run is stopped. The first error stops the run.
    fn in_threads(&self, n: usize, step: impl Fn() -> Result<bool> + Sync) -> Result<()> {
        let first_error = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..n {
                scope.spawn(|| {
                    while !self.stop.load(Ordering::Relaxed) {
                        match step() {
                            Ok(true) => {}
                            Ok(false) => break,
                            Err(error) => {
                                self.stop();
                                if let Ok(mut first) = first_error.lock() {
                                    first.get_or_insert(error);
                                }
                            }
                        }
                    }
                });
            }
        });
        match first_error.into_inner() {
            Ok(Some(error)) => Err(error),
            Ok(None) => Ok(()),
            Err(_) => Err(Error::Poisoned { what: "the run" }),
        }
    }

    fn run_one<F, V>(&self, draws: Draws, limit: usize, mut objective: F) -> Result<()>
    where
        F: FnMut(&mut Trial<'_>) -> std::result::Result<V, Stop>,
        V: Into<Outcome>,
    {
        let mut trial = match self.adopt(draws)? {
            Some(trial) => trial,
            None => self.ask_from(draws, limit)?,
        };
        let number = trial.number();
        let result = self.alive(trial.record().id, || objective(&mut trial).map(Into::into))?;
        let outcome = match &result {
            Ok(outcome) => outcome.clone(),
            Err(Stop::Pruned) => Outcome::Pruned,
            Err(Stop::Failed(error)) => {
                tracing::warn!(
                    target: OUTCOMES,
                    "Trial {number} failed because of the following error: {error}."
                );
                Outcome::Failed
            }
            Err(Stop::Abort(_)) => Outcome::Failed,
        };
        let state = match self.tell(&trial, outcome) {
            Err(error) if is_taken(&error, number) => {
                tracing::warn!("{error}; its outcome here is dropped.");
                return match result {
                    Err(Stop::Abort(source)) if !is_taken(&*source, number) => {
                        Err(Error::Objective { number, source })
                    }
                    _ => Ok(()),
                };
            }
            told => told?,
        };
        match result {
            Ok(Outcome::Complete(values)) if state == TrialState::Failed => {
                let values: Vec<String> = values.iter().map(f64::to_string).collect();
                self.count_failure(format!("the value is {}", values.join(", ")))
            }
            Err(Stop::Failed(error)) => self.count_failure(error.to_string()),
            Err(Stop::Abort(source)) => Err(Error::Objective { number, source }),
            _ => Ok(()),
        }
    }

    /// Ends the run if enough trials have failed for this reason.
    fn count_failure(&self, reason: String) -> Result<()> {
        let Some(limit) = self.give_up_after else { return Ok(()) };
        // One reason may name each trial's own numbers.
        let kind = reason.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty()).collect();
        let mut failures = self.failures.lock().map_err(|_| Error::Poisoned { what: "the failures" })?;
        let failed = failures.entry(kind).or_default();
        *failed += 1;
        let failed = *failed;
        drop(failures);
        let of_use =
            |trial: &Arc<FrozenTrial>| matches!(trial.state, TrialState::Complete | TrialState::Pruned);
        if failed < limit || self.trials()?.iter().any(of_use) {
            return Ok(());
        }
        Err(Error::GaveUp { study: self.name().into(), failed, reason })
    }

    /// Runs the work while a second thread records the heartbeat, if the study has one.
    fn alive<T>(&self, trial: i64, work: impl FnOnce() -> T) -> Result<T> {
        let Some(interval) = self.heartbeat else { return Ok(work()) };
        let (over, wait) = std::sync::mpsc::channel::<()>();
        Ok(std::thread::scope(|scope| {
            scope.spawn(move || {
                while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = wait.recv_timeout(interval) {
                    match self.storage.heartbeat(trial) {
                        Ok(()) => {}
                        // Another worker has ended it, which this one's next report or end finds.
                        Err(Error::Finished { .. }) => break,
                        Err(error) => tracing::warn!("No heartbeat: {error}"),
                    }
                }
            });
            let result = work();
            drop(over);
            result
        }))
    }

    pub(crate) fn prune(&self, record: &FrozenTrial) -> Result<(bool, Attrs)> {
        let snapshot = self.synced()?;
        self.pruner.prune(&self.view(&snapshot), record)
    }

    pub(crate) fn sample_relative(
        &self,
        sampler: &SharedSampler,
        record: &FrozenTrial,
    ) -> Result<(Vec<Param>, Attrs)> {
        let snapshot = self.synced()?;
        lock(sampler)?.sample_relative(&self.view(&snapshot), record)
    }

    pub(crate) fn sample_independent(
        &self,
        sampler: &SharedSampler,
        record: &FrozenTrial,
        name: &str,
        distribution: &Distribution,
    ) -> Result<f64> {
        let snapshot = self.synced()?;
        lock(sampler)?.sample_independent(&self.view(&snapshot), record, name, distribution)
    }
}

/// Whether an error, or one behind it, says that the trial is no longer this worker's.
fn is_taken(error: &(dyn std::error::Error + 'static), trial: usize) -> bool {
    let this = match error.downcast_ref() {
        Some(Error::Finished { number, .. } | Error::Taken { number }) => *number == trial,
        _ => false,
    };
    this || error.source().is_some_and(|source| is_taken(source, trial))
}

fn lock(sampler: &SharedSampler) -> Result<MutexGuard<'_, Box<dyn Sampler>>> {
    sampler.lock().map_err(|_| Error::Poisoned { what: "the sampler" })
}
