//! A convolution, batch normalisation and activation, forward and backward on slices.

use rayon::prelude::*;

use super::buffer::{Buffer, filled, zeros};
use super::conv_product::{self, Packed};
use super::depthwise::{self, Depthwise};
use super::elementwise;
use super::norm::{Affine, Moments, Slopes, ZGrad};
use super::planes::Planes;
use super::pool::{self, MaximaOf};
use super::scratch::Scratch;
use super::simd::{Kernel, Simd, dispatch};
use super::source::{Pending, Source};
use crate::config::Activation;
use crate::shape::{ConvShape, PoolShape};

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

/// What a stage has computed.
pub(crate) struct Kept {
    /// The convolution's result; where nothing normalises it, the stage's, until the tape takes that.
    map: Buffer,
    /// Of each channel, if it is normalised.
    pub(crate) moments: Vec<Moments>,
    affines: Vec<Affine>,
}

impl Kept {
    /// Frees the map: no more gradients come.
    pub(crate) fn free(&mut self) {
        self.map = Buffer::default();
    }

    /// What the stage's result is made of.
    pub(crate) fn result(&self, stage: &Stage) -> Source<'_> {
        match stage.norm {
            Some(_) => Source { values: &self.map, pending: Pending::new(&self.affines, stage.activation) },
            None => Source::plain(&self.map),
        }
    }
}

/// A stage that has run.
#[derive(Clone, Copy)]
pub(crate) struct Ran<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) parameters: Parameters<'a>,
    /// The convolution's result if it is normalised, else the stage's.
    map: &'a [f32],
    moments: &'a [Moments],
    affines: &'a [Affine],
}

impl<'a> Ran<'a> {
    /// `result` is read where the tape has taken it from `kept`.
    pub(crate) fn new(
        stage: &'a Stage,
        parameters: Parameters<'a>,
        kept: &'a Kept,
        result: &'a [f32],
    ) -> Self {
        let map = if kept.map.is_empty() { result } else { &kept.map };
        Self { stage, parameters, map, moments: &kept.moments, affines: &kept.affines }
    }

    /// Of a stage that does not normalise, with its result.
    pub(crate) fn bare(stage: &'a Stage, parameters: Parameters<'a>, result: &'a [f32]) -> Self {
        Self { stage, parameters, map: result, moments: &[], affines: &[] }
    }

    /// The gradient of one channel of the convolution's result, from that of the stage's, in its place.
    #[inline(always)]
    fn pass_back<'p>(&self, channel: usize, mut plane: impl FnMut(usize) -> &'p mut [f32]) -> Slopes {
        let Self { stage, map, .. } = self;
        let (channels, batch, size) = (stage.shape.c_out, stage.shape.batch, stage.outputs());
        let map = |sample| &map[(sample * channels + channel) * size..][..size];
        let mut slopes = Slopes::default();
        let (Some(&moments), Some(&affine)) = (self.moments.get(channel), self.affines.get(channel)) else {
            for sample in 0..batch {
                let plane = plane(sample);
                elementwise::activation_grad_in_place(plane, map(sample), stage.activation);
                slopes.sum += f64::from(elementwise::sum(plane));
            }
            return slopes;
        };
        for sample in 0..batch {
            slopes.add(plane(sample), map(sample), affine, moments, stage.activation);
        }
        let z_grad = if stage.has_constant_moments() {
            ZGrad::of_constants(affine)
        } else {
            ZGrad::through_batch(affine, moments, slopes, batch * size)
        };
        for sample in 0..batch {
            z_grad.apply_in_place(plane(sample), map(sample), stage.activation);
        }
        slopes
    }
}

/// A gradient on its way back through stages.
pub(crate) enum Flow<'a> {
    /// That of a stage's result.
    Given(Given<'a>),
    /// The same, to be overwritten.
    Result(Buffer),
    /// That of the convolution's result, with what each channel's activation and normalisation left.
    Convolved(Buffer, Vec<Slopes>),
}

/// The gradient of a stage's result as the tape has it.
#[derive(Clone, Copy)]
pub(crate) enum Given<'a> {
    Whole(&'a [f32]),
    /// That of the result's maxima, and where each lies in its plane.
    OfMaxima(&'a PoolShape, &'a [f32], &'a [u32]),
}

/// What follows a chain's last stage.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    pub(crate) pool: Option<&'a PoolShape>,
    pub(crate) addend: Option<Source<'a>>,
    pub(crate) after: Activation,
}

