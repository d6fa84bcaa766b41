//! Several runs beside each other: figures, learning curves, and whether they differ by more than chance.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use firstsight_report::{Cell, Column, Figure, LineChart, Report, Series, Table, number};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::figures::SHOWN;
use crate::{ContentHash, Error, Result, RunFolder, SplitRecord, files};

/// Runs that are compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The images that the figures are of: `test` where all runs have them, else `val`.
    pub split: &'static str,
    /// Whether all runs were measured on the same images, which their predictions and `split.csv` tell.
    pub same_images: bool,
    /// The runs, in the order in which they were named.
    pub runs: Vec<ComparedRun>,
}

/// A run of a [`Comparison`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedRun {
    /// Its folder.
    pub run: PathBuf,
    /// The network.
    pub architecture: String,
    /// Epochs of training.
    pub epochs: Option<u64>,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// Its figures, by their names in `metrics.json`.
    pub figures: BTreeMap<String, f64>,
    /// The 95 % interval of the accuracy.
    pub accuracy_interval: Option<(f64, f64)>,
    /// How it differs from the run with the best accuracy, where the images are the same and it is another.
    pub against_best: Option<Difference>,
    #[serde(skip)]
    history: History,
    #[serde(skip)]
    answers: BTreeMap<String, Answer>,
    #[serde(skip)]
    images: Option<Images>,
}

/// The true class of an image, and whether the run says the same.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    truth: String,
    is_right: bool,
}

/// Hash and label of each image of a split, by its file.
type Images = BTreeMap<String, (Option<ContentHash>, String)>;

/// Two runs on the same images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// Images that the other alone is right about.
    pub only_other: usize,
    /// Images that this one alone is right about.
    pub only_this: usize,
    /// The probability of a difference as large by chance: McNemar's exact test, two-sided.
    pub p_value: f64,
}

impl Difference {
    /// McNemar's test (1947) in its exact form: of the images that one of two alone is right about, each is as likely either's,
    /// so their number has a binomial distribution.
    ///
    /// ```
    /// use firstsight_transfer::Difference;
    ///
    /// // scipy.stats.binomtest(2, 12).pvalue
    /// assert!((Difference::of(10, 2).p_value - 0.038574).abs() < 1e-6);
    /// assert_eq!(Difference::of(0, 0).p_value, 1.0);
    /// ```
    pub fn of(only_other: usize, only_this: usize) -> Self {
        let n = only_other + only_this;
        let fewer = only_other.min(only_this);
        // ln C(n, k) from k to k + 1 is ln((n − k) / (k + 1)).
        let (mut log, mut tail) = (0.0f64, 0.0f64);
        for k in 0..=fewer {
            tail += (log - n as f64 * std::f64::consts::LN_2).exp();
            log += ((n - k) as f64 / (k + 1) as f64).ln();
        }
        Self { only_other, only_this, p_value: (2.0 * tail).min(1.0) }
    }

    /// `0.0386`, or `< 0.0001`.
    pub fn p_in_words(&self) -> String {
        if self.p_value < 1e-4 { "< 0.0001".to_owned() } else { number::decimal(self.p_value, 4) }
    }
}

/// The columns of `history.csv` but for the epoch.
type History = Vec<(String, Vec<(f64, f64)>)>;

impl Comparison {
    /// Reads the files of runs.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] for a folder that holds no run, [`Error::Setting`] for fewer than two or runs of different tasks;
    /// [`Error::Io`], [`Error::Config`].
    pub fn open(runs: &[PathBuf]) -> Result<Self> {
        let setting = |expected: &str, found: String| Error::Setting {
            setting: "the runs to compare",
            expected: expected.to_owned(),
            found,
        };
        if runs.len() < 2 {
            return Err(setting("at least two", runs.len().to_string()));
        }
        let folders = runs.iter().map(|run| RunFolder::open(run)).collect::<Result<Vec<_>>>()?;
        let documents = folders.iter().map(RunFolder::read_metrics).collect::<Result<Vec<_>>>()?;
        let has =
            |split: &str| documents.iter().all(|metrics| metrics.get(split).is_some_and(Value::is_object));
        let split = if has("test") { "test" } else { "val" };
        let mut compared = Vec::with_capacity(runs.len());
        let mut tasks = Vec::with_capacity(runs.len());
        for (run, metrics) in folders.iter().zip(&documents) {
            let config = files::read_object(&run.config())?;
            let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            tasks.push(text("problem_type"));
            compared.push(ComparedRun::read(run, text("architecture"), metrics, split)?);
        }
        if let Some(other) = tasks.iter().find(|task| **task != tasks[0]) {
            return Err(setting("runs of one task", format!("{} and {other}", tasks[0])));
        }
        let (first, rest) = (&compared[0], &compared[1..]);
        let same_images = !first.answers.is_empty() && rest.iter().all(|run| run.has_images_of(first));
        let mut comparison = Self { split, same_images, runs: compared };
        comparison.test();
        Ok(comparison)
    }

