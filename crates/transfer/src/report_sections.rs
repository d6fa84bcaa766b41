//! The reports of runs, and the tables and figures that they share with the lecture's sections.

mod classes;
mod confidence;
mod files;
mod map;
mod mistakes;
mod none_of_these;

use std::path::Path;

use candle_core::Device;
use firstsight_data::{ImageDataset, InputSpec, Task};
use firstsight_models::{ImageClassifier, Summary};
use firstsight_report::{
    Column, Figure, Image, LineChart, Report, Section, Series, Table, escape_markup, number, unescape_markup,
};
use firstsight_train::{Accuracy, Epoch, Metrics, Predictions, predict};

pub use self::files::files;
pub use self::map::places;
pub(crate) use self::mistakes::LISTED;
pub use self::mistakes::{mistakes, surest_mistakes};
use crate::task::TaskEvaluation;
use crate::training::{Trained, Training, in_order};
use crate::{COVERAGE, DecodedSplits, Error, Evaluation, Figures, GoingOn, Reject, Result, Runtime};

/// The figures of a split, with others to compare with where there are any.
pub struct ReferenceRow {
    /// The split.
    pub split: &'static str,
    /// Our figures.
    pub ours: Figures,
    /// Loss, accuracy and top-5 accuracy to compare with.
    pub reference: Option<(f64, f64, f64)>,
}

/// The fact of a report that says what the labels are: a number of classes or labels, or what the numbers are.
pub fn labels(task: Task, classes: &[String]) -> (&'static str, String) {
    match task {
        Task::SingleLabel => ("classes", classes.len().to_string()),
        Task::MultiLabel => ("labels", classes.len().to_string()),
        Task::Regression => ("numbers", classes.join(", ")),
    }
}

/// The report of one run: layers, curves, figures, confusions, failures.
pub fn run_report<E: TaskEvaluation>(
    plan: &Training,
    splits: &DecodedSplits,
    trained: &Trained<E>,
    source: &str,
    runtime: &Runtime,
) -> Result<Report> {
    let mut report = Report::new(&format!("Firstsight: a run of {}", plan.model));
    let record = plan.record;
    report.facts(&[
        ("data", unescape_markup(source)),
        ("images", format!("{} training, {} validation", splits.train.len(), splits.val.len())),
        labels(E::TASK, splits.train.classes()),
        (
            "training",
            format!("{}, batches of {}", plan.optimization.describe(record.learning_rate), record.batch_size),
        ),
        ("augmentation", record.augmentation.to_string()),
        ("seed", record.seed.to_string()),
        ("device", runtime.device_name.clone()),
        ("time", number::duration(std::time::Duration::from_secs_f64(trained.seconds))),
    ]);
    if let Some(provenance) = &splits.provenance {
        report.facts(&provenance.facts());
    }
    layers(report.section(None, "The network"), &trained.network.summary());
    let section = report.section(None, "The training");
    E::curves(section, &trained.history.epochs, trained.best_epoch(), source);
    course(section, trained.going_on.as_ref(), trained.failure.as_ref());
    let mut rows = vec![("training", trained.train.metrics()), ("validation", trained.val.metrics())];
    rows.extend(trained.test.as_ref().map(|test| ("test", test.metrics())));
    E::table(section, &rows, plan.model.name);
    let (name, measured) = trained.held_out();
    measured.show(&mut report, name, trained.reject.as_ref(), &splits.root, source)?;
    if let Some(provenance) = &splits.provenance {
        files(&mut report, &provenance.files, &splits.root);
    }
    Ok(report)
}

/// What a network makes of images that it was not trained on: its mistakes, the figures of each class, its
/// calibration, and what it would take for none of the classes. `root`
/// is the data's folder, to which the images' paths are relative.
pub(crate) fn held_out_sections(
    report: &mut Report,
    name: &str,
    measured: &Evaluation,
    reject: Option<&Reject>,
    root: &Path,
    source: &str,
) -> Result<()> {
    let source = &format!("{source}, {name} images");
    let section = report.section(None, &format!("What it gets wrong: the {name} images"));
    mistakes(section, measured, root, source)?;
    let means = reject.and_then(|reject| reject.means.as_ref());
    if let Some(map) = means.and_then(|means| means.map.as_ref()).filter(|_| !measured.on_map.is_empty()) {
        map::map(section, name, measured, map, source);
    }
    classes::per_class(report.section(None, "Class by class"), measured);
    let section = report.section(None, "How far to trust its confidence");
    confidence::confidence(section, measured, source)?;
    if let Some(reject) = reject {
        let thresholds = reject.thresholds(COVERAGE)?;
        none_of_these::none_of_these(report.section(None, "None of these"), name, measured, &thresholds);
    }
    Ok(())
}

