//! What a search keeps in a folder: its trials' checkpoints, and the winner as a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use firstsight_data::Task;
use firstsight_hpo::{FrozenTrial, Study, Trial, TrialState};
use firstsight_report::escape_markup;
use firstsight_transfer::{
    DecodedSplits, Evaluation, LabelsEvaluation, RunFolder, TaskEvaluation, ValueEvaluation, report_sections,
    training::Training,
};
use serde_json::Value;

use super::{Subject, Work, space::training};

/// Attribute of a trial that goes on from another's checkpoint: that one's number.
const CONTINUES: &str = "continues";
/// Attribute of a trial that is not pruned, since it goes on with a pruned one.
const TAKEN_UP: &str = "taken_up";

/// The folder of the trial of that number.
fn path(out: &Path, number: usize) -> PathBuf {
    out.join("trials").join(number.to_string())
}

fn continues(trial: &FrozenTrial) -> Option<usize> {
    Some(trial.user_attrs.get(CONTINUES)?.as_u64()? as usize)
}

/// Whether the trial goes on with a pruned one.
pub(super) fn is_taken_up(trial: &Trial<'_>) -> bool {
    trial.record().user_attrs.contains_key(TAKEN_UP)
}

/// The trial's folder, with the checkpoint that it goes on from: its own where it was taken over, or that of the trial that it
/// continues.
pub(super) fn folder(out: &Path, trial: &Trial<'_>) -> firstsight_transfer::Result<RunFolder> {
    let path_here = path(out, trial.number());
    let run = match trial.is_taken_over() {
        true => RunFolder::take_over(&path_here)?,
        false => RunFolder::reopen(&path_here, false)?,
    };
    if let (Some(number), false) = (continues(trial.record()), run.has_checkpoint()) {
        let other = RunFolder::reopen(&path(out, number), true)?;
        if other.has_checkpoint() {
            run.copy_checkpoint(&other)?;
        }
    }
    Ok(run)
}

/// Enqueues an interrupted trial's settings, for a later command to go on from its checkpoint.
pub(super) fn put_back(study: &Study, trial: &Trial<'_>) -> firstsight_hpo::Result<usize> {
    let record = trial.record();
    let mut attrs = BTreeMap::from([(CONTINUES.to_owned(), Value::from(record.number))]);
    attrs.extend(record.user_attrs.get_key_value(TAKEN_UP).map(|(key, value)| (key.clone(), value.clone())));
    study.enqueue_with(record.params_json(), attrs)
}

/// Enqueues pruned trials, each to go on unpruned, unless that has been done.
pub(super) fn take_up(study: &Study, out: &Path, numbers: &[usize]) -> Result<()> {
    let trials = study.trials()?;
    for &number in numbers {
        match trials.get(number) {
            None => bail!("--take-up {number}: the study has {} trials", trials.len()),
            Some(trial) if trial.state != TrialState::Pruned => {
                bail!("--take-up {number}: that trial is {}, not pruned", trial.state)
            }
            Some(_) if !RunFolder::reopen(&path(out, number), true)?.has_checkpoint() => {
                bail!("--take-up {number}: {} holds no checkpoint", path(out, number).display())
            }
            Some(_) if trials.iter().any(|other| continues(other) == Some(number)) => {
                log!("trial {number} is taken up already");
            }
            Some(trial) => {
                let attrs = BTreeMap::from([
                    (CONTINUES.to_owned(), Value::from(number)),
                    (TAKEN_UP.to_owned(), Value::Bool(true)),
                ]);
                let new = study.enqueue_with(trial.params_json(), attrs)?;
                log!("trial {number} goes on as trial {new}");
            }
        }
    }
    Ok(())
}

/// Removes the runs of trials that an earlier call found on the Pareto front and that are not there any more.
pub(super) fn clear_front(out: &Path, front: &[Arc<FrozenTrial>]) -> Result<()> {
    let entries = std::fs::read_dir(out.join("front")).into_iter().flatten().flatten();
    for entry in entries {
        let number: Option<usize> = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if number.is_some_and(|number| front.iter().all(|trial| trial.number != number)) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Makes the trial's folder a run, from its checkpoint or, where that is not there, by the same training again, and copies it to
/// the folder `to`.
pub(super) fn winner(out: &Path, best: &FrozenTrial, to: &Path, work: Work<'_>) -> Result<PathBuf> {
    let Work { args, space, context, subject, .. } = work;
    let run = RunFolder::reopen(&path(out, best.number), true)?;
    let settings = space.replay(best)?;
    match subject {
        Subject::FineTunings(tunings) => {
            context.runtime.message(&format!("keeping trial {} as a run: {}", best.number, to.display()));
            tunings.complete(&run, &tunings.plan(&settings, args, context.seed)?, context)?;
        }
        Subject::Trainings(splits) => {
            let plan = &training(&settings, args, context.seed)?;
            match splits.target().task() {
                Task::SingleLabel => complete::<Evaluation>(&run, plan, splits, work)?,
                Task::MultiLabel => complete::<LabelsEvaluation>(&run, plan, splits, work)?,
                Task::Regression => complete::<ValueEvaluation>(&run, plan, splits, work)?,
            }
        }
    }
    let best = RunFolder::reopen(to, true)?;
    best.copy_results(&run)?;
    Ok(best.path().to_owned())
}

fn complete<E: TaskEvaluation>(
    run: &RunFolder,
    plan: &Training,
    splits: &DecodedSplits,
    Work { args, context, .. }: Work<'_>,
) -> Result<()> {
    let trained = plan.run_task::<E>(splits, run, run.has_checkpoint(), &context.runtime)?;
    let source = escape_markup(&args.data.path().display().to_string());
    report_sections::run_report(plan, splits, &trained, &source, &context.runtime)?.write(&run.report())?;
    match trained.failure {
        Some(failure) => Err(failure.into()),
        None => Ok(()),
    }
}
