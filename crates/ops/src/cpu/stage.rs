//! A convolution, batch normalisation and activation, forward and backward on slices.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::conv_product::{self, Packed};
use super::depthwise::Phases;
use super::elementwise;
use super::norm::{Affine, Moments, Slopes, ZGrad};
use super::planes::Planes;
use super::scratch::Scratch;
use super::simd::{Kernel, Simd, dispatch};
use crate::config::Activation;
use crate::shape::ConvShape;

/// What is computed.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) shape: ConvShape,
    pub(crate) norm: Option<Norm>,
    pub(crate) activation: Activation,
}

/// How the convolution's result is normalised.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    pub(crate) epsilon: f64,
    /// By these (means, variances), or else by the batch's own moments.
    pub(crate) constants: Option<(Vec<f32>, Vec<f32>)>,
}

/// A stage's parameters; without normalisation, γ is empty, and β is empty or the convolution's bias.
#[derive(Clone, Copy)]
pub(crate) struct Parameters<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) gamma: &'a [f32],
    pub(crate) beta: &'a [f32],
}

/// What the backward pass needs of the forward pass.
pub(crate) struct Saved {
    /// The convolution's result, if it is normalised.
    z: Option<Buffer>,
    /// Of each channel, if it is normalised.
    pub(crate) moments: Vec<Moments>,
}

/// Gradients of a stage's arguments.
pub(crate) struct StageGrads {
    pub(crate) x: Option<Buffer>,
    pub(crate) weight: Option<Vec<f32>>,
    pub(crate) gamma: Vec<f32>,
    /// Without normalisation, the convolution's bias's.
    pub(crate) beta: Vec<f32>,
}

impl Saved {
    /// Of a stage that does not normalise.
    pub(crate) const NOTHING: Self = Self { z: None, moments: Vec::new() };
}

impl Stage {
    fn depthwise(&self) -> bool {
        let ConvShape { c_in, c_out, config, .. } = self.shape;
        config.groups == c_in && c_in == c_out
    }

    fn outputs(&self) -> usize {
        self.shape.oh * self.shape.ow
    }

    /// Values of the result for one sample.
    pub(crate) fn sample_len(&self) -> usize {
        self.shape.c_out * self.outputs()
    }

    pub(crate) fn values_per_channel(&self) -> usize {
        self.shape.batch * self.outputs()
    }

    fn constant_moments(&self, channel: usize) -> Option<Moments> {
        let norm = self.norm.as_ref()?;
        let (mean, var) = norm.constants.as_ref()?;
        Some(Moments::new(mean[channel], var[channel], norm.epsilon))
    }

    /// The result for a whole batch, and what its gradients need.
    pub(crate) fn forward(&self, x: &[f32], parameters: Parameters<'_>) -> (Buffer, Saved) {
        let len = self.shape.batch * self.sample_len();
        let Some(norm) = &self.norm else {
            let mut y = Buffer::dirty(len);
            Prepared::of_bare(self, parameters).run(x, &mut y);
            return (y, Saved::NOTHING);
        };
        let (mut y, mut z) = (Buffer::dirty(len), Buffer::dirty(len));
        if !self.depthwise() {
            let bare = Parameters { gamma: &[], beta: &[], ..parameters };
            let convolution = Self { norm: None, activation: Activation::Identity, ..self.clone() };
            Prepared::of_bare(&convolution, bare).run(x, &mut z);
        }
        let (channels, outputs) = (self.shape.c_out, self.outputs());
        let (ys, zs) = (Planes::new(&mut y, channels, outputs), Planes::new(&mut z, channels, outputs));
        let phases = self.depthwise().then(|| Phases::new(&self.shape));
        let channel = |channel| {
            dispatch(ForwardChannel {
                stage: self,
                phases: phases.as_ref(),
                channel,
                x,
                parameters,
                epsilon: norm.epsilon,
                z: zs,
                y: ys,
            })
        };
        let moments = (0..channels).into_par_iter().map(channel).collect();
        (y, Saved { z: Some(z), moments })
    }