/// Gradients of a stage's arguments.
pub(crate) struct StageGrads {
    /// Never [`Flow::Given`].
    pub(crate) x: Option<Flow<'static>>,
    pub(crate) weight: Option<Vec<f32>>,
    pub(crate) gamma: Vec<f32>,
    /// Without normalisation, the convolution's bias's.
    pub(crate) beta: Vec<f32>,
}

impl Stage {
    fn depthwise(&self) -> bool {
        let ConvShape { c_in, c_out, config, .. } = self.shape;
        config.groups == c_in && c_in == c_out
    }

    fn outputs(&self) -> usize {
        self.shape.oh * self.shape.ow
    }

    /// The result's shape.
    pub(crate) fn dims(&self) -> Vec<usize> {
        let ConvShape { batch, c_out, oh, ow, .. } = self.shape;
        vec![batch, c_out, oh, ow]
    }

    /// Values of the result for one sample.
    pub(crate) fn sample_len(&self) -> usize {
        self.shape.c_out * self.outputs()
    }

    pub(crate) fn values_per_channel(&self) -> usize {
        self.shape.batch * self.outputs()
    }

    fn has_constant_moments(&self) -> bool {
        self.norm.as_ref().is_some_and(|norm| norm.constants.is_some())
    }

    fn constant_moments(&self, channel: usize) -> Option<Moments> {
        let norm = self.norm.as_ref()?;
        let (mean, var) = norm.constants.as_ref()?;
        Some(Moments::new(mean[channel], var[channel], norm.epsilon))
    }

    /// What a whole batch gives.
    pub(crate) fn forward(&self, x: Source<'_>, parameters: Parameters<'_>) -> Kept {
        let mut map = Buffer::dirty(self.shape.batch * self.sample_len());
        let Some(norm) = &self.norm else {
            Prepared::of_bare(self, parameters).run(x, &mut map);
            return Kept { map, moments: Vec::new(), affines: Vec::new() };
        };
        let depthwise = self.depthwise().then(|| Depthwise::new(&self.shape));
        if depthwise.is_none() {
            let bare = Parameters { gamma: &[], beta: &[], ..parameters };
            let convolution = Self { norm: None, activation: Activation::Identity, ..self.clone() };
            Prepared::of_bare(&convolution, bare).run(x, &mut map);
        }
        let channels = self.shape.c_out;
        let planes = Planes::new(&mut map, channels, self.outputs());
        let channel = |channel| {
            let depthwise = depthwise.as_ref();
            let weight = parameters.weight;
            dispatch(ForwardChannel {
                stage: self,
                depthwise,
                channel,
                x,
                weight,
                epsilon: norm.epsilon,
                planes,
            })
        };
        let moments: Vec<Moments> = (0..channels).into_par_iter().map(channel).collect();
        let scaled = moments.iter().zip(parameters.gamma).zip(parameters.beta);
        let affines = scaled.map(|((&moments, &gamma), &beta)| Affine::new(moments, gamma, beta)).collect();
        Kept { map, moments, affines }
    }

    /// The stage's result with what follows, and the places of its maxima if it is pooled. Where nothing normalises or
    /// pools it, it is made of `kept`'s map, which is gone then.
    pub(crate) fn finish(&self, kept: &mut Kept, finish: Finish<'_>) -> (Vec<f32>, Vec<u32>) {
        let (size, channels) = (self.outputs(), self.shape.c_out);
        let count = self.shape.batch * channels;
        let Some(pool) = finish.pool else {
            if self.norm.is_none() {
                let mut y = std::mem::take(&mut kept.map);
                y.par_chunks_exact_mut(size).enumerate().for_each(|(index, plane)| {
                    dispatch(FinishPlane {
                        finish,
                        channel: index % channels,
                        index,
                        made: Made::Already,
                        plane,
                    });
                });
                return (y.into_vec(), Vec::new());
            }
            let from = kept.result(self);
            let y = filled(count, size, |index, plane| {
                dispatch(FinishPlane {
                    finish,
                    channel: index % channels,
                    index,
                    made: Made::Of(from),
                    plane,
                });
            });
            return (y, Vec::new());
        };
        let from = kept.result(self);
        let pooled = pool.oh * pool.ow;
        let mut places = zeros(count * pooled);
        let mut y = zeros(count * pooled);
        let planes = y.par_chunks_exact_mut(pooled).zip(places.par_chunks_exact_mut(pooled)).enumerate();
        planes.for_each(|(index, (plane, places))| {
            let made = Made::Pooled(from, pool, places);
            dispatch(FinishPlane { finish, channel: index % channels, index, made, plane });
        });
        (y, places)
    }
}

