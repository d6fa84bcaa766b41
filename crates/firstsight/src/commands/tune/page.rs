//! A search as a report.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use firstsight_hpo::{FrozenTrial, TrialState};
use firstsight_lecture::search_report;
use firstsight_report::{Report, escape_markup, number};
use firstsight_transfer::report_sections;

use super::{Work, subject::Subject};

/// The search as a report.
pub(super) fn page(
    Work { args, space, context, subject, goal, .. }: Work<'_>,
    (trials, silent): (&[Arc<FrozenTrial>], &[usize]),
    (best, front): (Option<&FrozenTrial>, &[Arc<FrozenTrial>]),
    time: Duration,
) -> Result<Report> {
    let target = subject.target();
    let source = escape_markup(&args.data.path().display().to_string());
    let (n_train, n_val) = subject.counts();
    let (models, training) = match subject {
        Subject::Trainings(_) => {
            let models = args.model.iter().map(|model| model.name).collect();
            let patience = format!("patience {}", args.patience());
            // A space may say how many epochs.
            let stated = space.stated.has("epochs");
            (models, if stated { patience } else { format!("at most {} epochs, {patience}", args.epochs()) })
        }
        Subject::FineTunings(tunings) => {
            (tunings.backbones.models(), format!("fine-tuning, preset {}", args.preset().name()))
        }
    };
    let models: Vec<&str> = models;
    let count = |state| trials.iter().filter(|trial| trial.state == state).count();
    let running = match (count(TrialState::Running), silent.len()) {
        (0, _) => String::new(),
        (n, 0) => format!(", {n} running"),
        (n, silent) => format!(", {n} running, {silent} of them without a sign of life"),
    };
    let mut report = Report::new(&format!("Firstsight: a search for settings of {}", models.join(", ")));
    report.facts(&[
        ("data", args.data.path().display().to_string()),
        ("images", format!("{n_train} training, {n_val} validation")),
        report_sections::labels(target.task(), subject.classes()),
        (
            "trials",
            format!(
                "{} complete, {} pruned, {} failed{running}",
                count(TrialState::Complete),
                count(TrialState::Pruned),
                count(TrialState::Failed)
            ),
        ),
        ("training", training),
        ("seed", context.seed.to_string()),
        ("device", context.runtime.device_name.clone()),
        ("time", format!("{} for the trials of this call", number::duration(time))),
    ]);
    if args.space.is_some() {
        // What the command names is in the title.
        let stated = space.stated.describe().into_iter();
        let stated = stated.filter(|(name, _)| !["model", "backbone"].contains(name));
        report.facts(&stated.map(|(name, values)| (name, values.replace('`', ""))).collect::<Vec<_>>());
    }
    if let Subject::FineTunings(tunings) = subject {
        report.facts(&[("weights", tunings.backbones.origins().join(", "))]);
    }
    if let Some(provenance) = subject.provenance() {
        report.facts(&provenance.facts());
    }
    let names = goal.names();
    if goal.are_many() {
        let objectives: Vec<_> = names.into_iter().map(str::to_owned).zip(goal.directions()).collect();
        let (objectives, source) = (&objectives[..], source.as_str());
        let search = search_report::ManySearch { trials, front, objectives, source, seed: 0 };
        search.show(&mut report, "The search")?;
    } else {
        let search = search_report::Search {
            trials,
            best,
            direction: goal.directions().first().copied().unwrap_or_default(),
            value: names.first().copied().unwrap_or_default(),
            limit: None,
            source: &source,
            seed: 0,
        };
        search.show(report.section(None, "The trials"), "The search")?;
    }
    if let Some(provenance) = subject.provenance() {
        report_sections::files(&mut report, &provenance.files, subject.root());
    }
    Ok(report)
}
