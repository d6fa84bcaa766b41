//! The layers of a block (convolution, batch normalization, activation) on slices.

mod backward;
mod expand_depthwise;
mod forward;
mod inference;

pub(crate) use self::backward::{ForwardPass, GradSource, LayerGrads, OutputGrad, PropagatedGrad};
pub(crate) use self::expand_depthwise::ExpandDepthwise;
pub(crate) use self::forward::{BlockTail, SavedActivations};
pub(crate) use self::inference::InferenceWeights;

use super::depthwise::Depthwise;
use super::epilogue::Epilogue;
use crate::config::Activation;
use crate::cpu::batch_norm::Moments;
use crate::cpu::plan;
use crate::cpu::simd::Simd;
use crate::packed_weights::Packing;
use crate::shape::ConvShape;

/// The shape and settings of a layer.
#[derive(Debug, Clone)]
pub(crate) struct ConvBnActSpec {
    pub(crate) shape: ConvShape,
    pub(crate) norm: Option<NormSpec>,
    pub(crate) activation: Activation,
    algorithm: plan::Forward,
}

/// The settings of a layer's batch normalization.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormSpec {
    pub(crate) epsilon: f64,
    /// Whether to normalize by the batch's own statistics, and not by running ones.
    pub(crate) by_batch: bool,
}

/// The parameters of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerParams<'a> {
    pub(crate) weight: &'a [f32],
    /// The bias of a convolution that is not normalized.
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) norm: Option<NormParams<'a>>,
}

/// The scale and shift of a batch normalization, and its running statistics, one value per channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormParams<'a> {
    pub(crate) gamma: &'a [f32],
    pub(crate) beta: &'a [f32],
    pub(crate) mean: &'a [f32],
    pub(crate) var: &'a [f32],
}

impl ConvBnActSpec {
    pub(crate) fn new(shape: ConvShape, norm: Option<NormSpec>, activation: Activation) -> Self {
        Self { shape, norm, activation, algorithm: plan::forward(&shape) }
    }

    /// What its kernels make of its weights in inference.
    pub(crate) fn packing(&self) -> Packing {
        let epsilon = self.norm.map(|norm| norm.epsilon.to_bits());
        Packing::Conv { algorithm: self.algorithm, groups: self.shape.config.groups, epsilon }
    }

    /// Number of outputs per channel.
    pub(crate) fn values_per_channel(&self) -> usize {
        self.shape.batch * self.plane_len()
    }

    /// Number of outputs per channel and sample.
    fn plane_len(&self) -> usize {
        self.shape.oh * self.shape.ow
    }

    fn depthwise(&self) -> Option<Depthwise> {
        match self.algorithm {
            plan::Forward::Depthwise(algorithm) => Some(Depthwise::new(algorithm, &self.shape)),
            plan::Forward::Dense(_) => None,
        }
    }

    /// Whether the layer normalizes by the batch's own mean and variance.
    pub(crate) fn normalizes_by_batch(&self) -> bool {
        self.norm.is_some_and(|norm| norm.by_batch)
    }

    fn uses_running_stats(&self) -> bool {
        self.norm.is_some_and(|norm| !norm.by_batch)
    }

    /// The running moments of a channel, if the layer normalizes by them.
    fn running_moments(&self, params: NormParams<'_>, channel: usize) -> Option<Moments> {
        let norm = self.norm.filter(|norm| !norm.by_batch)?;
        Some(Moments::new(params.mean[channel], params.var[channel], norm.epsilon))
    }
}

/// Applies an epilogue to a plane, whose result is in `scratch` unless the epilogue does nothing.
#[inline(always)]
fn with_epilogue<'a, S: Simd>(
    epilogue: Epilogue<'_>,
    channel: usize,
    plane: &'a [f32],
    scratch: &'a mut [f32],
) -> &'a [f32] {
    if epilogue.is_none() {
        return plane;
    }
    epilogue.apply_from::<S>(channel, plane, scratch);
    scratch
}
