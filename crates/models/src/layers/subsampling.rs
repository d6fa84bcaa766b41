use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use firstsight_ops::{self as ops, Activation, PadCounting, Pool2dConfig};

use crate::graph::Op;
use crate::summary::{LayerKind, Trace};
use crate::{Init, InputShape};

/// LeNet-5's pooling: y = f(w·Σ window + b) with one trainable coefficient `weight` and one `bias` per channel (LeCun
/// et al. 1998, section II.B).
#[derive(Debug, Clone)]
pub(crate) struct Subsampling {
    weight: Tensor,
    bias: Tensor,
    config: Pool2dConfig,
    activation: Activation,
}

impl Subsampling {
    pub(crate) fn new(
        channels: usize,
        config: Pool2dConfig,
        activation: Activation,
        init: Init,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let fan = [1, 1, config.kernel.0, config.kernel.1];
        let weight = vb.get_with_hints(channels, "weight", init.weight(&fan))?;
        let bias = vb.get_with_hints(channels, "bias", init.bias(&fan, 0.0))?;
        Ok(Self { weight, bias, config, activation })
    }

    /// Appends the layer, whose output has the shape `output`.
    pub(crate) fn describe(&self, name: &str, output: InputShape, trace: &mut Trace) -> Result<()> {
        trace.apply(format!("{name}.pool"), Op::AvgPool(self.config));
        let op = Op::ChannelAffine { weight: self.pixel_weight()?, bias: Some(self.bias.clone()) };
        let entry = trace.push(name, LayerKind::Subsampling, op, output);
        entry.params = self.weight.elem_count() + self.bias.elem_count();
        entry.multiply_adds = output.count() as u64;
        trace.apply(format!("{name}.act"), Op::Activation(self.activation));
        Ok(())
    }

    /// The factor of a window's mean.
    fn pixel_weight(&self) -> Result<Tensor> {
        &self.weight * (self.config.kernel.0 * self.config.kernel.1) as f64
    }

    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let per_channel = (1, self.weight.elem_count(), 1, 1);
        let weight = self.pixel_weight()?.reshape(per_channel)?;
        let means = ops::avg_pool2d(xs, &self.config, PadCounting::Exclude)?;
        let sums = means.broadcast_mul(&weight)?.broadcast_add(&self.bias.reshape(per_channel)?)?;
        ops::activate(&sums, self.activation)
    }
}
