//! Layers without gradients, with running statistics folded into the weights.

use std::borrow::Cow;

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

/// A layer that is ready to run on any number of samples.
pub(crate) struct InferencePlan<'a> {
    spec: &'a ConvBnActSpec,
    bias: Option<Vec<f32>>,
    conv: PreparedConv<'a>,
}

/// A convolution whose weights are scaled and packed.
enum PreparedConv<'a> {
    Dense(PackedConv),
    Depthwise(Depthwise, Cow<'a, [f32]>),
}

impl<'a> InferencePlan<'a> {
    /// `None` if the layer normalizes by the batch's own moments.
    pub(crate) fn new(spec: &'a ConvBnActSpec, params: LayerParams<'a>) -> Option<Self> {
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
                PreparedConv::Depthwise(Depthwise::new(algorithm, &spec.shape), scaled.collect())
            }
            plan::Forward::Dense(algorithm) => {
                PreparedConv::Dense(PackedConv::new(algorithm, &spec.shape, params.weight, Some(&scales)))
            }
        };
        let bias = Some(affines.iter().map(|affine| affine.shift).collect());
        Some(Self { spec, bias, conv })
    }

    /// The layer without its normalization.
    pub(crate) fn without_norm(spec: &'a ConvBnActSpec, weight: &'a [f32], bias: Option<&'a [f32]>) -> Self {
        let conv = match spec.algorithm {
            plan::Forward::Depthwise(algorithm) => {
                PreparedConv::Depthwise(Depthwise::new(algorithm, &spec.shape), weight.into())
            }
            plan::Forward::Dense(algorithm) => {
                PreparedConv::Dense(PackedConv::new(algorithm, &spec.shape, weight, None))
            }
        };
        Self { spec, bias: bias.map(<[f32]>::to_vec), conv }
    }

    /// Computes the output for the samples of `x`.
    pub(crate) fn run(&self, x: LazyMap<'_>, y: &mut [f32]) {
        match &self.conv {
            PreparedConv::Dense(conv) => conv.forward(x, self.bias.as_deref(), self.spec.activation, y),
            PreparedConv::Depthwise(depthwise, weight) => {
                let channels = self.spec.shape.c_out;
                let planes = Planes::new(y, channels, self.spec.plane_len());
                (0..channels).into_par_iter().for_each(|channel| {
                    dispatch(RunChannel { plan: self, depthwise, weight, channel, x, y: planes });
                });
            }
        }
    }
}

/// One channel of a depthwise layer.
struct RunChannel<'a> {
    plan: &'a InferencePlan<'a>,
    depthwise: &'a Depthwise,
    weight: &'a [f32],
    channel: usize,
    x: LazyMap<'a>,
    y: Planes<'a>,
}

impl Kernel for RunChannel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { plan, depthwise, weight, channel, x, y } = self;
        let InferencePlan { spec, bias, .. } = plan;
        // SAFETY: this task alone has the channel, and takes each plane once at a time.
        let plane = |sample| unsafe { y.plane(sample, channel) };
        let bias = bias.as_ref().map_or(0.0, |bias| bias[channel]);
        let conv = ChannelConv { shape: &spec.shape, depthwise, channel, x, weight };
        conv.run(simd, bias, spec.activation, plane);
    }
}
