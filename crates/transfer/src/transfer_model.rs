//! A pretrained network that is given a new last layer, and the steps that train it.

use candle_core::{ModuleT, Tensor, Var};
use firstsight_data::{Batches, ImageDataset, InputSpec, Loader, Sampling};
use firstsight_models::{Block, ImageClassifier, InputShape, Params};
use firstsight_train::callbacks::{Interrupt, StopOnNan};
use firstsight_train::{Callback, FitConfig, History, Trainable, fit};

use crate::task::{Target, TaskEvaluation};
use crate::training::{evaluation_batch, in_order};
use crate::{
    ClassMeans, FeatureConfig, FeatureView, Features, FineTuneConfig, FineTuner, Head, Pretrained, Result,
    Runtime, Smaller, features, fingerprint, loader,
};

/// Rows at a time when a last layer is measured on features.
const FEATURE_BATCH: usize = 1024;

/// A pretrained network with a new last layer.
#[derive(Debug, Clone)]
pub struct TransferModel {
    /// The network.
    pub network: ImageClassifier,
    /// Preprocessing of an image.
    pub input: InputSpec,
    /// The last layer that came with the weights, where it has as many outputs.
    pub(crate) pretrained_head: Option<Head>,
    /// The classes in feature space, once they are known.
    pub(crate) means: Option<ClassMeans>,
    runtime: Runtime,
}

impl TransferModel {
    /// The network for images of `input`, with `n_outputs` outputs initialized from the seed.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Models`] for weights that do not fit.
    pub fn new(
        pretrained: &Pretrained,
        input: InputSpec,
        n_outputs: usize,
        seed: u64,
        runtime: &Runtime,
    ) -> Result<Self> {
        let model = pretrained.model;
        let params = Params::seeded(seed, &runtime.device);
        let dims = InputShape::from(&input);
        let n_classes = if pretrained.n_classes == 0 { n_outputs } else { pretrained.n_classes };
        let mut network = ImageClassifier::new(model, dims, n_classes, model.init, &params.undrawn())?;
        if pretrained.n_classes == 0 {
            params.remove(|name| network.in_head(name));
        }
        pretrained.load_into(&network)?;
        let pretrained_head = if pretrained.n_classes == n_outputs { head_of(&network)? } else { None };
        network.reset_classifier(n_outputs)?;
        Ok(Self { network, input, pretrained_head, means: None, runtime: runtime.clone() })
    }

    /// Its blocks from the input to the last layer, for gradual unfreezing.
    pub fn blocks(&self) -> Vec<Block> {
        self.network.blocks()
    }

    /// The variables of the last layer.
    pub fn head_vars(&self) -> Vec<(String, Var)> {
        self.network.head_vars()
    }

    /// Number of parameters of the last layer.
    pub fn head_params(&self) -> usize {
        self.head_vars().iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// Features of images: the input of the last layer, computed once by the frozen backbone and kept in the cache.
    ///
    /// # Errors
    ///
    /// Those of [`features`].
    pub fn features(&self, task: &str, images: &ImageDataset, views: &[FeatureView]) -> Result<Features> {
        let Runtime { cache, device, communicator, .. } = &self.runtime;
        let config = FeatureConfig {
            normalize: self.input.normalize(),
            views,
            communicator: &**communicator,
            batch_size: evaluation_batch(&self.input),
            identity: format!(
                "{} {:?}",
                fingerprint(self.network.params(), |name| !self.network.in_head(name))?,
                self.input
            ),
        };
        let values = images.len() * views.len() * self.network.n_features();
        let needed = (values * size_of::<f32>()) as u64;
        let in_file = cache.as_ref().is_some_and(|cache| self.runtime.is_root() && cache.has_room(needed));
        if !in_file {
            let what = format!("{task} of {} images", images.len());
            self.runtime.check_memory(&what, needed, Smaller::DataSet)?;
        }
        self.runtime.counted(task, |report| {
            let report = &mut |done, total| report(done, total);
            features(self.network.backbone(), images, &config, cache.as_ref(), device, report)
        })
    }

    /// Gives the last layer the weights of a trained head.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Models`] for a head of another shape.
    pub fn set_head(&self, head: &Head) -> Result<()> {
        Ok(self.network.set_head(&head.weight, &head.bias)?)
    }

    /// Measures the last layer on the features of images as they are. The labels of the features are
    /// [prepared](Target::prepare), those of the images are not.
    ///
    /// # Errors
    ///
    /// Those of [`TaskEvaluation::measure_batches`].
    pub fn evaluate_head<E: TaskEvaluation>(
        &self,
        images: &ImageDataset,
        features: &Features,
        target: &Target,
    ) -> Result<E> {
        let batches = features.in_order(FEATURE_BATCH)?;
        E::measure_batches(&LastLayer(&self.network), &batches, images.clone(), target)
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Measures the network on images.
    ///
    /// # Errors
    ///
    /// Those of [`TaskEvaluation::measure_task`].
    pub fn measure<E: TaskEvaluation>(&self, images: ImageDataset, target: &Target) -> Result<E> {
        E::measure_with(&self.network, images, target, &self.input, self.means.as_ref(), &self.runtime)
    }

    /// Trains the last layer on batches of features.
    ///
    /// # Errors
    ///
    /// Those of [`fit`].
    pub fn fit_head(&self, train: &dyn Batches, val: &dyn Batches, config: &FitConfig) -> Result<History> {
        self.runtime.interrupt.with_graceful_interrupt(|flag| {
            let mut interrupt = Interrupt(flag);
            let callbacks: &mut [&mut dyn Callback] = &mut [&mut StopOnNan, &mut interrupt];
            Ok(fit(
                &Trainable::new(&LastLayer(&self.network), self.head_vars()),
                train,
                Some(val),
                config,
                callbacks,
            )?)
        })
    }

    /// The network with the blocks before `config.unfreeze_from` frozen.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Setting`] for an unknown block.
    pub fn unfreeze(&self, config: &FineTuneConfig) -> Result<FineTuner> {
        FineTuner::new(&self.network, config)
    }

    /// Batches of images as the network takes them.
    ///
    /// # Errors
    ///
    /// Those of [`loader`].
    pub fn loader(&self, images: &ImageDataset, batch_size: usize, sampling: Sampling) -> Result<Loader> {
        loader(images, &self.input, batch_size, sampling, &self.runtime.device)
    }

    /// Batches of images in order, for everything but training.
    ///
    /// # Errors
    ///
    /// Those of [`loader`].
    pub fn in_order(&self, images: &ImageDataset) -> Result<Loader> {
        in_order(images, &self.input, &self.runtime.device)
    }
}

/// A copy of a network's last layer, where that has a weight and a bias.
fn head_of(network: &ImageClassifier) -> Result<Option<Head>> {
    let vars = network.head_vars();
    let copy = |ending: &str| vars.iter().find(|(name, _)| name.ends_with(ending)).map(|(_, var)| var.copy());
    let (Some(weight), Some(bias)) = (copy(".weight").transpose()?, copy(".bias").transpose()?) else {
        return Ok(None);
    };
    Ok(Some(Head { weight, bias, penalty: f64::NAN, cross_validation: Vec::new() }))
}

/// A network's last layer alone, on features.
struct LastLayer<'a>(&'a ImageClassifier);

impl ModuleT for LastLayer<'_> {
    fn forward_t(&self, xs: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        self.0.classify(xs, train)
    }
}