/// Notes on a training that went on from an earlier one, or that an error ended.
pub(crate) fn course(section: &mut Section, going_on: Option<&GoingOn>, failure: Option<&Error>) {
    if let Some(GoingOn { finished, changed, .. }) = going_on {
        let changes = changed.iter().map(|c| format!("{}: {} before, {} now", c.setting, c.found, c.asked));
        let changes = escape_markup(&changes.collect::<Vec<_>>().join("; "));
        section.note(&format!(
            "After epoch {finished} it went on from the best weights until then, with a new optimizer and schedule ({changes})."
        ));
    }
    if let Some(failure) = failure {
        let reason = escape_markup(&failure.to_string());
        section.note(&format!("An error ended it: {reason}. The run keeps the best weights until then."));
    }
}

/// The test images, or else the validation images.
pub fn held_out(splits: &DecodedSplits) -> (&'static str, &ImageDataset) {
    splits.test.as_ref().map_or(("validation", &splits.val), |test| ("test", test))
}

/// The layer table.
pub fn layers(section: &mut Section, summary: &Summary) {
    let columns = [
        Column::text("layer"),
        Column::text("kind"),
        Column::text("output (H, W, C)"),
        Column::number("parameters"),
    ];
    let mut table = Table::new(format!("The layers of {}", summary.model), columns);
    for row in &summary.rows {
        let axes: Vec<String> = row.output.channels_last().iter().map(usize::to_string).collect();
        table.row([row.name.as_str().into(), row.kind.into(), axes.join("×").into(), row.params.into()]);
    }
    table.footer(["total".into(), "".into(), "".into(), summary.total_params().into()]);
    section.table(table);
}

/// Loss and accuracy by epoch.
pub fn curves(section: &mut Section, trained: &Trained, source: &str) {
    epochs(section, &trained.history.epochs, trained.best_epoch(), source);
}

/// [`curves`] of any epochs, `best` being the place of the one whose weights are kept.
pub fn epochs(section: &mut Section, epochs: &[Epoch], best: Option<usize>, source: &str) {
    let accuracy = |m: &Metrics| m.get(&Accuracy).unwrap_or(f64::NAN);
    let series = |of: &dyn Fn(&Metrics) -> f64| {
        let side = |name: &str, pick: fn(&Epoch) -> Option<&Metrics>| {
            Series::per_epoch(name, epochs.iter().map(|e| pick(e).map_or(f64::NAN, of)))
        };
        vec![side("training", |e| Some(&e.train)), side("validation", |e| e.val.as_ref())]
    };
    let mut chart =
        LineChart::new("epoch").panel("loss", series(&|m| m.loss)).panel("accuracy", series(&accuracy));
    let mut caption =
        "Loss and accuracy after each epoch; the training curve is the mean over the epoch's batches"
            .to_owned();
    if let Some(best) = best {
        chart = chart.marker((best + 1) as f64, format!("best epoch: {}", best + 1));
        caption.push_str(&format!(
            ". The weights of epoch {}, the first of the highest validation accuracy, are kept",
            best + 1
        ));
    }
    section.figure(Figure::new(chart, caption, source));
}

/// Loss, accuracy and, where it is measured, top-5 of each split, with others to compare with where there are any.
pub fn figures(section: &mut Section, rows: &[ReferenceRow], model: &str) {
    let with_reference = rows.iter().any(|row| row.reference.is_some());
    let with_top5 = rows.iter().any(|row| row.ours.top5_accuracy.is_some());
    let names = &["loss", "accuracy", "top-5 accuracy"][..if with_top5 { 3 } else { 2 }];
    let mut columns = vec![Column::text("images"), Column::number("number")];
    if with_reference {
        columns.extend(names.iter().map(|name| Column::number(*name).under("ours")));
        columns.extend(names.iter().map(|name| Column::number(*name).under("the lecture's")));
    } else {
        columns.extend(names.iter().map(|name| Column::number(*name)));
        columns.push(Column::number("95 % interval of the accuracy"));
    }
    let mut table = Table::new(format!("The figures of {model}, with the weights kept"), columns);
    for ReferenceRow { split, ours, reference } in rows {
        let mut cells = vec![(*split).into(), ours.n.into(), ours.loss.into(), ours.accuracy.into()];
        cells.extend(with_top5.then(|| ours.top5_accuracy.into()));
        if with_reference {
            cells.extend([reference.map(|l| l.0).into(), reference.map(|l| l.1).into()]);
            cells.extend(with_top5.then(|| reference.map(|l| l.2).into()));
        } else {
            cells.push(interval(ours.accuracy_interval).into());
        }
        table.row(cells);
    }
    section.table(table);
}

/// An interval of shares in words.
fn interval((low, high): (f64, f64)) -> String {
    format!("{} to {}", number::decimal(low, 4), number::decimal(high, 4))
}

/// Image `i` as the network sees it.
pub fn picture(images: &ImageDataset, i: usize) -> Result<Image> {
    let (_, height, width, channels) = images.shape();
    Ok(Image::from_pixels(height, width, channels, &images.image(i)?)?)
}

/// Probabilities of `network` over `images`.
pub fn predictions(
    network: &ImageClassifier,
    images: &ImageDataset,
    input: &InputSpec,
    device: &Device,
) -> Result<Predictions> {
    Ok(predict(network, &in_order(images, input, device)?)?)
}
