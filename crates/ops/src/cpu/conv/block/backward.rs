//! The backward pass of layers.

use rayon::prelude::*;

use super::forward::SavedNorm;
use super::{ConvBnActSpec, SavedActivations, with_epilogue};
use crate::cpu::batch_norm::{BatchNormGrads, NormInputGrad};
use crate::cpu::conv::depthwise::Depthwise;
use crate::cpu::conv::epilogue::LazyMap;
use crate::cpu::conv::{dense, implicit_gemm};
use crate::cpu::memory::buffer::Buffer;
use crate::cpu::memory::planes::Planes;
use crate::cpu::memory::scratch::Scratch;
use crate::cpu::simd::{Kernel, Simd, copy, dispatch};
use crate::cpu::{elementwise, plan, pool};
use crate::shape::{ConvShape, PoolShape};

/// A layer's forward pass, as its backward pass reads it.
#[derive(Clone, Copy)]
pub(crate) struct ForwardPass<'a> {
    spec: &'a ConvBnActSpec,
    weight: &'a [f32],
    /// The convolution's output if the layer normalizes, else the layer's.
    map: &'a [f32],
    norm: Option<&'a SavedNorm>,
}

impl<'a> ForwardPass<'a> {
    /// A layer of a block whose output is `y`, which is the layer's map if that was not saved.
    pub(crate) fn new(
        spec: &'a ConvBnActSpec,
        weight: &'a [f32],
        saved: &'a SavedActivations,
        y: &'a [f32],
    ) -> Self {
        Self { spec, weight, map: saved.map.as_deref().unwrap_or(y), norm: saved.norm.as_ref() }
    }

    /// A layer that does not normalize, with its output.
    pub(crate) fn without_norm(spec: &'a ConvBnActSpec, weight: &'a [f32], y: &'a [f32]) -> Self {
        Self { spec, weight, map: y, norm: None }
    }

    /// Replaces the gradient of one channel of the layer's output by that of the convolution's output.
    #[inline(always)]
    fn backward_activation_and_norm<'p, S: Simd>(
        &self,
        channel: usize,
        mut plane: impl FnMut(usize) -> &'p mut [f32],
    ) -> BatchNormGrads {
        let Self { spec, map, .. } = self;
        let (channels, batch, size) = (spec.shape.c_out, spec.shape.batch, spec.plane_len());
        let map = |sample| &map[(sample * channels + channel) * size..][..size];
        let mut norm_grads = BatchNormGrads::default();
        let Some(norm) = self.norm else {
            for sample in 0..batch {
                let plane = plane(sample);
                elementwise::activation_grad_in_place(plane, map(sample), spec.activation);
                norm_grads.dbeta += f64::from(elementwise::sum(plane));
            }
            return norm_grads;
        };
        let (moments, affine) = (norm.moments[channel], norm.affines[channel]);
        for sample in 0..batch {
            norm_grads.add::<S>(plane(sample), map(sample), affine, moments, spec.activation);
        }
        let z_grad = if spec.uses_running_stats() {
            NormInputGrad::of_running_stats(affine)
        } else {
            NormInputGrad::through_batch(affine, moments, norm_grads, batch * size)
        };
        for sample in 0..batch {
            z_grad.apply_in_place(plane(sample), map(sample));
        }
        norm_grads
    }
}

/// The gradient that a layer's backward pass starts from.
pub(crate) enum GradSource<'a> {
    /// The gradient of the layer's output, from autograd.
    Output(OutputGrad<'a>),
    /// The gradient that the next layer passed back.
    NextLayer(PropagatedGrad),
}

/// The gradient of a block's output before pooling.
#[derive(Clone, Copy)]
pub(crate) enum OutputGrad<'a> {
    /// One value per element.
    Dense(&'a [f32]),
    /// One value per maximum of a pooling, zero elsewhere.
    AtMaxima {
        pool: &'a PoolShape,
        values: &'a [f32],
        /// The index of each maximum in its plane.
        argmax: &'a [u32],
    },
}

/// A gradient that a layer passed back.
pub(crate) struct PropagatedGrad {
    /// The gradient of the layer's input; of the previous convolution's output if `norm_grads` are there.
    pub(crate) values: Buffer,
    /// The gradients of the previous layer's normalization, if its activation and normalization are behind.
    norm_grads: Option<Vec<BatchNormGrads>>,
}

/// Gradients of a layer's arguments.
pub(crate) struct LayerGrads {
    pub(crate) x: Option<PropagatedGrad>,
    pub(crate) weight: Option<Vec<f32>>,
    /// The gradient of γ, zeros without normalization.
    pub(crate) gamma: Vec<f32>,
    /// The gradient of β, or of the convolution's bias without normalization.
    pub(crate) beta: Vec<f32>,
}

