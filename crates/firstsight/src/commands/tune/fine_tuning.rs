//! Trials that are fine-tunings of pretrained networks.

use std::ops::ControlFlow;

use anyhow::{Result, bail};
use firstsight_data::{AugmentationConfig, Crops, OnError, ResizeMode, Task};
use firstsight_hpo::{Settings, Stop, Study, Trial};
use firstsight_train::{BatchEnd, Callback, Epoch, EpochEnd, StopReason, TrainBegin};
use firstsight_transfer::{
    BlockRates, Evaluation, FineTuning, LabelsEvaluation, LearningRate, Preset, Pretrained, Provenance,
    RunFolder, Runtime, Splits, TaskEvaluation, ValueEvaluation,
};

use super::space::there;
use super::{Args, Place, Pruning, Work, failed, kept};
use crate::{context::Context, hub, progress::TrialProgress, values};

/// Photos, and the networks to fine-tune on them.
pub(super) struct FineTunings {
    pub(super) splits: Splits,
    pub(super) provenance: Provenance,
    pub(super) backbones: Backbones,
}

/// The pretrained networks of a search.
pub(super) struct Backbones(Vec<(String, Pretrained)>);

impl Backbones {
    /// Those that the arguments name, fetched if need be.
    pub(super) fn locate(args: &Args, runtime: &Runtime) -> Result<Self> {
        let channels = args.input.map(|input| input.channels);
        let find = |backbone: Option<&values::Backbone>, weights: Option<&str>| -> Result<Pretrained> {
            let (model, weights) =
                values::model_and_weights(backbone, weights).map_err(anyhow::Error::msg)?;
            hub::locate_any(model, weights, channels, runtime)
        };
        let named = args.backbone.iter().map(ToString::to_string);
        let labels: Vec<String> =
            if args.backbone.is_empty() { args.weights.clone() } else { named.collect() };
        let found: Vec<Pretrained> = match (&args.backbone[..], &args.weights[..]) {
            ([], weights) => weights.iter().map(|text| find(None, Some(text))).collect::<Result<_>>()?,
            (backbones, []) => backbones.iter().map(|name| find(Some(name), None)).collect::<Result<_>>()?,
            ([backbone], [weights]) => vec![find(Some(backbone), Some(weights))?],
            _ => bail!(
                "--backbone or --weights is given several times: then name networks by one of them alone"
            ),
        };
        for (i, label) in labels.iter().enumerate() {
            if labels[..i].contains(label) {
                bail!("{label} is named twice: each network once");
            }
        }
        Ok(Self(labels.into_iter().zip(found).collect()))
    }

    /// What the search calls them.
    pub(super) fn labels(&self) -> Vec<String> {
        self.0.iter().map(|(label, _)| label.clone()).collect()
    }

    /// The names of the networks.
    pub(super) fn models(&self) -> Vec<&'static str> {
        self.0.iter().map(|(_, weights)| weights.model.name).collect()
    }

    /// Where their weights come from.
    pub(super) fn origins(&self) -> Vec<String> {
        self.0.iter().map(|(_, weights)| weights.origin.clone()).collect()
    }

    /// The largest number of blocks of one of them.
    pub(super) fn most_blocks(&self) -> Result<usize> {
        let counts = self.0.iter().map(|(_, weights)| Ok(weights.blocks()?.len()));
        Ok(counts.collect::<Result<Vec<usize>>>()?.into_iter().max().unwrap_or(0))
    }

    fn get(&self, label: &str) -> Option<&Pretrained> {
        self.0.iter().find(|(known, _)| known == label).map(|(_, weights)| weights)
    }
}

/// A fine-tuning of a network.
pub(super) struct Plan<'a> {
    pub(super) settings: FineTuning,
    pub(super) pretrained: &'a Pretrained,
}

