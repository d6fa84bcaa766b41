//! The report of a fine-tuned run: training, figures, mistakes, calibration.

use firstsight_data::{ResizeMode, Task};
use firstsight_report::{Column, Figure, LineChart, Report, Section, Series, Table, escape_markup, number};

use firstsight_train::Metrics;

use super::{FineTuneResult, Kept};
use crate::report_sections;
use crate::{Result, Split, TaskEvaluation};

impl<E: TaskEvaluation> FineTuneResult<E> {
    /// The report of the run.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Report`] for figures that cannot be drawn.
    pub fn report(&self) -> Result<Report> {
        report(self)
    }
}

fn report<E: TaskEvaluation>(result: &FineTuneResult<E>) -> Result<Report> {
    let model = result.pretrained.model;
    let source = &escape_markup(&result.source.display().to_string());
    let mut report = Report::new(&format!("Firstsight: {model}, fine-tuned"));
    let seconds = result.seconds;
    let total = seconds.features + seconds.head + seconds.tuning + seconds.measuring;
    let mut facts = vec![
        ("data", result.source.display().to_string()),
        ("images", format!("{} training, {} validation", result.n_train, result.val.images().len())),
        report_sections::labels(E::TASK, result.val.images().classes()),
        ("weights", result.pretrained.origin.clone()),
        ("preset", result.settings.preset.name().to_owned()),
        ("seed", result.settings.seed.to_string()),
        ("device", result.device_name.clone()),
        ("time", number::duration(std::time::Duration::from_secs_f64(total))),
    ];
    if let Some(license) = result.pretrained.license {
        facts.push(("license of the weights", license.to_owned()));
    }
    facts.extend(result.provenance.facts());
    report.facts(&facts);
    let (name, held_out) = result.held_out();
    let split = if result.test.is_some() { Split::Test } else { Split::Val };
    let seen = result.seen.iter().find(|seen| seen.split == split).map(|seen| escape_markup(&seen.part()));
    let part = if let Some(seen) = &seen {
        seen
    } else if result.test.is_none() && result.refit.is_some() {
        "before the last layer was trained on them too"
    } else if result.test.is_none() && result.recipe.tuning.is_some() {
        match E::TASK {
            Task::MultiLabel => {
                "which chose the epoch and the thresholds and played no other part in training"
            }
            Task::SingleLabel | Task::Regression => {
                "which chose the epoch and played no other part in training"
            }
        }
    } else if result.test.is_none() && E::TASK == Task::MultiLabel {
        "which played no part in training but for the thresholds"
    } else {
        "which played no part in training"
    };
    report.lead(&held_out.lead(name, part));

    what_was_done(result, report.section(None, "What was done"), source);
    figures(result, report.section(None, "The figures"), model.name);
    held_out.show(&mut report, name, result.reject.as_ref(), &result.data, source)?;
    layers(result, report.section(None, "The network"));
    report_sections::files(&mut report, &result.provenance.files, &result.data);
    Ok(report)
}