impl Ran<'_> {
    /// Gradients from that of the result; also back through `earlier`'s normalisation and activation, whose result
    /// `x` is, where that costs least here. `x_grad` is room for that of `x`, if it is wanted.
    pub(crate) fn backward(
        &self,
        x: Source<'_>,
        flow: Flow<'_>,
        earlier: Option<Ran<'_>>,
        mut x_grad: Option<Buffer>,
        wants_weight: bool,
    ) -> StageGrads {
        let Self { stage, parameters, .. } = *self;
        let ConvShape { c_in, c_out, h, w, .. } = stage.shape;
        let (given, mut grad, passed) = match flow {
            Flow::Given(given) => (Some(given), Buffer::dirty(stage.shape.batch * stage.sample_len()), None),
            Flow::Result(grad) => (None, grad, None),
            Flow::Convolved(grad, slopes) => (None, grad, Some(slopes)),
        };
        let planes = Planes::new(&mut grad, c_out, stage.outputs());
        let depthwise = stage.depthwise().then(|| Depthwise::new(&stage.shape));
        let x_planes = x_grad.as_mut().map(|grad| Planes::new(grad, c_in, h * w));
        let channel = |channel| {
            let (ran, depthwise, passed) = (self, depthwise.as_ref(), passed.as_deref());
            let grad = planes;
            dispatch(BackwardChannel {
                ran,
                depthwise,
                channel,
                x,
                given,
                passed,
                grad,
                x_grad: x_planes,
                earlier,
                wants_weight,
            })
        };
        let by_channel: Vec<OfChannel> = if depthwise.is_none() && passed.is_some() {
            Vec::new()
        } else {
            (0..c_out).into_par_iter().map(channel).collect()
        };
        let slopes = passed.unwrap_or_else(|| by_channel.iter().map(|of| of.slopes).collect());
        let of_channels = |f: fn(&Slopes) -> f64| slopes.iter().map(|slopes| f(slopes) as f32).collect();
        let (gamma, beta) = (of_channels(|slopes| slopes.normalised), of_channels(|slopes| slopes.sum));
        if depthwise.is_some() {
            let earlier_slopes = by_channel.iter().map(|of| of.earlier).collect();
            let x = x_grad.map(|grad| match earlier {
                Some(_) => Flow::Convolved(grad, earlier_slopes),
                None => Flow::Result(grad),
            });
            let weight = wants_weight.then(|| by_channel.into_iter().flat_map(|of| of.weight).collect());
            return StageGrads { x, weight, gamma, beta };
        }
        let weight = wants_weight.then(|| conv_product::weight_grad(&stage.shape, x, &grad));
        if let Some(x_grad) = &mut x_grad {
            conv_product::x_grad(&stage.shape, parameters.weight, &grad, x_grad);
            if earlier.is_none() {
                elementwise::par_grad_before(x_grad, x.values, x.pending.activation());
            }
        }
        StageGrads { x: x_grad.map(Flow::Result), weight, gamma, beta }
    }
}

/// One channel's convolution if it is depthwise, and its moments.
struct ForwardChannel<'a> {
    stage: &'a Stage,
    depthwise: Option<&'a Depthwise>,
    channel: usize,
    x: Source<'a>,
    weight: &'a [f32],
    epsilon: f64,
    planes: Planes<'a>,
}

