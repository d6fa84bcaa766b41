//! The network that answers at present.

use std::sync::{Arc, PoisonError, RwLock};

use firstsight_transfer::{Classifier, PredictOptions};

use crate::Limits;
use crate::batches::Network;
use crate::decoding::Decoding;
use crate::metrics::Metrics;
use crate::predict::Predictor;

/// The network that answers at present, if there is one. Another may take its place.
#[derive(Debug)]
pub(crate) struct Current {
    predictor: RwLock<Option<Arc<Predictor>>>,
    limits: Limits,
    metrics: Arc<Metrics>,
}

impl Current {
    pub(crate) fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self { predictor: RwLock::default(), limits, metrics }
    }

    pub(crate) fn get(&self) -> Option<Arc<Predictor>> {
        self.predictor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers with a network from now on. Requests that the one before has taken are answered by it.
    pub(crate) fn put(&self, classifier: Classifier, options: PredictOptions) -> std::io::Result<()> {
        let decoding = Decoding::new(classifier.input.decode_settings(), self.limits.decoding_memory);
        let name = classifier.network.info().name.to_owned();
        let task = classifier.target.task().to_string();
        let labels = classifier.label_names.clone();
        let Limits { batch, queue, .. } = self.limits;
        let network = Network::start(classifier, options, (batch, queue), self.metrics.clone())?;
        let predictor = Predictor { decoding, network, top: options.top, name, task, labels };
        *self.predictor.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(predictor));
        Ok(())
    }
}
