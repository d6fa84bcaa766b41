//! What is wrong with a data set: broken files, duplicates, conflicting and probably wrong labels, outliers, properties of files
//! that give a class away, classes too small. Nothing is changed.

mod backbone;
mod classes;
mod confident;
mod duplicates;
mod finding;
mod headers;
mod images;
mod leaks;
mod neighbors;
mod page;
mod probabilities;
mod tables;

use std::collections::BTreeMap;
use std::path::PathBuf;

use firstsight_data::{DatasetFolder, ImageHash, Reading, SkipReason, Task};
use firstsight_train::Predictions;
use serde::Serialize;

pub use confident::{ConfidentLearning, LabelIssue, confident_learning};
pub use finding::{Finding, FindingKind, Suggestion};
pub use headers::HeaderCounts;
pub use images::{CheckedImage, Look};
pub use leaks::LeakTable;
pub use tables::{CheckDocument, Fix};

use crate::{Pretrained, Result, Runtime};
use backbone::BackboneFeatures;
use duplicates::Pair;
use images::Checked;

/// The least accuracy of networks that name wrong labels: of those that are less often right most suspicions are mistakes.
const TRUSTED: f64 = 0.75;

/// The least probability of another class from which a file may be moved there unseen.
const SURE: f32 = 0.8;

/// The cosine distance of features up to which pictures count as nearly the same: this, and no more than a quarter of what is
/// usual between an image and its nearest.
const SAME: f32 = 0.05;

/// The network that looks for wrong labels and outliers.
#[derive(Debug, Clone, PartialEq)]
pub enum Looker {
    /// None: labels are compared between copies alone.
    None,
    /// A small network, trained from scratch on thumbnails of 32 × 32 in five folds. It is good for characters, digits and
    /// other pictures that are simple; it looks for wrong labels alone.
    Small,
    /// The features of pretrained weights, with a last layer trained in five folds. It also finds outliers and more near
    /// duplicates.
    Features(Box<Pretrained>),
}

/// Settings of a check of a data set.
///
/// # Examples
///
/// ```
/// use candle_core::Device;
/// use firstsight_data::{DatasetFolder, ImageHash, Reading};
/// use firstsight_transfer::Runtime;
/// use firstsight_transfer::check::{DataCheck, FindingKind, Looker};
///
/// # let root = tempfile::tempdir().unwrap();
/// # for name in ["ants/1.png", "ants/2.png", "bees/1.png", "bees/2.png"] {
/// #     std::fs::create_dir_all(root.path().join(name).parent().unwrap()).unwrap();
/// #     std::fs::write(root.path().join(name), []).unwrap();
/// # }
/// # let photos = root.path();
/// let check = DataCheck { looker: Looker::None, reading: Reading::viewer(), seed: 1 };
/// let result = check.run(&DatasetFolder::scan(photos)?, &Runtime::new(Device::Cpu))?;
/// for finding in result.findings.iter().filter(|finding| finding.kind == FindingKind::Broken) {
///     println!("{}: {}", finding.path.as_deref().unwrap_or_default(), finding.reason);
/// }
/// # assert_eq!(result.n_broken(), 4);
/// # Ok::<(), firstsight_transfer::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct DataCheck {
    /// The network that looks at the pictures.
    pub looker: Looker,
    /// How image files are read.
    pub reading: Reading,
    /// Seed of folds and trainings.
    pub seed: u64,
}

/// What a check found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CheckResult {
    /// The folder or table, as it was named.
    pub data: String,
    /// What the labels are.
    pub task: Task,
    /// The classes; for numbers, what they are.
    pub classes: Vec<String>,
    /// Every image of every split.
    pub images: Vec<CheckedImage>,
    /// The images' labels in words, each once: a class, several, or a number.
    pub targets: Vec<String>,
    /// The findings, by kind; within a kind, those across splits first, then by score.
    pub findings: Vec<Finding>,
    /// The properties of files that tell classes apart.
    pub leaks: Vec<LeakTable>,
    /// What looked for wrong labels, if anything.
    pub labels: LabelSearch,
    /// What the user should know of the folder's layout, in sentences.
    pub remarks: Vec<String>,
    root: PathBuf,
    reading: Reading,
}

