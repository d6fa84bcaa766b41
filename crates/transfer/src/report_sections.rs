//! The report of a run, and the tables and figures that it shares with the lecture's sections.

use candle_core::Device;
use firstsight_data::{ImageDataset, InputSpec};
use firstsight_models::{ImageClassifier, Summary};
use firstsight_report::{
    Column, Figure, HeatMap, Histogram, Image, LineChart, Mark, Report, Section, Series, Sheet, Table, Tile,
    number,
};
use firstsight_train::{Accuracy, Epoch, Metrics, Predictions, predict};

use crate::training::{Trained, Training, in_order};
use crate::{DecodedSplits, Figures, Result, Runtime};

/// The figures of a split, with others to compare with where there are any.
pub struct ReferenceRow {
    /// The split.
    pub split: &'static str,
    /// Our figures.
    pub ours: Figures,
    /// Loss, accuracy and top-5 accuracy to compare with.
    pub reference: Option<(f64, f64, f64)>,
}

/// The report of one run: layers, curves, figures, confusions, failures.
pub fn run_report(
    plan: &Training,
    splits: &DecodedSplits,
    trained: &Trained,
    source: &str,
    runtime: &Runtime,
) -> Result<Report> {
    let mut report = Report::new(&format!("Firstsight: a run of {}", plan.model));
    let record = plan.record;
    report.facts(&[
        ("data", source.to_owned()),
        ("images", format!("{} training, {} validation", splits.train.len(), splits.val.len())),
        ("classes", splits.n_classes().to_string()),
        (
            "training",
            format!("{}, batches of {}", plan.optimization.describe(record.learning_rate), record.batch_size),
        ),
        ("augmentation", record.augmentation.to_string()),
        ("seed", record.seed.to_string()),
        ("device", runtime.device_name.clone()),
        ("time", number::duration(std::time::Duration::from_secs_f64(trained.seconds))),
    ]);
    layers(report.section(None, "The network"), &trained.network.summary());
    let section = report.section(None, "The training");
    curves(section, trained, source);
    let mut rows = vec![
        ReferenceRow { split: "training", ours: (&trained.train).into(), reference: None },
        ReferenceRow { split: "validation", ours: (&trained.val).into(), reference: None },
    ];
    rows.extend(trained.test.as_ref().map(|test| ReferenceRow {
        split: "test",
        ours: test.into(),
        reference: None,
    }));
    figures(section, &rows, plan.model.name);
    let (name, images) = held_out(splits);
    let predictions = predictions(&trained.network, images, &plan.input, &runtime.device)?;
    mistakes(
        report.section(None, &format!("The {name} images")),
        images,
        &predictions,
        &format!("{source}, {name} images"),
    )?;
    Ok(report)
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
            ". The weights of epoch {}, the best on the validation images, are kept",
            best + 1
        ));
    }
    section.figure(Figure::new(chart, caption, source));
}

/// Loss, accuracy and top-5 of each split, with others to compare with where there are any.
pub fn figures(section: &mut Section, rows: &[ReferenceRow], model: &str) {
    let with_reference = rows.iter().any(|row| row.reference.is_some());
    let names = ["loss", "accuracy", "top-5 accuracy"];
    let mut columns = vec![Column::text("images"), Column::number("number")];
    if with_reference {
        columns.extend(names.map(|name| Column::number(name).under("ours")));
        columns.extend(names.map(|name| Column::number(name).under("the lecture's")));
    } else {
        columns.extend(names.map(Column::number));
    }
    let mut table = Table::new(format!("The figures of {model}, with the weights kept"), columns);
    for ReferenceRow { split, ours, reference } in rows {
        let Figures { loss, accuracy, top5_accuracy, n } = *ours;
        let mut cells = vec![(*split).into(), n.into(), loss.into(), accuracy.into(), top5_accuracy.into()];
        if with_reference {
            cells.extend([
                reference.map(|l| l.0).into(),
                reference.map(|l| l.1).into(),
                reference.map(|l| l.2).into(),
            ]);
        }
        table.row(cells);
    }
    section.table(table);
}