    /// Gradients from that of the result, which is overwritten.
    #[expect(clippy::too_many_arguments, reason = "the pass's inputs, each of its own kind")]
    pub(crate) fn backward(
        &self,
        x: &[f32],
        parameters: Parameters<'_>,
        saved: &Saved,
        y: &[f32],
        mut grad: Buffer,
        wants_x: bool,
        wants_weight: bool,
    ) -> StageGrads {
        let channels = self.shape.c_out;
        let planes = Planes::new(&mut grad, channels, self.outputs());
        let mut x_grad = wants_x.then(|| Buffer::dirty(x.len()));
        let phases = self.depthwise().then(|| Phases::new(&self.shape));
        let x_planes =
            x_grad.as_mut().map(|grad| Planes::new(grad, self.shape.c_in, self.shape.h * self.shape.w));
        let channel = |channel| {
            dispatch(BackwardChannel {
                stage: self,
                phases: phases.as_ref(),
                channel,
                x,
                parameters,
                saved,
                y,
                grad: planes,
                x_grad: x_planes,
                wants_weight,
            })
        };
        let by_channel: Vec<(Slopes, Vec<f32>)> = (0..channels).into_par_iter().map(channel).collect();
        let of_channels =
            |f: fn(&Slopes) -> f64| by_channel.iter().map(|(slopes, _)| f(slopes) as f32).collect();
        let (gamma, beta) = (of_channels(|slopes| slopes.normalised), of_channels(|slopes| slopes.sum));
        let weight = match (wants_weight, &phases) {
            (false, _) => None,
            (true, Some(_)) => Some(by_channel.into_iter().flat_map(|(_, weight)| weight).collect()),
            (true, None) => Some(conv_product::weight_grad(&self.shape, x, &grad)),
        };
        if let (Some(x_grad), None) = (&mut x_grad, &phases) {
            conv_product::x_grad(&self.shape, parameters.weight, &grad, x_grad);
        }
        StageGrads { x: x_grad, weight, gamma, beta }
    }
}

/// One channel's normalisation, and its convolution if it is depthwise.
struct ForwardChannel<'a> {
    stage: &'a Stage,
    phases: Option<&'a Phases>,
    channel: usize,
    x: &'a [f32],
    parameters: Parameters<'a>,
    epsilon: f64,
    z: Planes<'a>,
    y: Planes<'a>,
}

impl Kernel for ForwardChannel<'_> {
    type Output = Moments;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Moments {
        let Self { stage, phases, channel, x, parameters, epsilon, z, y } = self;
        let Parameters { weight, gamma, beta } = parameters;
        // SAFETY: this task alone has the channel, and takes each plane once at a time.
        let plane =
            |planes: &Planes<'_>, sample| unsafe { &mut *std::ptr::from_mut(planes.plane(sample, channel)) };
        if let Some(phases) = phases {
            convolve_channel(simd, stage, phases, channel, x, weight, |sample| plane(&z, sample));
        }
        let moments = stage.constant_moments(channel).unwrap_or_else(|| {
            Moments::of((0..stage.shape.batch).map(|sample| &*plane(&z, sample)), epsilon)
        });
        let affine = Affine::new(moments, gamma[channel], beta[channel]);
        for sample in 0..stage.shape.batch {
            affine.apply(plane(&z, sample), plane(&y, sample), stage.activation);
        }
        moments
    }
}