fn what_was_done<E: TaskEvaluation>(result: &FineTuneResult<E>, section: &mut Section, source: &str) {
    let seconds = result.seconds;
    section.text(&format!(
        "The pretrained network ran once over the training images{}, which took {:.1} s, and a new last layer learned \
         from what came out, which took {:.1} s. Cross-validation on the training images chose how much it is \
         regularized.",
        if result.recipe.views.len() > 1 { ", as they are and mirrored" } else { "" },
        seconds.features,
        seconds.head
    ));
    if result.kept_from_weights {
        section.text(&format!(
            "The weights have a last layer of the same classes. It was kept, as the new one was no better on the validation \
             images{}.",
            escape_markup(&result.seen_of(Split::Val))
        ));
    }
    if !result.head.cross_validation.is_empty() {
        let with_accuracy = E::TASK == Task::SingleLabel;
        let columns = [Column::number("penalty λ"), Column::number("loss"), Column::number("accuracy")];
        let columns = columns.into_iter().take(if with_accuracy { 3 } else { 2 });
        let mut table = Table::new(
            "The last layer's cross-validation on the training images: the penalty of the lowest loss is chosen",
            columns,
        );
        for candidate in &result.head.cross_validation {
            let cells = [candidate.penalty.into(), candidate.loss.into()];
            let cells = cells.into_iter().chain(candidate.accuracy.map(Into::into));
            if candidate.penalty == result.head.penalty {
                table.highlighted_row(cells)
            } else {
                table.row(cells)
            };
        }
        section.table(table);
    }
    if result.resize_modes.len() > 1 {
        let columns = [Column::text("crop"), Column::number("lowest loss")];
        let of = match result.n_compared < result.n_train {
            true => format!(" on a sample of {} training images", result.n_compared),
            false => String::new(),
        };
        let title = format!("How photos are brought to the input's size, by cross-validation{of}");
        let mut table = Table::new(title, columns);
        for (crop, loss) in &result.resize_modes {
            let name = match crop {
                ResizeMode::CenterCrop => "the center",
                ResizeMode::Squash => "the whole photo, stretched",
            };
            let cells = [name.into(), (*loss).into()];
            if *crop == result.model.input.crop_mode {
                table.highlighted_row(cells)
            } else {
                table.row(cells)
            };
        }
        section.table(table);
    }
    if result.refit.is_some() {
        section.text(
            "At last the same layer was trained once more, on the validation images too (refit). The figures of training and validation \
             images are those of before.",
        );
    }
    let Some(tuning) = &result.recipe.tuning else { return };
    let config = &tuning.config;
    section.text(&format!(
        "Then the network from {} up was trained on for {} of at most {}, which took {:.1} s: AdamW at a rate of \
         {:.1e} for the last layer and {}, batches of {}, images changed by `{}`. {}",
        escape_markup(&config.unfreeze_from),
        result.history.epochs.len(),
        number::of(config.epochs, "epoch"),
        seconds.tuning,
        config.lr,
        config.block_rates,
        tuning.batch_size,
        result.settings.augmentation,
        if result.settings.update_statistics {
            "Batch norm followed the new images."
        } else {
            "Batch norm kept the pretraining's statistics."
        }
    ));
    if let Some(curve) = &result.lr_curve {
        let (x, y): (Vec<f64>, Vec<f64>) =
            curve.points.iter().map(|(rate, loss)| (rate.log10(), *loss)).unzip();
        let series = Series::new("loss", x.into_iter().zip(y));
        let chart = LineChart::new("logarithm of the learning rate").panel("smoothed loss", vec![series]);
        section.figure(Figure::new(chart, "The learning rate's range test", source));
    }
    let best = match result.kept {
        Kept::Epoch(epoch) => Some(epoch),
        Kept::Head => None,
    };
    if result.history.epochs.is_empty() {
        section.note("No epoch of this was finished: the run keeps the last layer alone.");
        report_sections::course(section, None, result.failure.as_ref());
        return;
    }
    E::curves(section, &result.history.epochs, best, source);
    report_sections::course(section, result.going_on.as_ref(), result.failure.as_ref());
    if result.kept == Kept::Head {
        section.note("No epoch was better on the validation images than the last layer alone, so that is what the run keeps.");
    }
}

fn figures<E: TaskEvaluation>(result: &FineTuneResult<E>, section: &mut Section, model: &str) {
    let (train, val) = match result.refit {
        Some(_) => ("training, before the refit", "validation, before the refit"),
        None => ("training", "validation"),
    };
    let mut rows: Vec<(&str, &Metrics)> =
        result.train.iter().map(|of_train| (train, of_train.metrics())).collect();
    if result.kept != Kept::Head {
        rows.push(("validation, last layer alone", &result.head_val));
    }
    rows.push((val, result.val.metrics()));
    rows.extend(result.test.iter().map(|test| ("test", test.metrics())));
    E::table(section, &rows, model);
}

fn layers<E>(result: &FineTuneResult<E>, section: &mut Section) {
    section.text(&format!(
        "{} parameters were trained, {} stayed as they were pretrained.",
        number::count(result.trained_params as u64),
        number::count(result.frozen_params as u64)
    ));
    let columns = [
        Column::text("layer"),
        Column::text("kind"),
        Column::text("output (H, W, C)"),
        Column::number("parameters"),
        Column::text("trained"),
    ];
    let summary = result.model.network.summary();
    let mut table = Table::new(format!("The layers of {}", summary.model), columns);
    for (row, trained) in summary.rows.iter().zip(&result.trained_rows) {
        let axes: Vec<String> = row.output.channels_last().iter().map(usize::to_string).collect();
        let cells = [
            row.name.as_str().into(),
            row.kind.into(),
            axes.join("×").into(),
            row.params.into(),
            if *trained { "yes" } else { "" }.into(),
        ];
        table.row(cells);
    }
    table.footer(["total".into(), "".into(), "".into(), summary.total_params().into(), "".into()]);
    section.table(table);
}
