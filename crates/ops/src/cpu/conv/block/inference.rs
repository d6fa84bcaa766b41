//! Layers without gradients, with running statistics folded into the weights.

use rayon::prelude::*;

use super::forward::ChannelConv;
use super::{ConvBnActSpec, LayerParams};
use crate::cpu::batch_norm::Affine;
use crate::cpu::conv::dense::PackedConv;
use crate::cpu::conv::depthwise::Depthwise;
use crate::cpu::conv::epilogue::LazyMap;
use crate::cpu::memory::planes::Planes;
use crate::cpu::plan;
use crate::cpu::simd::{Kernel, Simd, dispatch};

/// A layer's weights and bias with its normalization folded in, in the order in which kernels read them.
pub(crate) struct InferenceWeights {
    conv: Weights,
    bias: Option<Vec<f32>>,
}

enum Weights {
    Dense(PackedConv),
    Depthwise(plan::Depthwise, Vec<f32>),
}

impl InferenceWeights {
    /// `None` if the layer normalizes by the batch's own moments.
    pub(crate) fn new(spec: &ConvBnActSpec, params: LayerParams<'_>) -> Option<Self> {
        if spec.norm.is_none() {
            return Some(Self::without_norm(spec, params.weight, params.bias));
        }
        let norm = params.norm?;
        let affine = |channel| {
            let moments = spec.running_moments(channel)?;
            Some(Affine::new(moments, norm.gamma[channel], norm.beta[channel]))
        };
        let affines: Vec<Affine> = (0..spec.shape.c_out).map(affine).collect::<Option<_>>()?;
        let scales: Vec<f32> = affines.iter().map(|affine| affine.scale).collect();
        let conv = match spec.algorithm {
            plan::Forward::Depthwise(algorithm) => {
                let kernels = params.weight.chunks_exact(spec.shape.kh * spec.shape.kw).zip(&scales);
                let scaled = kernels.flat_map(|(kernel, scale)| kernel.iter().map(move |w| w * scale));
                Weights::Depthwise(algorithm, scaled.collect())
            }
            plan::Forward::Dense(algorithm) => {
                Weights::Dense(PackedConv::new(algorithm, &spec.shape, params.weight, Some(&scales)))
            }
        };
        Some(Self { conv, bias: Some(affines.iter().map(|affine| affine.shift).collect()) })
    }

    /// Those of the layer without its normalization.
    pub(crate) fn without_norm(spec: &ConvBnActSpec, weight: &[f32], bias: Option<&[f32]>) -> Self {
        let conv = match spec.algorithm {
            plan::Forward::Depthwise(algorithm) => Weights::Depthwise(algorithm, weight.to_vec()),
            plan::Forward::Dense(algorithm) => {
                Weights::Dense(PackedConv::new(algorithm, &spec.shape, weight, None))
            }
        };
        Self { conv, bias: bias.map(<[f32]>::to_vec) }
    }

    /// Computes the output of the layer `spec` for any number of samples.
    pub(crate) fn run(&self, spec: &ConvBnActSpec, x: LazyMap<'_>, y: &mut [f32]) {
        match &self.conv {
            Weights::Depthwise(algorithm, weight) => {
                let channels = spec.shape.c_out;
                let y = Planes::new(y, channels, spec.plane_len());
                let (depthwise, bias) = (&Depthwise::new(*algorithm, &spec.shape), self.bias.as_deref());
                (0..channels).into_par_iter().for_each(|channel| {
                    dispatch(RunChannel { spec, depthwise, weight, bias, channel, x, y });
                });
            }
            Weights::Dense(conv) => conv.forward(&spec.shape, x, self.bias.as_deref(), spec.activation, y),
        }
    }
}

/// One channel of a depthwise layer.
struct RunChannel<'a> {
    spec: &'a ConvBnActSpec,
    depthwise: &'a Depthwise,
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    channel: usize,
    x: LazyMap<'a>,
    y: Planes<'a>,
}

impl Kernel for RunChannel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { spec, depthwise, weight, bias, channel, x, y } = self;
        // SAFETY: this task alone has the channel, and takes each plane once at a time.
        let plane = |sample| unsafe { y.plane(sample, channel) };
        let bias = bias.map_or(0.0, |bias| bias[channel]);
        let conv = ChannelConv { shape: &spec.shape, depthwise, channel, x, weight };
        conv.run(simd, bias, spec.activation, plane);
    }
}