    /// Compares each run with the best.
    fn test(&mut self) {
        let Some(best) = self.best().filter(|_| self.same_images) else { return };
        let best_answers = self.runs[best].answers.clone();
        for run in self.runs.iter_mut().enumerate().filter(|(i, _)| *i != best).map(|(_, run)| run) {
            let pairs = || best_answers.values().zip(run.answers.values());
            let only =
                |other: bool| pairs().filter(|(a, b)| (a.is_right, b.is_right) == (other, !other)).count();
            run.against_best = Some(Difference::of(only(true), only(false)));
        }
    }

    /// The run with the best accuracy, the first of equals.
    fn best(&self) -> Option<usize> {
        let accuracy = |i: usize| self.runs[i].figures.get("accuracy").copied();
        let mut best = None;
        for i in 0..self.runs.len() {
            let found = accuracy(i)?;
            if best.is_none_or(|(_, most)| found > most) {
                best = Some((i, found));
            }
        }
        best.map(|(i, _)| i)
    }

    /// The names of the runs: their folders' last parts, or the whole paths where these are equal.
    pub fn names(&self) -> Vec<String> {
        let last = |run: &ComparedRun| run.run.file_name().map(|name| name.to_string_lossy().into_owned());
        let short: Vec<Option<String>> = self.runs.iter().map(last).collect();
        let is_unique = |name: &Option<String>| short.iter().filter(|other| *other == name).count() == 1;
        let name = |(run, short): (&ComparedRun, &Option<String>)| match short {
            Some(name) if is_unique(&Some(name.clone())) => name.clone(),
            _ => run.run.display().to_string(),
        };
        self.runs.iter().zip(&short).map(name).collect()
    }

    /// The runs as a page: their figures, whether they differ, and the curves of each measure.
    pub fn report(&self) -> Report {
        let names = self.names();
        let mut report = Report::new("Firstsight: runs compared");
        let part = if self.split == "test" { "test images" } else { "validation images" };
        report.lead(&match self.same_images {
            true => format!("Figures of the same {part}."),
            false => format!("Figures of {part}, which are not known to be the same for all runs: differences may be the images'."),
        });
        let source = "metrics.json, history.csv and predictions.csv of each run";

        let shown: Vec<_> = SHOWN
            .iter()
            .filter(|(key, _)| self.runs.iter().any(|run| run.figures.contains_key(*key)))
            .collect();
        let columns = ["run", "network"].map(Column::text).into_iter();
        let numbers = shown.iter().map(|(_, name)| Column::number(*name));
        let rest = ["epochs", "weights"].map(Column::number);
        let mut table = Table::new(format!("The runs, on {part}"), columns.chain(numbers).chain(rest));
        let best = self.best().filter(|_| self.same_images);
        for (i, (run, name)) in self.runs.iter().zip(&names).enumerate() {
            let figure = |(key, _): &&(&str, &str)| -> Cell {
                run.figures.get(*key).map(|value| number::decimal(*value, 4)).into()
            };
            let cells = [name.clone().into(), run.architecture.clone().into()].into_iter();
            let ends: [Cell; 2] =
                [run.epochs.map(number::count).into(), number::bytes(run.weight_bytes).into()];
            let cells = cells.chain(shown.iter().map(figure)).chain(ends);
            if best == Some(i) {
                table.highlighted_row(cells)
            } else {
                table.row(cells)
            };
        }
        let section = report.section(None, "Figures");
        section.table(table);
        if let Some(best) = best {
            section.table(self.differences(&names, best));
            section.text(
                "p is the probability that two runs that are equally good differ as much on these images (McNemar's exact test). Above 0.05 the difference \
                 may well be chance; of many runs, one in twenty is below it by chance.",
            );
        }
        let curves = self.curves();
        if curves.is_empty() {
            return report;
        }
        let section = report.section(None, "Curves");
        for (column, panel) in curves {
            let curve = |(run, name): (&ComparedRun, &String)| {
                let (_, points) =
                    run.history.iter().find(|(found, points)| *found == column && points.len() > 1)?;
                Some(Series::new(name.clone(), points.iter().copied()))
            };
            let series = self.runs.iter().zip(&names).filter_map(curve).collect();
            let chart = LineChart::new("epoch").panel(panel.clone(), series);
            section.figure(Figure::new(chart, format!("The {panel} of each epoch"), source));
        }
        report
    }

    fn differences(&self, names: &[String], best: usize) -> Table {
        let columns = [
            Column::text("run"),
            Column::number("accuracy from"),
            Column::number("to"),
            Column::number(format!("right only in {}", names[best])),
            Column::number("right only here"),
            Column::number("p"),
        ];
        let mut table = Table::new(format!("95 % intervals, and what differs from {}", names[best]), columns);
        for (run, name) in self.runs.iter().zip(names) {
            let end = |value: Option<f64>| -> Cell { value.map(|value| number::decimal(value, 4)).into() };
            let interval = run.accuracy_interval;
            let difference = run.against_best;
            table.row([
                name.clone().into(),
                end(interval.map(|(low, _)| low)),
                end(interval.map(|(_, high)| high)),
                difference.map(|d| d.only_other).into(),
                difference.map(|d| d.only_this).into(),
                difference.map(|d| d.p_in_words()).into(),
            ]);
        }
        table
    }

