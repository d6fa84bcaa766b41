//! The forward pass of layers, with what their gradients need.

use rayon::prelude::*;

use super::{ConvBnActSpec, InferenceWeights, LayerParams, with_epilogue};
use crate::config::Activation;
use crate::cpu::batch_norm::{Affine, Moments};
use crate::cpu::conv::depthwise::{Depthwise, PlaneRunner};
use crate::cpu::conv::epilogue::{Epilogue, LazyMap};
use crate::cpu::elementwise::{self, Clamp};
use crate::cpu::memory::buffer::{Buffer, filled, zeros};
use crate::cpu::memory::planes::Planes;
use crate::cpu::memory::scratch::Scratch;
use crate::cpu::pool::ArgmaxPlane;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::shape::{ConvShape, PoolShape};

/// The state that a layer's forward pass saves for its backward pass.
pub(crate) struct SavedActivations {
    /// The convolution's output, or the layer's if it does not normalize. `None` once it has become the block's
    /// output, or was freed.
    pub(super) map: Option<Buffer>,
    pub(super) norm: Option<SavedNorm>,
}

/// The moments of a batch normalization and its affine functions, one per channel.
pub(crate) struct SavedNorm {
    pub(super) moments: Vec<Moments>,
    pub(super) affines: Vec<Affine>,
}

impl SavedActivations {
    /// Frees the map after the last backward pass.
    pub(crate) fn free(&mut self) {
        self.map = None;
    }

    /// The moments of each channel, if the layer normalizes.
    pub(crate) fn moments(&self) -> Option<&[Moments]> {
        self.norm.as_ref().map(|norm| &*norm.moments)
    }

    /// The layer's output as the next layer reads it.
    pub(crate) fn output(&self, spec: &ConvBnActSpec) -> LazyMap<'_> {
        let values = self.map.as_deref().unwrap_or_default();
        match &self.norm {
            Some(norm) => LazyMap { values, epilogue: Epilogue::new(&norm.affines, spec.activation) },
            None => LazyMap::stored(values),
        }
    }
}

/// The operations after the last layer of a block.
#[derive(Clone, Copy)]
pub(crate) struct BlockTail<'a> {
    pub(crate) max_pool: Option<&'a PoolShape>,
    /// The shortcut, which is added.
    pub(crate) addend: Option<LazyMap<'a>>,
    pub(crate) activation: Activation,
}

impl ConvBnActSpec {
    /// Runs the layer on a batch.
    pub(crate) fn forward(&self, x: LazyMap<'_>, params: LayerParams<'_>) -> SavedActivations {
        let mut map = Buffer::dirty(self.shape.output_len());
        let Some((norm, norm_params)) = self.norm.zip(params.norm) else {
            InferenceWeights::without_norm(self, params.weight, params.bias).run(self, x, &mut map);
            return SavedActivations { map: Some(map), norm: None };
        };
        let depthwise = self.depthwise();
        if depthwise.is_none() {
            let conv = Self { norm: None, activation: Activation::Identity, ..self.clone() };
            InferenceWeights::without_norm(&conv, params.weight, None).run(&conv, x, &mut map);
        }
        let channels = self.shape.c_out;
        let planes = Planes::new(&mut map, channels, self.plane_len());
        let channel = |channel| {
            let depthwise = depthwise.as_ref();
            let weight = params.weight;
            let epsilon = norm.epsilon;
            let running = self.running_moments(norm_params, channel);
            dispatch(ForwardChannel { spec: self, depthwise, channel, x, weight, epsilon, running, planes })
        };
        let moments: Vec<Moments> = (0..channels).into_par_iter().map(channel).collect();
        let scaled = moments.iter().zip(norm_params.gamma).zip(norm_params.beta);
        let affines = scaled.map(|((&moments, &gamma), &beta)| Affine::new(moments, gamma, beta)).collect();
        SavedActivations { map: Some(map), norm: Some(SavedNorm { moments, affines }) }
    }

    /// The block's output after `tail`, and the argmax of each maximum (empty without pooling). A map that is neither
    /// normalized nor pooled becomes the output.
    pub(crate) fn finish(&self, saved: &mut SavedActivations, tail: BlockTail<'_>) -> (Vec<f32>, Vec<u32>) {
        let (size, channels) = (self.plane_len(), self.shape.c_out);
        let count = self.shape.batch * channels;
        let Some(pool) = tail.max_pool else {
            if self.norm.is_none() {
                let mut y = saved.map.take().unwrap_or_default();
                y.par_chunks_exact_mut(size).enumerate().for_each(|(index, plane)| {
                    let (channel, input) = (index % channels, PlaneInput::InPlace);
                    dispatch(TailPlane { tail, channel, index, input, plane });
                });
                return (y.into_vec(), Vec::new());
            }
            let from = saved.output(self);
            let y = filled(count, size, |index, plane| {
                let (channel, input) = (index % channels, PlaneInput::From(from));
                dispatch(TailPlane { tail, channel, index, input, plane });
            });
            return (y, Vec::new());
        };
        let from = saved.output(self);
        let pooled = pool.oh * pool.ow;
        let mut argmax = zeros(count * pooled);
        let mut y = zeros(count * pooled);
        let planes = y.par_chunks_exact_mut(pooled).zip(argmax.par_chunks_exact_mut(pooled)).enumerate();
        planes.for_each(|(index, (plane, argmax))| {
            let (channel, input) = (index % channels, PlaneInput::Pooled(from, pool, argmax));
            dispatch(TailPlane { tail, channel, index, input, plane });
        });
        (y, argmax)
    }
}