/// One channel's depthwise convolution of all samples.
#[inline(always)]
fn convolve_channel<'a, S: Simd>(
    simd: S,
    stage: &Stage,
    phases: &Phases,
    channel: usize,
    x: &[f32],
    weight: &[f32],
    mut z: impl FnMut(usize) -> &'a mut [f32],
) {
    let ConvShape { c_in, h, w, kh, kw, .. } = stage.shape;
    let weight = &weight[channel * kh * kw..][..kh * kw];
    let mut parted = Scratch::zeroed(phases.len());
    let mut outputs = Scratch::dirty(phases.outputs_len());
    for (sample, x) in x.chunks_exact(c_in * h * w).enumerate() {
        phases.part(simd, &x[channel * h * w..][..h * w], &mut parted);
        phases.forward(simd, &parted, weight, &mut outputs, z(sample));
    }
}

/// One channel's gradients: those before normalisation in place of those after it, and all others if the
/// convolution is depthwise.
struct BackwardChannel<'a> {
    stage: &'a Stage,
    phases: Option<&'a Phases>,
    channel: usize,
    x: &'a [f32],
    parameters: Parameters<'a>,
    saved: &'a Saved,
    y: &'a [f32],
    grad: Planes<'a>,
    x_grad: Option<Planes<'a>>,
    wants_weight: bool,
}

impl Kernel for BackwardChannel<'_> {
    /// The sums, and the weights' gradient.
    type Output = (Slopes, Vec<f32>);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let Self { stage, phases, channel, x, parameters, saved, y, grad, x_grad, wants_weight } = self;
        let Parameters { weight, gamma, beta } = parameters;
        let ConvShape { batch, c_in, h, w, c_out, kh, kw, .. } = stage.shape;
        let size = stage.outputs();
        // SAFETY: this task alone has the channel, and takes each plane once at a time.
        let plane =
            |planes: &Planes<'_>, sample| unsafe { &mut *std::ptr::from_mut(planes.plane(sample, channel)) };
        let of = |map: &'_ [f32], sample: usize| (sample * c_out + channel) * size..map.len();
        let mut slopes = Slopes::default();
        match &saved.z {
            Some(z) => {
                let z = |sample| &z[of(z, sample)][..size];
                let moments = saved.moments[channel];
                let affine = Affine::new(moments, gamma[channel], beta[channel]);
                for sample in 0..batch {
                    slopes.add(plane(&grad, sample), z(sample), affine, moments, stage.activation);
                }
                let z_grad = if stage.constant_moments(channel).is_some() {
                    ZGrad::of_constants(affine)
                } else {
                    ZGrad::through_batch(affine, moments, slopes, batch * size)
                };
                for sample in 0..batch {
                    z_grad.apply_in_place(plane(&grad, sample), z(sample), stage.activation);
                }
            }
            None => {
                for sample in 0..batch {
                    let y = &y[of(y, sample)][..size];
                    elementwise::activation_grad_in_place(plane(&grad, sample), y, stage.activation);
                }
            }
        }
        if saved.z.is_none() {
            for sample in 0..batch {
                slopes.sum += f64::from(elementwise::sum(plane(&grad, sample)));
            }
        }
        let Some(phases) = phases else { return (slopes, Vec::new()) };
        let weight = &weight[channel * kh * kw..][..kh * kw];
        let mut parted = Scratch::zeroed(phases.len());
        let mut outputs = Scratch::zeroed(phases.outputs_len());
        let mut sums = Scratch::zeroed(kh * kw * S::LANES);
        let ow = stage.shape.ow;
        for (sample, x) in x.chunks_exact(c_in * h * w).enumerate() {
            for (row, values) in plane(&grad, sample).chunks_exact(ow).enumerate() {
                super::depthwise::copy(simd, values, &mut outputs[phases.output_row(row)]);
            }
            if wants_weight {
                phases.part(simd, &x[channel * h * w..][..h * w], &mut parted);
                phases.add_weight_grad(simd, &outputs, &parted, &mut sums);
            }
            if let Some(x_grad) = &x_grad {
                let mut grads = Scratch::dirty(phases.len());
                phases.x_grad(simd, &outputs, weight, &mut grads, plane(x_grad, sample));
            }
        }
        let sum = |sums: &[f32]| sums.iter().sum();
        let weight_grad = sums.chunks_exact(S::LANES).map(sum).collect();
        (slopes, if wants_weight { weight_grad } else { Vec::new() })
    }
}