impl FineTunings {
    /// The fine-tuning of a trial's settings.
    pub(super) fn plan(
        &self,
        settings: &Settings,
        args: &Args,
        seed: u64,
    ) -> firstsight_hpo::Result<Plan<'_>> {
        let pretrained = settings.text("backbone").and_then(|label| self.backbones.get(label));
        let pretrained = there("backbone", pretrained)?;
        let text = |name| there(name, settings.text(name));
        let whole = |name| settings.int(name).and_then(|n| usize::try_from(n).ok());
        let preset = FineTuning::preset(args.preset.unwrap_or(Preset::Standard), seed);
        let factors = settings.list("block_rate").map(BlockRates::Factors);
        let smoothing = match self.splits.target().task() {
            Task::Regression => 0.0,
            _ => preset.augmentation.label_smoothing,
        };
        let typed = args.input.map(|input| (input.height, input.width));
        let settings = FineTuning {
            input_size: whole("input_size").map(|side| (side, side)).or(typed),
            resize_modes: match text("crop")? {
                "squash" => vec![ResizeMode::Squash],
                "center" => vec![ResizeMode::CenterCrop],
                _ => preset.resize_modes.clone(),
            },
            blocks: whole("blocks"),
            epochs: whole("epochs").or(args.epochs),
            lr: settings.float("learning_rate").map(LearningRate::Value),
            batch_size: whole("batch_size"),
            block_rates: factors.or(settings.float("layer_decay").map(BlockRates::Decay)),
            weight_decay: settings.float("weight_decay"),
            update_statistics: there("update_statistics", settings.flag("update_statistics"))?,
            class_balanced: there("class_balanced", settings.flag("class_balanced"))?,
            augmentation: AugmentationConfig {
                preset: there("augment", text("augment")?.parse().ok())?,
                mix: None,
                label_smoothing: settings.float("label_smoothing").unwrap_or(smoothing),
                crops: if text("crops_from")? == "full" { Crops::Full } else { Crops::Reduced },
            },
            reading: args.reading.reading(),
            on_error: args.on_error.policy(OnError::Fail),
            ..preset
        };
        Ok(Plan { settings, pretrained })
    }

    /// The values of a trial: those of what the fine-tuning keeps.
    pub(super) fn objective(
        &self,
        trial: &mut Trial<'_>,
        study: &Study,
        plan: &Plan<'_>,
        work: Work<'_>,
        place: Place<'_>,
        bar: TrialProgress,
    ) -> Result<Vec<f64>, Stop> {
        match self.splits.target().task() {
            Task::SingleLabel => self.measured::<Evaluation>(trial, study, plan, work, place, bar),
            Task::MultiLabel => self.measured::<LabelsEvaluation>(trial, study, plan, work, place, bar),
            Task::Regression => self.measured::<ValueEvaluation>(trial, study, plan, work, place, bar),
        }
    }

    fn measured<E: TaskEvaluation>(
        &self,
        trial: &mut Trial<'_>,
        study: &Study,
        plan: &Plan<'_>,
        Work { context, goal, .. }: Work<'_>,
        (run, log): Place<'_>,
        bar: TrialProgress,
    ) -> Result<Vec<f64>, Stop> {
        let monitor = self.splits.target().monitor();
        let pruning = Pruning::new(trial, goal, &monitor, None, log.map(|log| log as &mut dyn Callback));
        let mut observer = Observer { bar, pruning };
        let runtime = silent(context);
        let (keeps, place) = (run.is_some(), run.map(|run| (run, run.has_checkpoint())));
        let settings = &plan.settings;
        let result =
            settings.fit_observed::<E>(plan.pretrained, &self.splits, place, &mut observer, &runtime);
        let Pruning { trial, pruned, error, .. } = observer.pruning;
        if let Some(error) = error {
            return Err(error.into());
        }
        let failed = |error: firstsight_transfer::Error| failed(error, trial, study, keeps);
        let result = result.map_err(failed)?;
        if pruned {
            return Err(Stop::Pruned);
        }
        if let Some(failure) = result.failure {
            return Err(failed(failure));
        }
        if result.history.interrupted() {
            if keeps {
                kept::put_back(study, trial)?;
            }
            return Err(Stop::failed("interrupted"));
        }
        let metrics = result.val.metrics();
        let value = monitor.value(&Epoch { train: metrics.clone(), val: Some(metrics.clone()) });
        goal.measure((value, Some(metrics)), &result.model.network, &context.runtime).map_err(failed)
    }

    /// Makes the folder of a trial a run: its fine-tuning is resumed, or done again where there is no checkpoint.
    pub(super) fn complete(&self, run: &RunFolder, plan: &Plan<'_>, context: &Context) -> Result<()> {
        match self.splits.target().task() {
            Task::SingleLabel => self.complete_task::<Evaluation>(run, plan, context),
            Task::MultiLabel => self.complete_task::<LabelsEvaluation>(run, plan, context),
            Task::Regression => self.complete_task::<ValueEvaluation>(run, plan, context),
        }
    }

    fn complete_task<E: TaskEvaluation>(
        &self,
        run: &RunFolder,
        plan: &Plan<'_>,
        context: &Context,
    ) -> Result<()> {
        let place = Some((run, run.has_checkpoint()));
        let runtime = silent(context);
        let result = plan.settings.fit_task::<E>(plan.pretrained, &self.splits, place, &runtime)?;
        result.save_to(run)?;
        match result.failure {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }
}

/// A runtime for fine-tunings, since what each has to say would drown the search.
fn silent(context: &Context) -> Runtime {
    context.runtime.clone().progress(|_| ())
}

/// Shows a fine-tuning's batches and reports its epochs.
struct Observer<'t, 's> {
    bar: TrialProgress,
    pruning: Pruning<'t, 's>,
}

impl Observer<'_, '_> {
    /// An error ends the fine-tuning before its folder is written, which may be another worker's by now.
    fn checked(&self, flow: ControlFlow<StopReason>) -> firstsight_train::Result<ControlFlow<StopReason>> {
        match &self.pruning.error {
            None => Ok(flow),
            Some(error) => Err(firstsight_train::Error::Callback(error.to_string().into())),
        }
    }
}

impl Callback for Observer<'_, '_> {
    fn on_train_begin(
        &mut self,
        begin: &TrainBegin<'_>,
    ) -> firstsight_train::Result<ControlFlow<StopReason>> {
        let _ = self.bar.on_train_begin(begin)?;
        let flow = self.pruning.on_train_begin(begin)?;
        self.checked(flow)
    }

    fn on_batch_end(&mut self, end: &BatchEnd<'_>) -> firstsight_train::Result<ControlFlow<StopReason>> {
        let _ = self.bar.on_batch_end(end)?;
        Ok(ControlFlow::Continue(()))
    }

    fn on_epoch_end(&mut self, end: &EpochEnd<'_>) -> firstsight_train::Result<ControlFlow<StopReason>> {
        let _ = self.bar.on_epoch_end(end)?;
        let flow = self.pruning.on_epoch_end(end)?;
        self.checked(flow)
    }
}