    /// Columns of the histories that several epochs of a run have, with their names in words.
    fn curves(&self) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        for (column, points) in self.runs.iter().flat_map(|run| &run.history) {
            if points.len() > 1 && found.iter().all(|(other, _)| other != column) {
                let words = column.strip_prefix("val_").map_or_else(
                    || format!("training {}", column.replace('_', " ")),
                    |rest| format!("validation {}", rest.replace('_', " ")),
                );
                found.push((column.clone(), words));
            }
        }
        found
    }
}

impl ComparedRun {
    fn read(
        run: &RunFolder,
        architecture: String,
        metrics: &Map<String, Value>,
        split: &str,
    ) -> Result<Self> {
        let figures = metrics.get(split).and_then(Value::as_object);
        let number = |(key, value): (&String, &Value)| Some((key.clone(), value.as_f64()?));
        let interval = figures.and_then(|figures| {
            let ends = figures.get("accuracy_interval")?.as_array()?;
            Some((ends.first()?.as_f64()?, ends.get(1)?.as_f64()?))
        });
        let weights = run.weights();
        let length = std::fs::metadata(&weights).map_err(Error::io("read", &weights))?.len();
        Ok(Self {
            run: run.path().to_path_buf(),
            architecture,
            epochs: metrics.get("epochs").and_then(Value::as_u64),
            weight_bytes: length,
            figures: figures.map(|figures| figures.iter().filter_map(number).collect()).unwrap_or_default(),
            accuracy_interval: interval,
            against_best: None,
            history: history(&run.history())?,
            answers: answers(&run.predictions(), split)?,
            images: images(&run.split(), split)?,
        })
    }

    /// Whether both were measured on the same images, as far as is known: the same files with the same labels and, where both have
    /// recorded them, the same contents.
    fn has_images_of(&self, other: &Self) -> bool {
        let own = self.answers.iter().map(|(image, answer)| (image, &answer.truth));
        let others = other.answers.iter().map(|(image, answer)| (image, &answer.truth));
        let recorded = self.images.as_ref().zip(other.images.as_ref());
        own.eq(others) && recorded.is_none_or(|(own, others)| own == others)
    }
}

/// The rows of a CSV file with its header, or none where there is no file.
fn table(path: &Path) -> Result<Option<(csv::StringRecord, Vec<csv::StringRecord>)>> {
    if !path.is_file() {
        return Ok(None);
    }
    let unreadable = Error::csv(path);
    let mut reader = csv::Reader::from_path(path).map_err(&unreadable)?;
    let header = reader.headers().map_err(&unreadable)?.clone();
    Ok(Some((header, reader.records().collect::<Result<_, _>>().map_err(unreadable)?)))
}

fn history(path: &Path) -> Result<History> {
    let Some((header, rows)) = table(path)? else { return Ok(Vec::new()) };
    let column = |(i, name): (usize, &str)| {
        let point = |row: &csv::StringRecord| Some((row.get(0)?.parse().ok()?, row.get(i)?.parse().ok()?));
        (name.to_owned(), rows.iter().filter_map(point).collect())
    };
    Ok(header.iter().enumerate().skip(1).map(column).collect())
}

/// The images of the split by `split.csv`, if there is one.
fn images(path: &Path, split: &str) -> Result<Option<Images>> {
    if !path.is_file() {
        return Ok(None);
    }
    let record = SplitRecord::read(path)?;
    let of_split = record.rows().filter(|image| image.split.name() == split);
    Ok(Some(of_split.map(|image| (image.file.to_owned(), (image.sha256, image.label.to_owned()))).collect()))
}

/// What is said of each image of the split, by the image's path, without those that could not be read.
fn answers(path: &Path, split: &str) -> Result<BTreeMap<String, Answer>> {
    let Some((header, rows)) = table(path)? else { return Ok(BTreeMap::new()) };
    let place = |name: &str| header.iter().position(|column| column == name);
    let (Some(image), Some(part), Some(truth), Some(said)) =
        (place("path"), place("split"), place("truth"), place("prediction"))
    else {
        return Ok(BTreeMap::new());
    };
    let answer = |row: &csv::StringRecord| {
        let truth = row.get(truth).filter(|truth| !truth.is_empty())?;
        let is_right = truth == row.get(said)?;
        Some((row.get(image)?.to_owned(), Answer { truth: truth.to_owned(), is_right }))
    };
    Ok(rows.iter().filter(|row| row.get(part) == Some(split)).filter_map(answer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_could_not_be_read_has_no_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("predictions.csv");
        let rows = "path,split,truth,prediction\na,val,ant,ant\nb,val,ant,bee\nc,val,,\nd,train,ant,ant\n";
        std::fs::write(&path, rows).unwrap();
        let answer = |is_right| Answer { truth: "ant".to_owned(), is_right };
        let expected = BTreeMap::from([("a".to_owned(), answer(true)), ("b".to_owned(), answer(false))]);
        assert_eq!(answers(&path, "val").unwrap(), expected);
    }
}