impl ForwardPass<'_> {
    /// Computes the gradients from `source`, the gradient of the layer's output or later.
    ///
    /// `x` is the layer's input. If `previous` layer computed it, a depthwise convolution also passes the gradient back
    /// through that layer's activation and normalization, channel by channel. `input_grad` is the buffer for the
    /// gradient of `x`, if that is wanted.
    pub(crate) fn backward(
        &self,
        x: LazyMap<'_>,
        source: GradSource<'_>,
        previous: Option<ForwardPass<'_>>,
        mut input_grad: Option<Buffer>,
        wants_weight: bool,
    ) -> LayerGrads {
        let Self { spec, weight, .. } = *self;
        let ConvShape { c_in, c_out, h, w, .. } = spec.shape;
        let (output, mut grad, passed) = match source {
            GradSource::Output(output) => (Some(output), Buffer::dirty(spec.shape.output_len()), None),
            GradSource::NextLayer(PropagatedGrad { values, norm_grads }) => (None, values, norm_grads),
        };
        let planes = Planes::new(&mut grad, c_out, spec.plane_len());
        let depthwise = spec.depthwise();
        let x_planes = input_grad.as_mut().map(|grad| Planes::new(grad, c_in, h * w));
        let channel = |channel| {
            let (pass, depthwise, passed) = (self, depthwise.as_ref(), passed.as_deref());
            let (grad, input_grad) = (planes, x_planes);
            dispatch(BackwardChannel {
                pass,
                depthwise,
                channel,
                x,
                output,
                passed,
                grad,
                input_grad,
                previous,
                wants_weight,
            })
        };
        let by_channel: Vec<ChannelGrads> = if depthwise.is_none() && passed.is_some() {
            Vec::new()
        } else {
            (0..c_out).into_par_iter().map(channel).collect()
        };
        let norm_grads = passed.unwrap_or_else(|| by_channel.iter().map(|grads| grads.norm).collect());
        let gamma = norm_grads.iter().map(|grads| grads.dgamma as f32).collect();
        let beta = norm_grads.iter().map(|grads| grads.dbeta as f32).collect();
        if depthwise.is_some() {
            let previous_norm =
                previous.map(|_| by_channel.iter().map(|grads| grads.previous_norm).collect());
            let x = input_grad.map(|values| PropagatedGrad { values, norm_grads: previous_norm });
            let weight =
                wants_weight.then(|| by_channel.into_iter().flat_map(|grads| grads.weight).collect());
            return LayerGrads { x, weight, gamma, beta };
        }
        let weight_grad = wants_weight.then(|| implicit_gemm::weight_grad(&spec.shape, x, &grad));
        if let Some(input_grad) = &mut input_grad {
            dense::input_grad(plan::input_grad(&spec.shape), &spec.shape, weight, &grad, input_grad);
            if previous.is_none() {
                elementwise::par_input_grad(input_grad, x.values, x.epilogue.activation());
            }
        }
        let x = input_grad.map(|values| PropagatedGrad { values, norm_grads: None });
        LayerGrads { x, weight: weight_grad, gamma, beta }
    }
}

/// One channel: the gradient of the convolution's output in place of the layer's and, if the convolution is depthwise, all
/// other gradients.
struct BackwardChannel<'a> {
    pass: &'a ForwardPass<'a>,
    depthwise: Option<&'a Depthwise>,
    channel: usize,
    x: LazyMap<'a>,
    /// The gradient, if `grad` does not hold it yet.
    output: Option<OutputGrad<'a>>,
    /// The normalization's gradients, if `grad` is already the gradient of the convolution's output.
    passed: Option<&'a [BatchNormGrads]>,
    grad: Planes<'a>,
    input_grad: Option<Planes<'a>>,
    previous: Option<ForwardPass<'a>>,
    wants_weight: bool,
}

/// The gradients of one channel.
struct ChannelGrads {
    norm: BatchNormGrads,
    /// Empty unless the convolution is depthwise and this is wanted.
    weight: Vec<f32>,
    /// The gradients of the previous layer's normalization, if the gradient was passed back through it.
    previous_norm: BatchNormGrads,
}

impl<'a> Kernel for BackwardChannel<'a> {
    type Output = ChannelGrads;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> ChannelGrads {
        let Self { pass, depthwise, channel, x, output, passed, grad, input_grad, previous, wants_weight } =
            self;
        let spec = pass.spec;
        let ConvShape { batch, c_in, h, w, c_out, kh, kw, .. } = spec.shape;
        // SAFETY: this task alone has the channel, and takes each plane once at a time.
        let plane = |planes: &Planes<'a>, sample| unsafe { planes.plane(sample, channel) };
        if let Some(output) = output {
            let size = spec.plane_len();
            for sample in 0..batch {
                let (to, index) = (plane(&grad, sample), sample * c_out + channel);
                match output {
                    OutputGrad::Dense(values) => {
                        copy(simd, &values[index * size..][..size], to);
                    }
                    OutputGrad::AtMaxima { pool, values, argmax } => {
                        to.fill(0.0);
                        pool::unpool(pool, index, values, argmax, to);
                    }
                }
            }
        }
        let norm = match passed {
            Some(passed) => passed[channel],
            None => pass.backward_activation_and_norm::<S>(channel, |sample| plane(&grad, sample)),
        };
        let mut grads = ChannelGrads { norm, weight: Vec::new(), previous_norm: BatchNormGrads::default() };
        let Some(depthwise) = depthwise else { return grads };
        let weight = &pass.weight[channel * kh * kw..][..kh * kw];
        let mut runner = depthwise.backward_runner();
        let mut scratch = Scratch::dirty(h * w);
        let mut sums = Scratch::zeroed(kh * kw * S::LANES);
        for (sample, values) in x.values.chunks_exact(c_in * h * w).enumerate() {
            let values = &values[channel * h * w..][..h * w];
            let grad = &*plane(&grad, sample);
            let weight_grad = wants_weight
                .then(|| (with_epilogue::<S>(x.epilogue, channel, values, &mut scratch), &mut sums[..]));
            let mut input_grad = input_grad.map(|planes| plane(&planes, sample));
            runner.backward(simd, grad, weight, weight_grad, input_grad.as_deref_mut());
            if let (Some(input_grad), None) = (input_grad, &previous) {
                elementwise::input_grad::<S>(input_grad, values, x.epilogue.activation());
            }
        }
        if let (Some(previous), Some(input_grad)) = (previous, &input_grad) {
            grads.previous_norm =
                previous.backward_activation_and_norm::<S>(channel, |sample| plane(input_grad, sample));
        }
        if wants_weight {
            grads.weight = sums.chunks_exact(S::LANES).map(|sums| sums.iter().sum()).collect();
        }
        grads
    }
}