impl Kernel for ForwardChannel<'_> {
    type Output = Moments;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Moments {
        let Self { stage, depthwise, channel, x, weight, epsilon, planes } = self;
        // SAFETY: this task alone has the channel, and takes each plane once at a time.
        let plane = |sample| unsafe { planes.plane(sample, channel) };
        if let Some(depthwise) = depthwise {
            convolve_channel(simd, stage, depthwise, channel, x, weight, (0.0, Activation::Identity), plane);
        }
        stage
            .constant_moments(channel)
            .unwrap_or_else(|| Moments::of((0..stage.shape.batch).map(|sample| &*plane(sample)), epsilon))
    }
}

/// One plane of a chain's result, the batch's `index`th.
struct FinishPlane<'a> {
    finish: Finish<'a>,
    channel: usize,
    index: usize,
    made: Made<'a>,
    plane: &'a mut [f32],
}

/// What a plane of the last stage's result, pooled if it is, is made of.
enum Made<'a> {
    /// It is there.
    Already,
    Of(Source<'a>),
    /// And where the places of the maxima go.
    Pooled(Source<'a>, &'a PoolShape, &'a mut [u32]),
}

impl Kernel for FinishPlane<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { finish, channel, index, made, plane } = self;
        match made {
            Made::Already => {}
            Made::Of(from) => {
                let size = plane.len();
                from.pending.apply_from(channel, &from.values[index * size..][..size], plane);
            }
            Made::Pooled(from, shape, places) => {
                let size = shape.h * shape.w;
                let mut held = Scratch::dirty(size);
                let values = &from.values[index * size..][..size];
                let whole = finished(from.pending, channel, values, &mut held);
                MaximaOf { shape, plane: whole, out: &mut *plane, places }.run(simd);
            }
        }
        if let Some(addend) = finish.addend {
            let values = &addend.values[index * plane.len()..][..plane.len()];
            let mut held = Scratch::dirty(plane.len());
            elementwise::add(plane, finished(addend.pending, channel, values, &mut held));
        }
        elementwise::activate(plane, finish.after);
    }
}

/// One channel's depthwise convolution of all samples, with bias and activation.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the kernel's arguments, each of its own kind")]
fn convolve_channel<'a, S: Simd>(
    simd: S,
    stage: &Stage,
    depthwise: &Depthwise,
    channel: usize,
    x: Source<'_>,
    weight: &[f32],
    (bias, activation): (f32, Activation),
    mut z: impl FnMut(usize) -> &'a mut [f32],
) {
    let ConvShape { c_in, h, w, kh, kw, .. } = stage.shape;
    let weight = &weight[channel * kh * kw..][..kh * kw];
    let mut work = depthwise.begin();
    let mut held = Scratch::dirty(h * w);
    for (sample, values) in x.values.chunks_exact(c_in * h * w).enumerate() {
        let plane = finished(x.pending, channel, &values[channel * h * w..][..h * w], &mut held);
        let z = z(sample);
        work.forward(simd, plane, weight, bias, z);
        elementwise::activate(z, activation);
    }
}

/// A plane after what is pending, in `held` if anything is.
#[inline(always)]
fn finished<'a>(pending: Pending<'_>, channel: usize, plane: &'a [f32], held: &'a mut [f32]) -> &'a [f32] {
    if pending.is_nothing() {
        return plane;
    }
    pending.apply_from(channel, plane, held);
    held
}

/// One channel's gradients: that of the convolution's result in place of the stage's, and all others if the
/// convolution is depthwise.
struct BackwardChannel<'a> {
    ran: &'a Ran<'a>,
    depthwise: Option<&'a Depthwise>,
    channel: usize,
    x: Source<'a>,
    /// The gradient, if `grad` does not have it yet.
    given: Option<Given<'a>>,
    /// What came out already, if `grad` is that of the convolution's result.
    passed: Option<&'a [Slopes]>,
    grad: Planes<'a>,
    x_grad: Option<Planes<'a>>,
    earlier: Option<Ran<'a>>,
    wants_weight: bool,
}

/// What comes of one channel.
struct OfChannel {
    slopes: Slopes,
    /// If the convolution is depthwise and this is wanted.
    weight: Vec<f32>,
    /// Of the earlier stage, if its normalisation and activation were passed.
    earlier: Slopes,
}