/// How wrong labels were looked for.
#[derive(Debug, Clone, Serialize)]
pub struct LabelSearch {
    /// What was done, in a sentence.
    pub how: String,
    /// Share of images whose label the networks agree with that were not trained on them.
    pub accuracy: Option<f64>,
    /// The estimated share of wrong labels.
    pub noise: Option<f64>,
    /// Indices among [`CheckResult::images`] of the images below.
    #[serde(skip)]
    pub images: Vec<usize>,
    /// The out-of-fold probabilities of those images.
    #[serde(skip)]
    pub predictions: Option<Predictions>,
}

impl LabelSearch {
    fn none(how: impl Into<String>) -> Self {
        Self { how: how.into(), accuracy: None, noise: None, images: Vec::new(), predictions: None }
    }
}

impl DataCheck {
    /// Reads every image once and looks for everything that [`FindingKind`] names.
    ///
    /// Memory holds some 200 bytes for each image, and its features where there are weights.
    ///
    /// # Errors
    ///
    /// Those of loading weights and of training; a file that cannot be read is a finding.
    pub fn run(&self, data: &DatasetFolder, runtime: &Runtime) -> Result<CheckResult> {
        let classes = data.classes().to_vec();
        let Checked { images, targets, notes, thumbnails } =
            images::read(data, self.reading, self.looker == Looker::Small, runtime)?;
        let of = |i: usize, kind: FindingKind, reason: String| {
            let image: &CheckedImage = &images[i];
            Finding {
                path: Some(image.path()),
                split: Some(image.split.name()),
                class: Some(targets[image.target as usize].clone()),
                image: Some(i),
                ..Finding::new(kind, reason)
            }
        };
        let mut findings = images::findings(&images, &notes, of);
        findings.extend(left_out(data));
        findings.extend(classes::find(data, &images));
        let (leaking, leaks) = leaks::find(&images, &classes);
        findings.extend(leaking);

        let standing = duplicates::exact(&images);
        let mut near = duplicates::near(&images, &standing);
        let features = match &self.looker {
            Looker::Features(pretrained) => {
                Some(backbone::features(&images, pretrained, self.reading, runtime)?)
            }
            Looker::None | Looker::Small => None,
        };
        if let Some(features) = &features {
            let (outliers, alike) = compare(features, &standing, of, runtime)?;
            findings.extend(outliers);
            near.extend(alike);
        }
        findings.extend(duplicates::findings(&images, &standing, &near, of));

        let groups = || duplicates::groups(&standing, &near);
        let out_of_fold = match (features, &thumbnails) {
            (Some(BackboneFeatures { images: among, rows }), _) => probabilities::by_features(
                &images,
                &among,
                rows,
                classes.len(),
                &groups(),
                self.seed,
                runtime,
            )?,
            (None, Some(thumbnails)) => {
                let groups = groups();
                probabilities::by_small_network(&images, thumbnails, &classes, &groups, self.seed, runtime)?
            }
            (None, None) => None,
        };
        let labels = match out_of_fold {
            None => LabelSearch::none(match &self.looker {
                Looker::None => "Wrong labels were not looked for.",
                _ if images.iter().all(|image| image.label.is_none()) => {
                    "Wrong labels were not looked for: the images have no single class each."
                }
                _ => "Wrong labels were not looked for: there are too few images of each class.",
            }),
            Some(found) => self.suspects(found, &classes, &mut findings, of),
        };
        sort(&mut findings);
        Ok(CheckResult {
            data: data.path.display().to_string(),
            root: data.root.clone(),
            task: data.splits().next().map_or(Task::SingleLabel, |(_, folder)| folder.targets().task()),
            classes,
            findings,
            leaks,
            labels,
            remarks: data.remarks(),
            reading: self.reading,
            images,
            targets,
        })
    }

