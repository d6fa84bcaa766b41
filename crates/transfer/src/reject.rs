//! The answer 'none of these'.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::{ClassMeans, Error, Evaluation, Result, files};

/// Coverage where none is asked for.
pub const COVERAGE: f64 = 0.95;

/// Share of the wrongly rejected that the probability may reject where there are distances, too. The distance is by far the better
/// witness: a network is sure of its classes in images of anything.
const SHARE_OF_PROBABILITY: f64 = 0.2;

const MEANS: &str = "class_means";
const IMPROBABILITIES: &str = "improbabilities";
const DISTANCES: &str = "distances";

/// What a run knows about images of none of its classes: two scores of each validation image, by which split conformal
/// prediction (Vovk et al. 2005; Angelopoulos and Bates 2021) sets thresholds that most images of the classes keep.
#[derive(Debug, Clone)]
pub struct Reject {
    /// The classes in feature space, where they are known.
    pub means: Option<ClassMeans>,
    /// 1 minus the probability of its true class, of each validation image, ascending.
    improbabilities: Vec<f32>,
    /// The distance to the nearest class mean, of each validation image, ascending.
    distances: Vec<f32>,
}

/// The thresholds for a coverage.
///
/// Of images like the validation images, at least the share [`coverage`](Self::coverage) keeps both: the true class is among
/// [`Thresholds::set`], and the image isn't far from all classes. So at most the rest is rejected wrongly. That is the mean over
/// sets of as many validation images; [`interval`](Self::interval) says by how much this one may be off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// The share of images of the classes that are accepted, at least.
    pub coverage: f64,
    /// Number of validation images that say so.
    pub images: usize,
    /// Classes of a lower probability are not among the answers.
    pub least_probability: f32,
    /// Images farther from all class means are none of the classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_distance: Option<f32>,
}

/// Why an image is taken for none of the classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// No class is probable enough.
    NoProbableClass,
    /// The image is far from all classes in feature space.
    FarFromAllClasses,
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoProbableClass => "no class is probable enough",
            Self::FarFromAllClasses => "far from all classes",
        })
    }
}

impl Reject {
    /// What validation images say. `None` without images.
    pub fn new(val: &Evaluation, means: Option<ClassMeans>) -> Option<Self> {
        let calibrated = val.calibrated();
        let improbability = |i| 1.0 - calibrated.of_label(i);
        let improbabilities = sorted((0..val.predictions.len()).map(improbability).collect());
        let distances = sorted(val.distances.clone().unwrap_or_default());
        let means = means.filter(|_| !distances.is_empty());
        (!improbabilities.is_empty()).then_some(Self { means, improbabilities, distances })
    }

    /// The thresholds that keep `coverage` of the images of the classes. Of the rest, the distance may reject four fifths and the
    /// probability one fifth, but at least one validation image; all without distances. Where only one may be rejected, it is by the
    /// distance.
    ///
    /// n validation images support at most n / (n + 1); for a higher coverage that one is taken, and [`Thresholds::coverage`]
    /// says it.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a coverage outside of (0, 1).
    pub fn thresholds(&self, coverage: f64) -> Result<Thresholds> {
        if !(coverage > 0.0 && coverage < 1.0) {
            return Err(Error::Setting {
                setting: "the coverage of `reject`",
                expected: "a share between 0 and 1, such as 0.95".to_owned(),
                found: coverage.to_string(),
            });
        }
        let n = self.improbabilities.len();
        let most = n as f64 / (n + 1) as f64;
        // A hair more, so that a rounding error takes no image away.
        let misses = (n + 1) as f64 * (1.0 - coverage) + 1e-9;
        let rejected = (misses as usize).clamp(1, n);
        let improbable = match (self.distances.is_empty(), rejected) {
            (true, _) => rejected,
            (false, 1) => 0,
            (false, _) => ((SHARE_OF_PROBABILITY * misses) as usize).max(1),
        };
        Ok(Thresholds {
            coverage: if misses < 1.0 { most } else { coverage },
            images: n,
            least_probability: match improbable {
                0 => 0.0,
                _ => least_probability(self.improbabilities[n - improbable]),
            },
            largest_distance: self.distances.get(n - (rejected - improbable)).copied(),
        })
    }