impl<'a> Kernel for BackwardChannel<'a> {
    type Output = OfChannel;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> OfChannel {
        let Self { ran, depthwise, channel, x, given, passed, grad, x_grad, earlier, wants_weight } = self;
        let stage = ran.stage;
        let ConvShape { batch, c_in, h, w, c_out, kh, kw, .. } = stage.shape;
        // SAFETY: this task alone has the channel, and takes each plane once at a time.
        let plane = |planes: &Planes<'a>, sample| unsafe { planes.plane(sample, channel) };
        if let Some(given) = given {
            let size = stage.outputs();
            for sample in 0..batch {
                let (to, index) = (plane(&grad, sample), sample * c_out + channel);
                match given {
                    Given::Whole(values) => {
                        depthwise::copy(simd, &values[index * size..][..size], to);
                    }
                    Given::OfMaxima(shape, values, places) => {
                        to.fill(0.0);
                        pool::unpool(shape, index, values, places, to);
                    }
                }
            }
        }
        let slopes = match passed {
            Some(passed) => passed[channel],
            None => ran.pass_back(channel, |sample| plane(&grad, sample)),
        };
        let mut of = OfChannel { slopes, weight: Vec::new(), earlier: Slopes::default() };
        let Some(depthwise) = depthwise else { return of };
        let weight = &ran.parameters.weight[channel * kh * kw..][..kh * kw];
        let mut work = depthwise.begin();
        let mut held = Scratch::dirty(h * w);
        let mut sums = Scratch::zeroed(kh * kw * S::LANES);
        for (sample, values) in x.values.chunks_exact(c_in * h * w).enumerate() {
            let values = &values[channel * h * w..][..h * w];
            let grad = &*plane(&grad, sample);
            let x_and_sums =
                wants_weight.then(|| (finished(x.pending, channel, values, &mut held), &mut sums[..]));
            let mut x_grad = x_grad.map(|planes| plane(&planes, sample));
            work.backward(simd, grad, weight, x_and_sums, x_grad.as_deref_mut());
            if let (Some(x_grad), None) = (x_grad, &earlier) {
                elementwise::grad_before(x_grad, values, x.pending.activation());
            }
        }
        if let (Some(earlier), Some(x_grad)) = (earlier, &x_grad) {
            of.earlier = earlier.pass_back(channel, |sample| plane(x_grad, sample));
        }
        if wants_weight {
            of.weight = sums.chunks_exact(S::LANES).map(|sums| sums.iter().sum()).collect();
        }
        of
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
    Depthwise(Depthwise, std::borrow::Cow<'a, [f32]>),
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
            Kind::Depthwise(Depthwise::new(&stage.shape), scaled)
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
            Kind::Depthwise(Depthwise::new(&stage.shape), weight.into())
        } else {
            Kind::Product(Packed::new(&stage.shape, weight, None))
        };
        Self { stage, bias: (!beta.is_empty()).then(|| beta.to_vec()), kind }
    }

    /// The result for the samples of `x`.
    pub(crate) fn run(&self, x: Source<'_>, y: &mut [f32]) {
        match &self.kind {
            Kind::Product(packed) => packed.forward(x, self.bias.as_deref(), self.stage.activation, y),
            Kind::Depthwise(depthwise, weight) => {
                let channels = self.stage.shape.c_out;
                let planes = Planes::new(y, channels, self.stage.outputs());
                (0..channels).into_par_iter().for_each(|channel| {
                    dispatch(RunChannel { prepared: self, depthwise, weight, channel, x, y: planes });
                });
            }
        }
    }
}

/// One channel of a depthwise stage without gradients.
struct RunChannel<'a> {
    prepared: &'a Prepared<'a>,
    depthwise: &'a Depthwise,
    weight: &'a [f32],
    channel: usize,
    x: Source<'a>,
    y: Planes<'a>,
}

impl Kernel for RunChannel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { prepared, depthwise, weight, channel, x, y } = self;
        let Prepared { stage, bias, .. } = prepared;
        // SAFETY: this task alone has the channel, and takes each plane once at a time.
        let plane = |sample| unsafe { y.plane(sample, channel) };
        let bias = bias.as_ref().map_or(0.0, |bias| bias[channel]);
        convolve_channel(simd, stage, depthwise, channel, x, weight, (bias, stage.activation), plane);
    }
}
