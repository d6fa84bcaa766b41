//! What a network gets wrong.

use std::path::Path;

use firstsight_report::{Column, Figure, HeatMap, Histogram, Mark, Section, Sheet, Table, Tile, number};
use firstsight_train::{Predictions, wilson_interval};

use super::picture;
use crate::{Evaluation, Result};

/// Pictures of mistakes.
const TILES: usize = 40;
/// Rows of the list of mistakes.
pub(crate) const LISTED: usize = 2000;
/// Classes up to which the confusion matrix is drawn.
pub(crate) const DRAWN_CLASSES: usize = 60;

/// Failure cases, confidence when right and when wrong, the confusion matrix and its largest entries. Paths are shown
/// relative to `root`.
pub fn mistakes(section: &mut Section, measured: &Evaluation, root: &Path, source: &str) -> Result<()> {
    let Evaluation { images, predictions, .. } = measured;
    let classes = images.classes();
    let wrong = surest_first(predictions);
    let n_right = predictions.len() - wrong.len();
    let (low, high) = wilson_interval(n_right, predictions.len());
    section.text(&format!(
        "Of {}, the network recognizes {}, and {} not. As a sample of all such images, that means that between {} and {} are \
         recognized (95 % confidence).",
        number::of(predictions.len(), "image"),
        number::count(n_right as u64),
        number::count(wrong.len() as u64),
        number::percent(low, 1),
        number::percent(high, 1)
    ));
    pictures(section, measured, &wrong[..TILES.min(wrong.len())], root, source)?;
    list(section, measured, &wrong, root);

    let histogram = |(is_right, name): (bool, &str)| {
        let guesses = (0..predictions.len()).map(|i| Guess::new(i, predictions));
        let of = guesses.filter(|g| (g.truth == g.class) == is_right);
        let values: Vec<f64> = of.map(|g| f64::from(g.confidence)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let chart = Histogram::new("confidence", "images")
            .edges((0..=20).map(|i| f64::from(i) / 20.0))
            .series(name, values);
        let caption = format!(
            "The probability that the network gives to its prediction where it is {name}; {mean:.3} on average"
        );
        Figure::new(chart, caption, source)
    };
    let drawn = [(n_right, (true, "right")), (wrong.len(), (false, "wrong"))];
    let drawn = drawn.into_iter().filter(|(n, _)| *n > 0).map(|(_, of)| histogram(of));
    section.figure_row(drawn.collect());

    if classes.len() <= DRAWN_CLASSES {
        let counts = predictions.confusion();
        let matrix = HeatMap::confusion(classes.to_vec(), counts.iter().map(|&n| n as u64))?;
        let caption = "How often each class is taken for each: rows are true classes, columns predictions, depth the \
                       share of the row";
        section.figure(Figure::new(matrix, caption, source));
    } else {
        section.text(
            "The confusion matrix of so many classes is in the run's `confusion.csv`, not in a drawing.",
        );
    }
    confused_pairs(section, classes, predictions);
    Ok(())
}

/// Up to `n` mistakes as pictures with their files, those first that the network is surest of.
pub fn surest_mistakes(
    section: &mut Section,
    measured: &Evaluation,
    n: usize,
    root: &Path,
    source: &str,
) -> Result<()> {
    let wrong = surest_first(&measured.predictions);
    pictures(section, measured, &wrong[..n.min(wrong.len())], root, source)
}

fn pictures(
    section: &mut Section,
    measured: &Evaluation,
    wrong: &[Guess],
    root: &Path,
    source: &str,
) -> Result<()> {
    let (images, classes) = (&measured.images, measured.images.classes());
    if wrong.is_empty() {
        return Ok(());
    }
    let tile = |g: &Guess| -> Result<Tile> {
        let label = format!("{} → {}", classes[g.truth as usize], classes[g.class as usize]);
        let confidence = number::percent(f64::from(g.confidence), 1);
        let tile =
            Tile::new(picture(images, g.index as usize)?, label).sublabel(confidence).mark(Mark::Wrong);
        Ok(match measured.path(g.index as usize, root) {
            Some(path) => tile.source(path),
            None => tile,
        })
    };
    let tiles = wrong.iter().map(tile).collect::<Result<Vec<_>>>()?;
    let caption = format!(
        "{} that the network is surest of: true class → predicted class, and the probability that it gives to \
         its prediction",
        number::of(tiles.len(), "mistake")
    );
    section.figure(Figure::new(Sheet::new(tiles, 8), caption, source));
    Ok(())
}

/// Every mistake with its file, where the images are files.
fn list(section: &mut Section, measured: &Evaluation, wrong: &[Guess], root: &Path) {
    let (predictions, classes) = (&measured.predictions, measured.images.classes());
    if wrong.first().is_none_or(|guess| measured.images.path(guess.index as usize).is_none()) {
        return;
    }
    let columns = [
        Column::path("image"),
        Column::text("true"),
        Column::text("predicted"),
        Column::number("probability"),
        Column::number("of the true class"),
    ];
    let all = match wrong.len() {
        1 => "The mistake".to_owned(),
        n if n > LISTED => {
            format!("The {LISTED} surest of {n} mistakes; all are in the run's `predictions.csv`")
        }
        n => format!("All {n} mistakes"),
    };
    let mut table = Table::new(all, columns);
    for g in wrong.iter().take(LISTED) {
        table.row([
            measured.path(g.index as usize, root).into(),
            classes[g.truth as usize].as_str().into(),
            classes[g.class as usize].as_str().into(),
            g.confidence.into(),
            predictions.row(g.index as usize)[g.truth as usize].into(),
        ]);
    }
    table.folded();
    section.table(table);
}

/// The mistakes, those first that the network is surest of.
fn surest_first(predictions: &Predictions) -> Vec<Guess> {
    let guesses = (0..predictions.len()).map(|i| Guess::new(i, predictions));
    let mut wrong: Vec<Guess> = guesses.filter(|g| g.truth != g.class).collect();
    wrong.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then(a.index.cmp(&b.index)));
    wrong
}

/// A prediction with its true class.
struct Guess {
    index: u32,
    truth: u32,
    class: u32,
    confidence: f32,
}

impl Guess {
    fn new(index: usize, predictions: &Predictions) -> Self {
        let (class, confidence) = predictions.top(index);
        Self { index: index as u32, truth: predictions.labels[index], class, confidence }
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
