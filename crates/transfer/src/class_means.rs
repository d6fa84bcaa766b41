//! How far an image is from all classes in the space of a network's features.

use std::cell::RefCell;

use candle_core::{D, DType, Module, ModuleT, Tensor};
use firstsight_data::{Batches as _, ImageDataset, InputSpec, Labels};
use firstsight_models::ImageClassifier;
use firstsight_train::{Inference, PackedWeights};

use crate::head::MEASURED;
use crate::training::evaluation_batch;
use crate::{FeatureConfig, FeatureMap, FeatureView, Features, Result, Runtime, features};

/// Training images that the means are taken from, at most, in all and by class.
const IMAGES: usize = 2000;
const OF_A_CLASS: (usize, usize) = (5, 100);
/// Largest number of values, so that a run stays small.
const VALUES: usize = 1 << 22;

/// The mean direction of each class's features: the input of the last layer, scaled to length 1.
///
/// An image's distance is 1 minus the cosine of the angle to the nearest mean, from 0 to 2. Photos of other things are farther
/// than those of the classes, also where the last layer is sure of itself.
#[derive(Debug, Clone)]
pub struct ClassMeans {
    /// (K, F), rows of length 1.
    pub(crate) rows: Tensor,
    /// The map of the features that the means are of. A run does not keep it.
    pub(crate) map: Option<FeatureMap>,
}

/// Where images are among the features of the training images.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The distance of each to the nearest class mean.
    pub distances: Vec<f32>,
    /// The place of each on the [map](FeatureMap), where there is one.
    pub on_map: Vec<[f32; 2]>,
}

impl ClassMeans {
    /// The means of a network over some of its training images. `None` where they would take more than 16 MB, as for logistic
    /// regression on large images of many classes.
    ///
    /// # Errors
    ///
    /// Those of [`features`].
    pub fn new(
        network: &ImageClassifier,
        images: &ImageDataset,
        input: &InputSpec,
        runtime: &Runtime,
    ) -> Result<Option<Self>> {
        let Labels::Class(labels) = images.targets() else { return Ok(None) };
        let n_classes = images.classes().len();
        if n_classes * network.n_features() > VALUES {
            return Ok(None);
        }
        let config = FeatureConfig {
            normalize: input.normalize(),
            views: &[FeatureView::Plain],
            batch_size: evaluation_batch(input),
            identity: String::new(),
            communicator: &*runtime.communicator,
        };
        let some = images.subset(&some_of_each(labels, n_classes));
        Self::of(&features(network.backbone(), &some, &config, None, &runtime.device, &mut |_, _| ())?)
    }

    /// The means of features, in their first view.
    ///
    /// # Errors
    ///
    /// Those of the tensor operations.
    pub fn of(features: &Features) -> Result<Option<Self>> {
        let Labels::Class(_) = &features.labels else { return Ok(None) };
        let (n, k, f) = (features.n_images(), features.n_classes, features.n_features());
        if k * f > VALUES || n == 0 {
            return Ok(None);
        }
        let mut sums = Tensor::zeros((k, f), DType::F32, features.device())?;
        for batch in features.in_order(MEASURED)?.epoch(0) {
            let batch = batch?;
            sums = sums.index_add(&batch.labels, &unit(&batch.inputs)?, 0)?;
        }
        let map = FeatureMap::new(&features.select(&FeatureMap::some_of(n), 1)?.0)?;
        Ok(Some(Self { rows: unit(&sums)?, map }))
    }

    /// The distance of each row of features (B, F), (B,).
    ///
    /// # Errors
    ///
    /// Features of another length.
    pub fn distances(&self, features: &Tensor) -> candle_core::Result<Vec<f32>> {
        let cosines = unit(features)?.matmul(&self.rows.t()?)?;
        (1.0 - cosines.max(D::Minus1)?)?.to_vec1()
    }
}