/// Failure cases, confidence when right and when wrong, the confusion matrix and its largest entries.
pub fn mistakes(
    section: &mut Section,
    images: &ImageDataset,
    predictions: &Predictions,
    source: &str,
) -> Result<()> {
    let classes = images.classes();
    let guesses: Vec<Guess> = (0..predictions.len()).map(|i| Guess::new(i, predictions)).collect();
    let (right, wrong): (Vec<Guess>, Vec<Guess>) = guesses.into_iter().partition(|g| g.truth == g.class);
    section.text(&format!(
        "{} of {} images are recognized, {} are not.",
        number::count(right.len() as u64),
        number::count(predictions.len() as u64),
        number::count(wrong.len() as u64)
    ));
    surest_mistakes(section, images, predictions, 40, source)?;

    let histogram = |of: &[Guess], name: &str, caption: &str| {
        let values: Vec<f64> = of.iter().map(|g| f64::from(g.confidence)).collect();
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        let chart = Histogram::new("confidence", "images")
            .edges((0..=20).map(|i| f64::from(i) / 20.0))
            .series(name, values);
        Figure::new(chart, format!("{caption}; {mean:.3} on average"), source)
    };
    section.figure_row(vec![
        histogram(
            &right,
            "right",
            "The probability that the network gives to its prediction where it is right",
        ),
        histogram(&wrong, "wrong", "The same where it is wrong"),
    ]);

    let counts = predictions.confusion();
    let matrix = HeatMap::confusion(classes.to_vec(), counts.iter().map(|&n| n as u64))?;
    let caption = "How often each class is taken for each: rows are true classes, columns predictions, depth the \
                   share of the row";
    section.figure(Figure::new(matrix, caption, source));
    confused_pairs(section, classes, predictions);
    Ok(())
}

/// Up to `n` mistakes as pictures, those first that the network is surest of.
pub fn surest_mistakes(
    section: &mut Section,
    images: &ImageDataset,
    predictions: &Predictions,
    n: usize,
    source: &str,
) -> Result<()> {
    let classes = images.classes();
    let guesses = (0..predictions.len()).map(|i| Guess::new(i, predictions));
    let mut wrong: Vec<Guess> = guesses.filter(|g| g.truth != g.class).collect();
    wrong.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then(a.index.cmp(&b.index)));
    if wrong.is_empty() {
        return Ok(());
    }
    let tile = |g: &Guess| -> Result<Tile> {
        let label = format!("{} → {}", classes[g.truth], classes[g.class]);
        let confidence = number::percent(f64::from(g.confidence), 1);
        Ok(Tile::new(picture(images, g.index)?, label).sublabel(confidence).mark(Mark::Wrong))
    };
    let tiles = wrong.iter().take(n).map(tile).collect::<Result<Vec<_>>>()?;
    let caption = format!(
        "The {} mistakes that the network is surest of: true class → predicted class, and the probability that it gives to \
         its prediction",
        tiles.len()
    );
    section.figure(Figure::new(Sheet::new(tiles, 8), caption, source));
    Ok(())
}

/// A prediction with its true class.
struct Guess {
    index: usize,
    truth: usize,
    class: usize,
    confidence: f32,
}

impl Guess {
    fn new(index: usize, predictions: &Predictions) -> Self {
        let (class, confidence) = predictions.top(index);
        Self { index, truth: predictions.labels[index] as usize, class: class as usize, confidence }
    }
}

fn confused_pairs(section: &mut Section, classes: &[String], predictions: &Predictions) {
    let images_of =
        |truth: usize| predictions.labels.iter().filter(|&&label| label as usize == truth).count();
    let pairs = predictions.confused_pairs();
    if pairs.is_empty() {
        return;
    }
    let columns = [
        Column::text("true"),
        Column::text("predicted"),
        Column::number("images"),
        Column::number("share of the true class's images"),
    ];
    let mut table = Table::new("The classes most often confused", columns);
    for (n, truth, guess) in pairs.into_iter().take(12) {
        let share = n as f64 / images_of(truth) as f64;
        table.row([classes[truth].as_str().into(), classes[guess].as_str().into(), n.into(), share.into()]);
    }
    section.table(table);
}

/// Image `i` as the network sees it.
pub fn picture(images: &ImageDataset, i: usize) -> Result<Image> {
    let (_, height, width, channels) = images.shape();
    Ok(Image::from_pixels(height, width, channels, images.image(i))?)
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
