//! A network that is a table of layers.

use std::sync::Arc;

use candle_core::{ModuleT as _, Result as CandleResult, Tensor};
use candle_nn::VarBuilder;

use crate::layers::{Layer, LayerSpec, Sequential};
use crate::summary::Trace;
use crate::{BuildArgs, Init, InputShape, NamedLayer, Network, Result};

/// A network of layers one after the other, without the last: feature maps until they are brought to one size or
/// flattened, then features.
#[derive(Debug, Clone)]
pub struct TableNetwork {
    maps: Sequential,
    dense: Sequential,
}

impl TableNetwork {
    /// The layers of `table` for one size of input, with variables from `vb`.
    ///
    /// # Errors
    ///
    /// A layer that does not fit its input.
    pub fn new(table: &[LayerSpec], input: InputShape, init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        let ends = |spec: &LayerSpec| matches!(spec.layer, Layer::AdaptiveAvgPool2d { .. } | Layer::Flatten);
        let (maps, dense) = table.split_at(table.iter().position(ends).unwrap_or(table.len()));
        let maps = Sequential::new(maps, input, init, vb)?;
        let dense = Sequential::new(dense, maps.output(), init, vb)?;
        Ok(Self { maps, dense })
    }

    /// All layers of `table` but the last, which is the head.
    pub(super) fn without_head(table: &[LayerSpec], args: &BuildArgs<'_>) -> Result<Arc<dyn Network>> {
        let body = table.split_last().map_or(table, |(_, body)| body);
        Ok(Arc::new(Self::new(body, args.input, args.init, &args.vb)?))
    }
}

/// The last layer of `table`.
pub(super) fn head(table: Vec<LayerSpec>) -> LayerSpec {
    table.into_iter().next_back().unwrap_or_else(|| LayerSpec::dense("output", 1))
}

impl Network for TableNetwork {
    fn n_features(&self) -> usize {
        self.dense.output().count()
    }

    fn forward_features(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.maps.forward_t(xs, train)
    }

    fn pre_logits(&self, features: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.dense.forward_t(features, train)
    }

    fn named_layers(&self) -> Vec<NamedLayer<'_>> {
        self.maps.named_layers().into_iter().chain(self.dense.named_layers()).collect()
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        self.maps.describe(trace)?;
        self.dense.describe(trace)
    }
}