/// Rows scaled to length 1; zeros stay.
fn unit(rows: &Tensor) -> candle_core::Result<Tensor> {
    let lengths = rows.sqr()?.sum_keepdim(1)?.sqrt()?;
    rows.broadcast_div(&(lengths + 1e-12)?)
}

/// Images of every class, evenly from among them.
fn some_of_each(labels: &[u32], n_classes: usize) -> Vec<usize> {
    let most = (IMAGES / n_classes.max(1)).clamp(OF_A_CLASS.0, OF_A_CLASS.1);
    let mut of_class = vec![Vec::new(); n_classes];
    for (i, &label) in labels.iter().enumerate() {
        of_class[label as usize].push(i);
    }
    let some = |of: Vec<usize>| {
        let step = of.len().div_ceil(most).max(1);
        of.into_iter().step_by(step)
    };
    of_class.into_iter().flat_map(some).collect()
}

/// A network that notes the places of its inputs on the way.
pub(crate) struct Measuring<'a> {
    network: &'a ImageClassifier,
    packed: &'a PackedWeights,
    means: Option<&'a ClassMeans>,
    places: RefCell<Places>,
}

impl<'a> Measuring<'a> {
    pub(crate) fn new(
        network: &'a ImageClassifier,
        packed: &'a PackedWeights,
        means: Option<&'a ClassMeans>,
    ) -> Self {
        Self { network, packed, means, places: RefCell::default() }
    }

    /// The places so far, if there are class means.
    pub(crate) fn into_places(self) -> Option<Places> {
        self.means.map(|_| self.places.into_inner())
    }
}

/// Always in inference mode.
impl ModuleT for Measuring<'_> {
    fn forward_t(&self, xs: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        let features = Inference::in_pool(self.network.backbone(), self.packed).forward(xs)?;
        if let Some(means) = self.means {
            let mut places = self.places.borrow_mut();
            places.distances.extend(means.distances(&features)?);
            if let Some(map) = &means.map {
                places.on_map.extend(map.place(&features)?);
            }
        }
        self.network.classify(&features, train)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn features(rows: &[[f32; 2]], labels: &[u32]) -> Features {
        let rows = Tensor::new(rows.as_flattened(), &Device::Cpu).unwrap().reshape((rows.len(), 2)).unwrap();
        Features::new(&rows, Labels::Class(labels.to_vec()), 2).unwrap()
    }

    #[test]
    fn the_distance_is_that_of_the_nearest_class_in_direction() {
        let known = features(&[[1.0, 0.0], [5.0, 0.0], [0.0, 2.0]], &[0, 0, 1]);
        let means = ClassMeans::of(&known).unwrap().unwrap();
        let asked = Tensor::new(&[[9.0f32, 0.0], [0.0, 0.1], [3.0, 3.0], [-1.0, 0.0]], &Device::Cpu).unwrap();
        let found = means.distances(&asked).unwrap();
        for (found, expected) in found.iter().zip([0.0, 0.0, 1.0 - 0.5f32.sqrt(), 1.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn means_that_would_be_large_are_not_kept() {
        let row = Tensor::new(&[[3.0f32, 4.0]], &Device::Cpu).unwrap();
        for (n_classes, kept) in [(VALUES / 2, true), (VALUES / 2 + 1, false)] {
            let features = Features::new(&row, Labels::Class(vec![1]), n_classes).unwrap();
            let means = ClassMeans::of(&features).unwrap();
            assert_eq!(means.is_some(), kept, "{n_classes} classes");
            if let Some(means) = means {
                let rows = means.rows.narrow(0, 0, 3).unwrap().to_vec2::<f32>().unwrap();
                assert_eq!(rows, [[0.0, 0.0], [0.6, 0.8], [0.0, 0.0]]);
            }
        }
    }

    #[test]
    fn each_class_gives_some_images() {
        let labels: Vec<u32> = (0..5000).map(|i| u32::from(i == 17)).collect();
        let some = some_of_each(&labels, 2);
        assert!(some.contains(&17) && some.len() <= 101, "{}", some.len());
    }
}