    /// Writes `reject.safetensors`.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] for a file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let row = |scores: &Vec<f32>| Tensor::new(scores.as_slice(), &Device::Cpu);
        let mut tensors = vec![(IMPROBABILITIES, row(&self.improbabilities)?)];
        if let Some(means) = &self.means {
            tensors
                .extend([(DISTANCES, row(&self.distances)?), (MEANS, means.rows.to_device(&Device::Cpu)?)]);
        }
        let bytes = safetensors::serialize(tensors, None)
            .map_err(|e| Error::Config { path: path.to_path_buf(), reason: e.to_string() })?;
        Ok(files::write(path, &bytes)?)
    }

    /// Reads what [`Reject::save`] wrote.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], and [`Error::Config`] for a file of something else.
    pub fn read(path: &Path, device: &Device) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let unusable = |reason: String| Error::Config { path: path.to_path_buf(), reason };
        let mut tensors: HashMap<String, Tensor> =
            candle_core::safetensors::load_buffer(&bytes, device).map_err(|e| unusable(e.to_string()))?;
        let mut scores = |name: &str| match tensors.remove(name) {
            Some(tensor) => tensor.to_vec1::<f32>().map_err(|e| unusable(format!("{name}: {e}"))),
            None => Ok(Vec::new()),
        };
        let (improbabilities, distances) = (scores(IMPROBABILITIES)?, scores(DISTANCES)?);
        if improbabilities.is_empty() {
            return Err(unusable(format!("it has no {IMPROBABILITIES}")));
        }
        let means = tensors.remove(MEANS).map(|rows| ClassMeans { rows, map: None });
        match means.is_some() != distances.is_empty() {
            true => Ok(Self { means, improbabilities, distances }),
            false => Err(unusable(format!("it has only one of {DISTANCES} and {MEANS}"))),
        }
    }
}

impl Thresholds {
    /// The 95 % interval of the share of new images that is accepted. Over sets of n validation images, of which l are rejected,
    /// that share has the distribution Beta(n + 1 − l, l) (Vovk 2012; Angelopoulos and Bates 2021, section 3.2), or lies above it
    /// where images are rejected by both scores.
    pub fn interval(&self) -> (f64, f64) {
        let n = self.images;
        let rejected = (((n + 1) as f64 * (1.0 - self.coverage) + 1e-9) as usize).clamp(1, n.max(1));
        // P(share ≤ x) is the probability that of n images less than l are above the x-quantile of their scores.
        let below = |x: f64| {
            let mut log = n as f64 * x.ln();
            let mut sum = 0.0;
            for k in 0..rejected {
                sum += log.exp();
                log += ((n - k) as f64 / (k + 1) as f64).ln() + (1.0 - x).ln() - x.ln();
            }
            sum
        };
        let quantile = |p: f64| {
            let (mut low, mut high) = (0.0, 1.0);
            for _ in 0..50 {
                let middle = f64::midpoint(low, high);
                if below(middle) < p { low = middle } else { high = middle }
            }
            high
        };
        (quantile(0.025), quantile(0.975))
    }

    /// The classes that are probable enough, the most probable first: of images of the classes, at least the share
    /// [`coverage`](Self::coverage) have their true class in it.
    pub fn set(&self, probabilities: &[f32]) -> Vec<usize> {
        let enough = |&(_, &p): &(usize, &f32)| p >= self.least_probability;
        let mut classes: Vec<(usize, &f32)> = probabilities.iter().enumerate().filter(enough).collect();
        classes.sort_by(|a, b| b.1.total_cmp(a.1));
        classes.into_iter().map(|(class, _)| class).collect()
    }

    /// Why an image of these probabilities, at this distance from the classes, is none of them, if it isn't.
    pub fn judge(&self, probabilities: &[f32], distance: Option<f32>) -> Option<Rejection> {
        let far = self.largest_distance.zip(distance).is_some_and(|(largest, distance)| distance > largest);
        let improbable = probabilities.iter().all(|p| *p < self.least_probability);
        match (far, improbable) {
            (true, _) => Some(Rejection::FarFromAllClasses),
            (false, true) => Some(Rejection::NoProbableClass),
            (false, false) => None,
        }
    }
}

/// The least probability p for which 1 − p, rounded, is at most `improbability`.
fn least_probability(improbability: f32) -> f32 {
    // Between 1/2 and 1, numbers are 2⁻²⁴ apart; below, 1 − p is exact.
    let rounding = if improbability > 0.5 { f32::EPSILON / 4.0 } else { 0.0 };
    (1.0 - improbability - rounding).max(0.0)
}

