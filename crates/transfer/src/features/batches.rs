//! Batches of features.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use firstsight_data::{Batch, Batches, Sampling};

use super::Features;
use super::rows::{tensor, values};
use crate::{Error, Result};

/// Batches of the features of some images, (B, F) f32, with their labels. A batch is in memory at a time.
#[derive(Debug, Clone)]
pub struct FeatureBatches {
    features: Features,
    images: Vec<u32>,
    views: usize,
    batch_size: usize,
    sampling: Sampling,
    scaling: Option<Scaling>,
}

impl FeatureBatches {
    /// Batches of `batch_size` rows of some images in their first `views` views, an image's view counting as an example.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] without images, and for batches of 0.
    pub fn new(
        features: &Features,
        images: &[usize],
        views: usize,
        batch_size: usize,
        sampling: Sampling,
    ) -> Result<Self> {
        let wrong = |setting, expected: &str| {
            Err(Error::Setting { setting, expected: expected.to_owned(), found: "0".to_owned() })
        };
        let views = views.min(features.n_views());
        if images.is_empty() || views == 0 {
            return wrong("images with features", "at least one");
        }
        if batch_size == 0 {
            return wrong("batch size", "at least 1");
        }
        let images = images.iter().map(|&image| image as u32).collect();
        Ok(Self { features: features.clone(), images, views, batch_size, sampling, scaling: None })
    }

    /// The same batches with scaled features.
    pub(crate) fn scaled(self, scaling: Scaling) -> Self {
        Self { scaling: Some(scaling), ..self }
    }

    fn batch(&self, examples: &[usize]) -> firstsight_data::Result<Batch> {
        let Features { views, labels, n_classes, groups: _, device } = &self.features;
        let place = |example: &usize| (example / self.images.len(), example % self.images.len());
        let image = |i: usize| self.images[i] as usize;
        let rows = examples.iter().map(place).map(|(view, i)| views[view].row(image(i)));
        let shape = (examples.len(), self.features.n_features());
        let inputs = match &self.scaling {
            None => tensor(rows, values, shape, device)?,
            Some(scaling) => tensor(rows, |row| scaling.apply(row), shape, device)?,
        };
        let images: Vec<usize> = examples.iter().map(|example| image(place(example).1)).collect();
        Ok(Batch { inputs, labels: labels.subset(&images).to_tensor(*n_classes, device)? })
    }
}

impl Batches for FeatureBatches {
    fn epoch(&self, epoch: usize) -> Box<dyn Iterator<Item = firstsight_data::Result<Batch>> + '_> {
        let order = self.sampling.indices(self.n_examples(), epoch);
        Box::new((0..self.n_batches()).map(move |i| {
            let end = order.len().min((i + 1) * self.batch_size);
            self.batch(&order[i * self.batch_size..end])
        }))
    }

    fn n_batches(&self) -> usize {
        self.n_examples().div_ceil(self.batch_size)
    }

    fn n_examples(&self) -> usize {
        self.images.len() * self.views
    }
}

/// The mean of each feature, and one standard deviation for all. A deviation per feature would amplify the features that are
/// almost always 0.
#[derive(Debug, Clone)]
pub(crate) struct Scaling {
    mean: Arc<[f32]>,
    pub(crate) deviation: f64,
}

impl Scaling {
    /// Of some images in all views.
    pub(crate) fn of(features: &Features, images: &[usize]) -> Self {
        // Constant features stay 0 whatever they are divided by.
        const SMALLEST: f64 = 1e-6;
        let n_features = features.n_features();
        let (mut sums, mut squares) = (vec![0.0; n_features], vec![0.0; n_features]);
        for view in &features.views {
            for &image in images {
                for ((sum, square), value) in sums.iter_mut().zip(&mut squares).zip(values(view.row(image))) {
                    let value = f64::from(value);
                    *sum += value;
                    *square += value * value;
                }
            }
        }
        let n = (images.len() * features.n_views()).max(1) as f64;
        let variance = |(sum, square): (&f64, &f64)| (square - sum * sum / n).max(0.0) / n;
        let variance = sums.iter().zip(&squares).map(variance).sum::<f64>() / n_features.max(1) as f64;
        let mean = sums.iter().map(|sum| (sum / n) as f32).collect();
        Self { mean, deviation: variance.sqrt() + SMALLEST }
    }

    /// The means (F,).
    pub(crate) fn mean(&self, device: &Device) -> candle_core::Result<Tensor> {
        Tensor::new(&*self.mean, device)
    }

    fn apply(&self, row: &[u8]) -> impl Iterator<Item = f32> {
        let scale = (1.0 / self.deviation) as f32;
        values(row).zip(&*self.mean).map(move |(value, mean)| (value - mean) * scale)
    }
}

#[cfg(test)]
mod tests {
    use firstsight_data::Labels;

    use super::*;

    #[test]
    fn features_are_scaled_to_mean_0_and_variance_1_over_all() {
        let rows = [[5.0f32, 1.0], [7.0, 1.0], [9.0, 1.0], [1000.0, 1000.0]];
        let rows = Tensor::new(&rows, &Device::Cpu).unwrap();
        let features = Features::new(&rows, Labels::Class(vec![0, 1, 0, 1]), 2).unwrap();
        // The last image is not asked for.
        let scaling = Scaling::of(&features, &[0, 1, 2]);
        assert_eq!(scaling.mean(&Device::Cpu).unwrap().to_vec1::<f32>().unwrap(), [7.0, 1.0]);
        // Variances of 8/3 and 0.
        assert!((scaling.deviation - (4.0f64 / 3.0).sqrt()).abs() < 1e-5, "{}", scaling.deviation);
    }
}
