//! Curves and tables of several labels and of numbers.

use firstsight_data::Task;
use firstsight_report::{Column, Figure, LineChart, Section, Series, Table};
use firstsight_train::{Epoch, Metrics};

/// Loss and metrics after each epoch, `best` being the place of the one whose weights are kept: the first with the best
/// [monitor](super::Target::monitor) of the task.
pub(super) fn curves(section: &mut Section, task: Task, epochs: &[Epoch], best: Option<usize>, source: &str) {
    let series = |of: &dyn Fn(&Metrics) -> f64| {
        let side = |name: &str, pick: fn(&Epoch) -> Option<&Metrics>| {
            Series::per_epoch(name, epochs.iter().map(|e| pick(e).map_or(f64::NAN, of)))
        };
        vec![side("training", |e| Some(&e.train)), side("validation", |e| e.val.as_ref())]
    };
    let mut chart = LineChart::new("epoch").panel("loss", series(&|m| m.loss));
    let names = epochs.first().map_or(&[][..], |epoch| &epoch.train.values);
    for (i, (name, _)) in names.iter().enumerate() {
        chart =
            chart.panel(in_words(name), series(&|m| m.values.get(i).map_or(f64::NAN, |(_, value)| *value)));
    }
    let mut caption = "After each epoch; the training curve is the mean over the epoch's batches".to_owned();
    if let Some(best) = best {
        chart = chart.marker((best + 1) as f64, format!("best epoch: {}", best + 1));
        let measure = match task {
            Task::SingleLabel => "highest validation accuracy",
            Task::MultiLabel => "highest validation mean average precision",
            Task::Regression => "lowest validation loss",
        };
        caption
            .push_str(&format!(". The weights of epoch {}, the first of the {measure}, are kept", best + 1));
    }
    section.figure(Figure::new(chart, caption, source));
}

/// Loss and metrics of each split.
pub(super) fn metrics_table(section: &mut Section, rows: &[(&str, &Metrics)], model: &str) {
    let names = rows.first().map_or(&[][..], |(_, metrics)| &metrics.values);
    let front = [Column::text("images"), Column::number("number"), Column::number("loss")];
    let columns = front.into_iter().chain(names.iter().map(|(name, _)| Column::number(in_words(name))));
    let mut table = Table::new(format!("The figures of {model}, with the weights kept"), columns);
    for (split, metrics) in rows {
        let front = [(*split).into(), metrics.n.into(), metrics.loss.into()];
        table.row(front.into_iter().chain(metrics.values.iter().map(|(_, value)| (*value).into())));
    }
    section.table(table);
}

/// A metric's name for people.
fn in_words(name: &str) -> String {
    match name {
        "r2" => "R²".to_owned(),
        other => other.replace('_', " "),
    }
}