/// A stage ready to run on any number of samples, without gradients: constant moments are folded into the weights.
pub(crate) struct Prepared<'a> {
    stage: &'a Stage,
    bias: Option<Vec<f32>>,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Product(Packed),
    Depthwise(Phases, std::borrow::Cow<'a, [f32]>),
}

impl<'a> Prepared<'a> {
    /// `None` if the stage normalises by the batch's own moments.
    pub(crate) fn new(stage: &'a Stage, parameters: Parameters<'a>) -> Option<Self> {
        if stage.norm.is_none() {
            return Some(Self::of_bare(stage, parameters));
        }
        let affine = |channel| {
            let moments = stage.constant_moments(channel)?;
            Some(Affine::new(moments, parameters.gamma[channel], parameters.beta[channel]))
        };
        let affines: Vec<Affine> = (0..stage.shape.c_out).map(affine).collect::<Option<_>>()?;
        let scales: Vec<f32> = affines.iter().map(|affine| affine.scale).collect();
        let kind = if stage.depthwise() {
            let taps = stage.shape.kh * stage.shape.kw;
            let filters = parameters.weight.chunks_exact(taps).zip(&scales);
            let scaled = filters.flat_map(|(filter, scale)| filter.iter().map(move |w| w * scale)).collect();
            Kind::Depthwise(Phases::new(&stage.shape), scaled)
        } else {
            Kind::Product(Packed::new(&stage.shape, parameters.weight, Some(&scales)))
        };
        let bias = Some(affines.iter().map(|affine| affine.shift).collect());
        Some(Self { stage, bias, kind })
    }

    /// Of a stage that does not normalise.
    pub(crate) fn of_bare(stage: &'a Stage, parameters: Parameters<'a>) -> Self {
        let Parameters { weight, beta, .. } = parameters;
        let kind = if stage.depthwise() {
            Kind::Depthwise(Phases::new(&stage.shape), weight.into())
        } else {
            Kind::Product(Packed::new(&stage.shape, weight, None))
        };
        Self { stage, bias: (!beta.is_empty()).then(|| beta.to_vec()), kind }
    }

    /// The result for the samples of `x`.
    pub(crate) fn run(&self, x: &[f32], y: &mut [f32]) {
        match &self.kind {
            Kind::Product(packed) => packed.forward(x, self.bias.as_deref(), self.stage.activation, y),
            Kind::Depthwise(phases, weight) => {
                let channels = self.stage.shape.c_out;
                let planes = Planes::new(y, channels, self.stage.outputs());
                (0..channels).into_par_iter().for_each(|channel| {
                    dispatch(RunChannel { prepared: self, phases, weight, channel, x, y: planes });
                });
            }
        }
    }
}

/// One channel of a depthwise stage without gradients.
struct RunChannel<'a> {
    prepared: &'a Prepared<'a>,
    phases: &'a Phases,
    weight: &'a [f32],
    channel: usize,
    x: &'a [f32],
    y: Planes<'a>,
}

impl Kernel for RunChannel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { prepared, phases, weight, channel, x, y } = self;
        let Prepared { stage, bias, .. } = prepared;
        // SAFETY: this task alone has the channel, and takes each plane once at a time.
        let plane = |sample| unsafe { y.plane(sample, channel) };
        convolve_channel(simd, stage, phases, channel, x, weight, plane);
        let shift = bias.as_ref().map_or(0.0, |bias| bias[channel]);
        for sample in 0..x.len() / (stage.shape.c_in * stage.shape.h * stage.shape.w) {
            let plane = plane(sample);
            if shift != 0.0 {
                for value in plane.iter_mut() {
                    *value += shift;
                }
            }
            elementwise::activate(plane, stage.activation);
        }
    }
}
