//! Layers without gradients, with running statistics folded into the weights.

use std::ops::Range;

use super::forward::ChannelConv;
use super::{ConvBnActSpec, LayerParams};
use crate::cpu::batch_norm::Affine;
use crate::cpu::conv::dense::PackedConv;
use crate::cpu::conv::depthwise::Depthwise;
use crate::cpu::conv::depthwise_rows::{DepthwiseRows, Plane};
use crate::cpu::conv::epilogue::LazyMap;
use crate::cpu::elementwise::{Activate, Clamp};
use crate::cpu::memory::planes::Planes;
use crate::cpu::memory::threads::map_tasks;
use crate::cpu::plan;
use crate::cpu::simd::{Kernel, Simd, dispatch};

/// A layer's weights and bias with its normalization folded in, in the order in which kernels read them.
pub(crate) struct InferenceWeights {
    pub(super) conv: Weights,
    pub(super) bias: Option<Vec<f32>>,
}

pub(super) enum Weights {
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
            let moments = spec.running_moments(norm, channel)?;
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
                let layer =
                    DepthwiseLayer { spec, algorithm: *algorithm, weight, bias: self.bias.as_deref(), x };
                layer.run(y);
            }
            Weights::Dense(conv) => conv.forward(&spec.shape, x, self.bias.as_deref(), spec.activation, y),
        }
    }
}

/// A depthwise layer and its input.
#[derive(Clone, Copy)]
struct DepthwiseLayer<'a> {
    spec: &'a ConvBnActSpec,
    algorithm: plan::Depthwise,
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    x: LazyMap<'a>,
}

impl DepthwiseLayer<'_> {
    fn run(self, y: &mut [f32]) {
        /// Outputs of a task, beside which its buffers cost little.
        const OUTPUTS: usize = 1 << 14;
        let (channels, work) = (self.spec.shape.c_out, y.len() * self.spec.shape.kh * self.spec.shape.kw);
        let tasks = y.len().div_ceil(OUTPUTS).next_multiple_of(rayon::current_num_threads()).min(channels);
        let y = Planes::new(y, channels, self.spec.plane_len());
        map_tasks(tasks, work, |task| {
            self.run_channels(task * channels / tasks..(task + 1) * channels / tasks, y);
        });
    }

    fn run_channels(self, channels: Range<usize>, y: Planes<'_>) {
        let Self { spec, algorithm, weight, bias, x } = self;
        // SAFETY: this task alone has the channels, and takes each plane once at a time.
        let plane = |sample, channel| unsafe { y.plane(sample, channel) };
        let clamp = Clamp::of(spec.activation);
        let bias = |channel: usize| bias.map_or(0.0, |bias| bias[channel]);
        let samples = 0..x.values.len() / spec.shape.input_sample_len();
        let all = samples.clone().flat_map(|sample| channels.clone().map(move |channel| (sample, channel)));
        match DepthwiseRows::of(algorithm, &spec.shape) {
            Some(rows) if x.epilogue.is_none() => {
                let (size, area) = (spec.shape.h * spec.shape.w, spec.shape.kh * spec.shape.kw);
                let planes = all.clone().map(|(sample, channel)| Plane {
                    x: &x.values[(sample * spec.shape.c_in + channel) * size..][..size],
                    weight: &weight[channel * area..][..area],
                    bias: bias(channel),
                    y: plane(sample, channel),
                });
                rows.forward(planes, clamp.unwrap_or(Clamp::NONE));
            }
            _ => {
                let depthwise = &Depthwise::new(algorithm, &spec.shape);
                for channel in channels.clone() {
                    let epilogue = (bias(channel), clamp.unwrap_or(Clamp::NONE));
                    let conv = ChannelConv { shape: &spec.shape, channel, x, weight };
                    let planes = |sample| plane(sample, channel);
                    dispatch(RunChannel { conv, depthwise, epilogue, planes });
                }
            }
        }
        if clamp.is_none() {
            // Not before: a load waits for the stores that it overlaps.
            for sample in samples {
                // SAFETY: as above.
                dispatch(Activate(unsafe { y.planes(sample, channels.clone()) }, spec.activation));
            }
        }
    }
}

/// One channel of a depthwise layer.
struct RunChannel<'a, P> {
    conv: ChannelConv<'a>,
    depthwise: &'a Depthwise,
    epilogue: (f32, Clamp),
    planes: P,
}

impl<'a, P: FnMut(usize) -> &'a mut [f32]> Kernel for RunChannel<'a, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { conv, depthwise, epilogue, planes } = self;
        conv.run(simd, &mut depthwise.forward_runner(), epilogue, planes);
    }
}
