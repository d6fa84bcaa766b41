use candle_core::{ModuleT, Result, Tensor};
use candle_nn::VarBuilder;

use crate::layers::{Layer, LayerSpec, Sequential};
use crate::trace::Trace;
use crate::{Backbone, Dims, Network, Scheme, Stage};

/// A network that is one layer after the other, all but the last: maps until they are brought to one size and
/// flattened, then features.
#[derive(Debug, Clone)]
pub(crate) struct TableNetwork {
    maps: Sequential,
    dense: Sequential,
}

impl TableNetwork {
    pub(crate) fn new(table: &[LayerSpec], input: Dims, scheme: Scheme, vb: &VarBuilder<'_>) -> Result<Self> {
        let ends = |spec: &LayerSpec| matches!(spec.layer, Layer::AdaptiveAvgPool2d { .. } | Layer::Flatten);
        let (maps, dense) = table.split_at(table.iter().position(ends).unwrap_or(table.len()));
        let maps = Sequential::new(maps, input, scheme, vb)?;
        let dense = Sequential::new(dense, maps.output(), scheme, vb)?;
        Ok(Self { maps, dense })
    }
}

impl ModuleT for TableNetwork {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.pre_logits(&self.forward_features(xs, train)?, train)
    }
}

impl Backbone for TableNetwork {
    fn n_features(&self) -> usize {
        self.dense.output().count()
    }
}

impl Network for TableNetwork {
    fn forward_features(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.maps.forward_t(xs, train)
    }

    fn pre_logits(&self, features: &Tensor, train: bool) -> Result<Tensor> {
        self.dense.forward_t(features, train)
    }

    fn stages(&self) -> Vec<Stage<'_>> {
        self.maps.stages().into_iter().chain(self.dense.stages()).collect()
    }

    fn describe(&self, trace: &mut Trace) -> Result<()> {
        self.maps.describe(trace)?;
        self.dense.describe(trace)
    }
}