    /// Adds the labels that are probably wrong to the findings.
    fn suspects(
        &self,
        found: probabilities::OutOfFold,
        classes: &[String],
        findings: &mut Vec<Finding>,
        of: impl Fn(usize, FindingKind, String) -> Finding,
    ) -> LabelSearch {
        let probabilities::OutOfFold { images, predictions } = found;
        let n = predictions.len();
        let right = (0..n).filter(|&i| predictions.top(i).0 == predictions.labels[i]).count();
        let accuracy = right as f64 / n.max(1) as f64;
        let by = match &self.looker {
            Looker::Features(pretrained) => format!("a last layer on the features of {}", pretrained.origin),
            _ => "a small network on thumbnails of 32 × 32".to_owned(),
        };
        let percent = 100.0 * accuracy;
        if accuracy < TRUSTED {
            let how = format!(
                "Wrong labels were looked for by {by}, which is right for {percent:.1} % of the images that it was not \
                 trained on. That is too few to name labels: most would be its own mistakes.{}",
                if self.looker == Looker::Small { " --weights looks with pretrained features." } else { "" }
            );
            return LabelSearch { accuracy: Some(accuracy), ..LabelSearch::none(how) };
        }
        let learned = confident_learning(&predictions.probabilities, &predictions.labels, classes.len());
        for issue in &learned.issues {
            let suggested = &classes[issue.suggested as usize];
            let p = issue.self_confidence + issue.margin;
            let reason = format!("looks like {suggested} (probability {p:.3})");
            let finding = of(images[issue.index], FindingKind::SuspectedLabel, reason);
            let fix = if p >= SURE { Suggestion::Move(suggested.clone()) } else { Suggestion::Look };
            let finding = finding.suggest(fix).score(f64::from(issue.self_confidence));
            findings.push(Finding { looks_like: Some(suggested.clone()), ..finding });
        }
        let sum: f64 = learned.joint.iter().sum();
        let diagonal: f64 = (0..classes.len()).map(|i| learned.joint[i * (classes.len() + 1)]).sum();
        let how = format!(
            "Wrong labels were looked for by {by}, which is right for {percent:.1} % of the images that it was not trained \
             on. The more it is right, the more of these labels are wrong: look at each."
        );
        LabelSearch {
            how,
            accuracy: Some(accuracy),
            noise: (sum > 0.0).then_some(1.0 - diagonal / sum),
            images,
            predictions: Some(predictions),
        }
    }
}

/// Outliers, and pairs of images whose features are nearly the same.
fn compare(
    features: &BackboneFeatures,
    standing: &[u32],
    of: impl Fn(usize, FindingKind, String) -> Finding,
    runtime: &Runtime,
) -> Result<(Vec<Finding>, Vec<Pair>)> {
    // Copies would be each other's neighbors.
    let distinct: Vec<usize> = (0..features.images.len())
        .filter(|&row| standing[features.images[row]] as usize == features.images[row])
        .collect();
    if distinct.len() < 2 {
        return Ok((Vec::new(), Vec::new()));
    }
    let chosen =
        candle_core::Tensor::from_iter(distinct.iter().map(|&row| row as u32), features.rows.device())?;
    let rows = features.rows.index_select(&chosen, 0)?;
    let found = runtime.counted("neighbors", |report| neighbors::neighbors(&rows, &report))?;
    let image = |row: usize| features.images[distinct[row]];
    let distances: Vec<f64> = found.iter().map(|neighbors| neighbors.distance).collect();
    let outliers = neighbors::far_out(&distances).into_iter().map(|row| {
        let reason = format!("its {} nearest images are far", neighbors::NEIGHBORS);
        of(image(row), FindingKind::Outlier, reason).suggest(Suggestion::Look).score(distances[row])
    });
    let mut nearest: Vec<f32> = found.iter().map(|near| 1.0 - near.nearest.1).collect();
    nearest.sort_by(f32::total_cmp);
    let same = SAME.min(nearest[nearest.len() / 2] / 4.0);
    let alike =
        found.iter().enumerate().filter(|(_, near)| 1.0 - near.nearest.1 <= same).map(|(row, near)| {
            let (first, second) = (image(row), image(near.nearest.0));
            let similarity = Some(near.nearest.1);
            Pair {
                first: first.min(second),
                second: first.max(second),
                distance: ImageHash::NEAR,
                similarity,
            }
        });
    Ok((outliers.collect(), alike.collect()))
}

