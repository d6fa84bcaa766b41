//! Mixup, cutmix and label smoothing.

use rand_distr::{Beta, Distribution as _};

use super::random::{Purpose, Random};
use super::{Augmentation, Augmenter, Mix};
use crate::error::{Error, Result};
use crate::labels::{Labels, Task};

/// The labels of a batch.
pub(crate) enum BatchLabels {
    /// The class of each example.
    Classes(Vec<u32>),
    /// The share of each class, for each example, row by row.
    Shares(Vec<f32>),
    /// The number of each example.
    Values(Vec<f32>),
}

impl BatchLabels {
    /// `labels` as they are.
    pub(crate) fn plain(labels: Labels, n_classes: usize) -> Self {
        match labels {
            Labels::Class(classes) => Self::Classes(classes),
            Labels::MultiLabel(_) => Self::Shares(labels.dense(n_classes)),
            Labels::Value(values) => Self::Values(values),
        }
    }
}

impl Augmentation {
    /// # Errors
    ///
    /// [`Error::Invalid`] for a change of labels that has no meaning for numbers.
    pub(crate) fn check_labels(&self, task: Task) -> Result<()> {
        if task != Task::Regression {
            return Ok(());
        }
        if self.label_smoothing > 0.0 {
            let found = format!("{} for regression", self.label_smoothing);
            return Err(Error::invalid(
                "label_smoothing",
                "0 for regression, since a number has no classes to spread over",
                found,
            ));
        }
        if matches!(self.mix, Some(Mix::Cutmix(_))) {
            let expected = "mixup or none for regression, since a part of an image does not hold that share of its number";
            return Err(Error::invalid("mix", expected, "cutmix"));
        }
        Ok(())
    }
}

impl Augmenter {
    /// Mixes the examples of a batch, `inputs` (B, C, H, W), and makes its labels. Example i is image
    /// `indices[i]` of the data, with the i-th of `labels`.
    pub(crate) fn mix(
        &self,
        inputs: &mut [f32],
        labels: Labels,
        n_classes: usize,
        indices: &[usize],
        epoch: usize,
    ) -> BatchLabels {
        if !self.augmentation.makes_soft_labels() {
            return BatchLabels::plain(labels, n_classes);
        }
        let epsilon = self.augmentation.label_smoothing;
        let mut shares = match &labels {
            Labels::Class(classes) => smoothed(classes, n_classes, epsilon),
            // Each label is a choice of two: Keras's `BinaryCrossentropy(label_smoothing)`.
            Labels::MultiLabel(_) => labels
                .dense(n_classes)
                .into_iter()
                .map(|y| y * (1.0 - epsilon as f32) + epsilon as f32 / 2.0)
                .collect(),
            Labels::Value(values) => values.clone(),
        };
        if let (Some(mix), true) = (self.augmentation.mix, indices.len() > 1) {
            let example = inputs.len() / indices.len();
            // From the last to the first, so that the previous example is still unmixed.
            let last =
                (inputs[inputs.len() - example..].to_vec(), shares[shares.len() - n_classes..].to_vec());
            for i in (0..indices.len()).rev() {
                let (before, own) = inputs.split_at_mut(i * example);
                let (before_shares, own_shares) = shares.split_at_mut(i * n_classes);
                let (other, other_shares) = match i {
                    0 => (last.0.as_slice(), last.1.as_slice()),
                    _ => (&before[(i - 1) * example..], &before_shares[(i - 1) * n_classes..]),
                };
                let mut random = Random::new(self.augmentation.seed, Purpose::Mix, epoch, indices[i]);
                let kept = self.mix_one(mix, &mut own[..example], other, &mut random);
                blend(&mut own_shares[..n_classes], other_shares, kept);
            }
        }
        match labels {
            Labels::Class(_) | Labels::MultiLabel(_) => BatchLabels::Shares(shares),
            Labels::Value(_) => BatchLabels::Values(shares),
        }
    }

    /// Mixes one example, (C, H, W), with another; returns the share that it keeps.
    fn mix_one(&self, mix: Mix, own: &mut [f32], other: &[f32], random: &mut Random) -> f32 {
        let (height, width, _) = self.shape;
        match mix {
            Mix::Mixup(alpha) => {
                let kept = beta(alpha, random) as f32;
                blend(own, other, kept);
                kept
            }
            Mix::Cutmix(alpha) => {
                let reach = 0.5 * (1.0 - beta(alpha, random)).sqrt();
                // `CutMix.make_params` of torchvision.
                let mut side = |size: usize| {
                    let (center, reach) = (random.below(size), (reach * size as f64) as usize);
                    center.saturating_sub(reach)..(center + reach).min(size)
                };
                let (columns, rows) = (side(width), side(height));
                for (own, other) in
                    own.chunks_exact_mut(height * width).zip(other.chunks_exact(height * width))
                {
                    for row in rows.clone() {
                        let range = row * width + columns.start..row * width + columns.end;
                        own[range.clone()].copy_from_slice(&other[range]);
                    }
                }
                1.0 - (columns.len() * rows.len()) as f32 / (height * width) as f32
            }
        }
    }
}

/// own ← kept·own + (1 − kept)·other.
fn blend(own: &mut [f32], other: &[f32], kept: f32) {
    own.iter_mut().zip(other).for_each(|(own, other)| *own = kept * *own + (1.0 - kept) * other);
}

/// One-hot rows with ε of each spread over all classes.
fn smoothed(classes: &[u32], n_classes: usize, epsilon: f64) -> Vec<f32> {
    let rest = epsilon / n_classes as f64;
    let mut shares = vec![rest as f32; classes.len() * n_classes];
    for (row, &class) in shares.chunks_exact_mut(n_classes).zip(classes) {
        row[class as usize] = (1.0 - epsilon + rest) as f32;
    }
    shares
}

/// A draw from Beta(α, α).
fn beta(alpha: f64, random: &mut Random) -> f64 {
    // α was checked to be above 0, the only condition of the distribution.
    Beta::new(alpha, alpha).map_or(1.0, |beta| beta.sample(random.rng()))
}