/// One channel: its convolution if that is depthwise, and its moments.
struct ForwardChannel<'a> {
    spec: &'a ConvBnActSpec,
    depthwise: Option<&'a Depthwise>,
    channel: usize,
    x: LazyMap<'a>,
    weight: &'a [f32],
    epsilon: f64,
    /// The moments to normalize by; those of the batch if there are none.
    running: Option<Moments>,
    planes: Planes<'a>,
}

impl Kernel for ForwardChannel<'_> {
    type Output = Moments;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Moments {
        let Self { spec, depthwise, channel, x, weight, epsilon, running, planes } = self;
        // SAFETY: this task alone has the channel, and takes each plane once at a time.
        let plane = |sample| unsafe { planes.plane(sample, channel) };
        if let Some(depthwise) = depthwise {
            let conv = ChannelConv { shape: &spec.shape, channel, x, weight };
            conv.run(simd, &mut depthwise.forward_runner(), (0.0, Clamp::NONE), plane);
        }
        running.unwrap_or_else(|| Moments::of((0..spec.shape.batch).map(|sample| &*plane(sample)), epsilon))
    }
}

/// The depthwise convolution of one channel of all samples.
pub(super) struct ChannelConv<'a> {
    pub(super) shape: &'a ConvShape,
    pub(super) channel: usize,
    pub(super) x: LazyMap<'a>,
    /// The weights of all channels.
    pub(super) weight: &'a [f32],
}

impl ChannelConv<'_> {
    /// Computes clamp(bias + w ∗ x), writing each sample's plane to `z`.
    #[inline(always)]
    pub(super) fn run<'p, S: Simd>(
        self,
        simd: S,
        runner: &mut PlaneRunner<'_>,
        epilogue: (f32, Clamp),
        mut z: impl FnMut(usize) -> &'p mut [f32],
    ) {
        let Self { shape, channel, x, weight } = self;
        let &ConvShape { c_in, h, w, kh, kw, .. } = shape;
        let weight = &weight[channel * kh * kw..][..kh * kw];
        let mut scratch = (!x.epilogue.is_none()).then(|| Scratch::dirty(h * w));
        for (sample, values) in x.values.chunks_exact(c_in * h * w).enumerate() {
            let scratch = scratch.as_deref_mut().unwrap_or_default();
            let plane = with_epilogue::<S>(x.epilogue, channel, &values[channel * h * w..][..h * w], scratch);
            runner.forward(simd, plane, weight, epilogue, z(sample));
        }
    }
}

/// One plane of a block's output, the batch's `index`-th.
struct TailPlane<'a> {
    tail: BlockTail<'a>,
    channel: usize,
    index: usize,
    input: PlaneInput<'a>,
    plane: &'a mut [f32],
}

/// The source of a plane of the last layer's output, pooled if the block pools.
enum PlaneInput<'a> {
    /// The plane holds it already.
    InPlace,
    From(LazyMap<'a>),
    /// The map before pooling, and the buffer for the indices of the maxima.
    Pooled(LazyMap<'a>, &'a PoolShape, &'a mut [u32]),
}

impl Kernel for TailPlane<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { tail, channel, index, input, plane } = self;
        match input {
            PlaneInput::InPlace => {}
            PlaneInput::From(from) => {
                let size = plane.len();
                from.epilogue.apply_from::<S>(channel, &from.values[index * size..][..size], plane);
            }
            PlaneInput::Pooled(from, shape, argmax) => {
                let size = shape.h * shape.w;
                let mut scratch = Scratch::dirty(size);
                let values = &from.values[index * size..][..size];
                let whole = with_epilogue::<S>(from.epilogue, channel, values, &mut scratch);
                ArgmaxPlane { shape, plane: whole, out: &mut *plane, argmax }.run(simd);
            }
        }
        if let Some(addend) = tail.addend {
            let values = &addend.values[index * plane.len()..][..plane.len()];
            let mut scratch = Scratch::dirty(plane.len());
            elementwise::add(plane, with_epilogue::<S>(addend.epilogue, channel, values, &mut scratch));
        }
        elementwise::activate::<S>(plane, tail.activation);
    }
}