/// What the scanner left out.
fn left_out(data: &DatasetFolder) -> Vec<Finding> {
    let kind = |reason| match reason {
        SkipReason::DeniedFolder => FindingKind::Broken,
        _ => FindingKind::LeftOut,
    };
    let beside = data.skipped.iter().map(|skipped| (None, skipped));
    let inside =
        data.splits().flat_map(|(split, folder)| folder.skipped().iter().map(move |s| (Some(split), s)));
    beside
        .chain(inside)
        .map(|(split, skipped)| Finding {
            path: Some(skipped.path.display().to_string()),
            split,
            ..Finding::new(kind(skipped.reason), skipped.reason.to_string())
        })
        .collect()
}

fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        // What has a high score comes first where the score says how far something goes.
        let key = |finding: &Finding| {
            let score = finding.score.unwrap_or(0.0);
            match finding.kind {
                FindingKind::Outlier | FindingKind::Leak | FindingKind::Imbalance => -score,
                _ => score,
            }
        };
        a.kind
            .cmp(&b.kind)
            .then(b.is_across_splits().cmp(&a.is_across_splits()))
            .then(key(a).total_cmp(&key(b)))
            .then(a.path.cmp(&b.path))
            .then(a.reason.cmp(&b.reason))
    });
}

impl CheckResult {
    /// The findings of one kind.
    pub fn of_kind(&self, kind: FindingKind) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.kind == kind)
    }

    /// The number of files that cannot be read as images.
    pub fn n_broken(&self) -> usize {
        self.of_kind(FindingKind::Broken).count()
    }

    /// The number of findings of each kind that there is.
    pub fn counts(&self) -> BTreeMap<FindingKind, usize> {
        let mut counts = BTreeMap::new();
        for finding in &self.findings {
            *counts.entry(finding.kind).or_default() += 1;
        }
        counts
    }

    /// The images of each split: in order, each with the number of its images by class.
    pub fn splits(&self) -> Vec<(&'static str, usize)> {
        let mut splits: Vec<(&'static str, usize)> = Vec::new();
        for image in &self.images {
            match splits.last_mut() {
                Some((split, n)) if *split == image.split.name() => *n += 1,
                _ => splits.push((image.split.name(), 1)),
            }
        }
        splits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two of 40 labels are improbable, one of them very much so.
    #[test]
    fn a_file_is_moved_unseen_only_where_another_class_is_probable() {
        let classes = ["ants", "bees"].map(str::to_owned);
        let bees = |i: usize| match i {
            0 => 0.95,
            1 => 0.79,
            2..20 => 0.3,
            _ => 0.7,
        };
        let predictions = Predictions {
            probabilities: (0..40).flat_map(|i| [1.0 - bees(i), bees(i)]).collect(),
            labels: (0..40).map(|i| u32::from(i >= 20)).collect(),
            n_classes: 2,
        };
        let check = DataCheck { looker: Looker::Small, reading: Reading::viewer(), seed: 1 };
        let mut findings = Vec::new();
        let of = |i: usize, kind, reason| Finding { image: Some(i), ..Finding::new(kind, reason) };
        let found = probabilities::OutOfFold { images: (0..40).collect(), predictions };
        check.suspects(found, &classes, &mut findings, of);
        let said = findings.iter().map(|f| (f.image, f.looks_like.as_deref(), f.suggestion.clone()));
        let said: Vec<_> = said.collect();
        let to_bees = Suggestion::Move("bees".to_owned());
        assert_eq!(
            said,
            [(Some(0), Some("bees"), Some(to_bees)), (Some(1), Some("bees"), Some(Suggestion::Look))]
        );
    }
}
