//! Trials in TensorBoard and MLflow.

use std::path::Path;

use firstsight_hpo::{Stop, Trial};
use firstsight_log::{Ending, TrainingLog};
use firstsight_transfer::{RunFolder, Split};

use super::{Work, is_anothers};
use crate::logs::setting;

/// The log of a trial, whose folder outlives the trial's own, which another worker replaces.
pub(super) fn log<'a>(run: &'a RunFolder, out: &Path, trial: &Trial<'_>, work: Work<'a>) -> TrainingLog<'a> {
    let Work { args, context, targets, .. } = work;
    let number = trial.number();
    let mut settings = vec![
        setting("command", "tune"),
        setting("data", args.data.path().display()),
        setting("study", &args.study),
        setting("trial", number),
        setting("seed", context.seed),
    ];
    settings.extend(trial.record().params.iter().map(|param| setting(&param.name, param.value())));
    let resume = run.has_checkpoint() || trial.is_taken_over();
    TrainingLog::new(targets, (run, resume), settings, &context.runtime)
        .place(out.join("logs").join(number.to_string()), format!("{}-{number}", args.study))
}

/// Logs the values of a trial, and how it ended.
pub(super) fn end(
    mut log: TrainingLog<'_>,
    values: &Result<Vec<f64>, Stop>,
    Work { context, goal, .. }: Work<'_>,
) {
    let ending = match values {
        Ok(values) => {
            goal.keys().zip(values).for_each(|(name, value)| log.figure(Split::Val, &name, *value));
            Ending::Finished
        }
        Err(Stop::Abort(error)) if is_anothers(&**error) => return,
        Err(Stop::Pruned) => Ending::Interrupted,
        Err(_) if context.runtime.interrupt.is_raised() => Ending::Interrupted,
        Err(_) => Ending::Failed,
    };
    log.end(ending);
}