fn sorted(mut scores: Vec<f32>) -> Vec<f32> {
    scores.sort_by(f32::total_cmp);
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(n: usize, distances: bool) -> Reject {
        let scores: Vec<f32> = (1..=n).map(|i| i as f32 / 1000.0).collect();
        let rows = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu).unwrap();
        Reject {
            means: distances.then_some(ClassMeans { rows, map: None }),
            improbabilities: scores.clone(),
            distances: if distances { scores } else { Vec::new() },
        }
    }

    #[test]
    fn the_image_that_sets_the_threshold_is_accepted() {
        for p in (1..1000).map(|i| i as f32 / 1000.0) {
            let reject = Reject { means: None, improbabilities: vec![1.0 - p], distances: Vec::new() };
            let thresholds = reject.thresholds(0.5).unwrap();
            assert_eq!(thresholds.judge(&[p], None), None, "{p}");
            assert_eq!(thresholds.judge(&[p - 1e-5], None), Some(Rejection::NoProbableClass), "{p}");
        }
    }

    #[test]
    fn the_quantile_is_the_n_plus_first_s() {
        // ⌈20 · 0.95⌉ = 19 of 19; ⌈100 · 0.9⌉ = 90 of 99.
        let t = reject(19, false).thresholds(0.95).unwrap();
        assert!((t.least_probability - 0.981).abs() < 1e-6, "{t:?}");
        assert!((t.coverage - 0.95).abs() < 1e-12);
        let t = reject(99, false).thresholds(0.9).unwrap();
        assert!((t.least_probability - 0.91).abs() < 1e-6, "{t:?}");
    }

    #[test]
    fn two_scores_share_what_may_be_missed() {
        // ⌈100 · 0.92⌉ = 92 and ⌈100 · 0.98⌉ = 98 of 99.
        let t = reject(99, true).thresholds(0.9).unwrap();
        assert!((t.largest_distance.unwrap() - 0.092).abs() < 1e-6, "{t:?}");
        assert!((t.least_probability - 0.902).abs() < 1e-6, "{t:?}");
        assert_eq!(t.coverage, 0.9);
    }

    #[test]
    fn few_images_support_less_and_say_so() {
        let t = reject(9, false).thresholds(0.99).unwrap();
        assert!((t.coverage - 0.9).abs() < 1e-12, "{t:?}");
        assert!(reject(9, false).thresholds(1.0).is_err());
        assert!(reject(9, false).thresholds(f64::NAN).is_err());
    }

    /// scipy.stats.beta.ppf([0.025, 0.975], n + 1 - l, l).
    #[test]
    fn the_interval_is_that_of_the_beta_distribution() {
        for (n, coverage, low, high) in [
            (6, 0.95, 0.5407419, 0.9957893),
            (153, 0.95, 0.9166005, 0.9814103),
            (153, 0.8, 0.7392636, 0.8636237),
            (4000, 0.95, 0.9430508, 0.9565482),
        ] {
            let found = reject(n, true).thresholds(coverage).unwrap().interval();
            assert!((found.0 - low).abs() < 1e-6 && (found.1 - high).abs() < 1e-6, "{n}: {found:?}");
        }
    }

    #[test]
    fn what_images_support_does_not_depend_on_what_is_asked_for() {
        for distances in [false, true] {
            let reject = reject(153, distances);
            for coverage in [0.5, 0.9, 0.97, 0.98, 0.99, 153.0 / 154.0] {
                assert_eq!(reject.thresholds(coverage).unwrap().coverage, coverage);
            }
            for coverage in [0.994, 0.999, 0.99999] {
                assert_eq!(reject.thresholds(coverage).unwrap().coverage, 153.0 / 154.0);
            }
        }
        // One image of 154 may be rejected: by its distance.
        let t = reject(153, true).thresholds(0.99).unwrap();
        assert_eq!((t.least_probability, t.largest_distance), (0.0, Some(0.153)));
    }

    #[test]
    fn an_image_is_judged_by_both_scores() {
        let t = Thresholds { coverage: 0.9, images: 9, least_probability: 0.4, largest_distance: Some(0.3) };
        assert_eq!(t.judge(&[0.9, 0.1], Some(0.2)), None);
        assert_eq!(t.judge(&[0.9, 0.1], Some(0.31)), Some(Rejection::FarFromAllClasses));
        assert_eq!(t.judge(&[0.3, 0.3, 0.3], Some(0.2)), Some(Rejection::NoProbableClass));
        assert_eq!(t.set(&[0.4, 0.1, 0.5]), [2, 0]);
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reject.safetensors");
        for distances in [false, true] {
            let written = reject(30, distances);
            written.save(&path).unwrap();
            let read = Reject::read(&path, &Device::Cpu).unwrap();
            assert_eq!(read.thresholds(0.8).unwrap(), written.thresholds(0.8).unwrap());
            assert_eq!(read.means.is_some(), distances);
        }
        std::fs::write(&path, b"no").unwrap();
        assert!(Reject::read(&path, &Device::Cpu).unwrap_err().to_string().contains("reject.safetensors"));
    }
}
