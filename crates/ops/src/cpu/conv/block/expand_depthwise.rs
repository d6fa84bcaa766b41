//! A pointwise layer and the depthwise layer after it, in inference, some channels of a strip of rows at a time: the map between
//! them, the largest of an inverted residual, never leaves the cache.

use std::ops::Range;

use super::ConvBnActSpec;
use super::inference::{InferenceWeights, Weights};
use crate::cpu::conv::dense::PackedConv;
use crate::cpu::conv::depthwise_rows::{DepthwiseRows, Plane};
use crate::cpu::conv::epilogue::LazyMap;
use crate::cpu::conv::implicit_gemm::ImplicitGemm;
use crate::cpu::elementwise::{Activate, Clamp};
use crate::cpu::memory::planes::Planes;
use crate::cpu::memory::scratch::Scratch;
use crate::cpu::memory::threads::map_tasks;
use crate::cpu::simd::dispatch;

/// The two layers and their input.
pub(crate) struct ExpandDepthwise<'a> {
    x: &'a [f32],
    expand: &'a ConvBnActSpec,
    gemm: &'a ImplicitGemm,
    expand_bias: Option<&'a [f32]>,
    depthwise: &'a ConvBnActSpec,
    rows: DepthwiseRows,
    kernels: &'a [f32],
    bias: Option<&'a [f32]>,
}

impl<'a> ExpandDepthwise<'a> {
    /// `None` if the layers are others.
    pub(crate) fn new(
        (expand, expand_weights): (&'a ConvBnActSpec, &'a InferenceWeights),
        (depthwise, weights): (&'a ConvBnActSpec, &'a InferenceWeights),
        x: LazyMap<'a>,
    ) -> Option<Self> {
        let (Weights::Dense(PackedConv::ImplicitGemm(gemm)), Weights::Depthwise(algorithm, kernels)) =
            (&expand_weights.conv, &weights.conv)
        else {
            return None;
        };
        let rows = DepthwiseRows::of(*algorithm, &depthwise.shape)?;
        let fits = expand.shape.is_pointwise() && x.epilogue.is_none();
        fits.then_some(Self {
            x: x.values,
            expand,
            gemm,
            expand_bias: expand_weights.bias.as_deref(),
            depthwise,
            rows,
            kernels,
            bias: weights.bias.as_deref(),
        })
    }

    /// Computes the output of the depthwise layer.
    pub(crate) fn run(&self, y: &mut [f32]) {
        /// Values of a strip of the input and of as many channels as fit: half a mebibyte.
        const STRIP: usize = 1 << 17;
        /// Values of the map between that a task writes: an eighth of a mebibyte, if that is more than a few channels.
        const MAP: usize = 1 << 15;
        /// Least channels of a task.
        const CHANNELS: usize = 2 * ImplicitGemm::CHANNELS;
        let (shape, out) = (&self.expand.shape, &self.depthwise.shape);
        let samples = self.x.len() / shape.input_sample_len();
        let most = self.rows.outputs_of(STRIP / ((shape.c_in + CHANNELS) * shape.w)).max(1);
        let strips = out.oh.div_ceil(most);
        let rows = shape.h.div_ceil(strips);
        let share = (samples * strips * out.c_out).div_ceil(2 * rayon::current_num_threads());
        let channels =
            (MAP / (rows * shape.w)).min(share).max(CHANNELS).next_multiple_of(ImplicitGemm::CHANNELS);
        let groups = out.c_out.div_ceil(channels);
        let y = Planes::new(y, out.c_out, out.oh * out.ow);
        let work = samples * shape.output_sample_len() * shape.c_in;
        map_tasks(samples * strips * groups, work, |task| {
            let (part, group) = (task / groups, task % groups);
            let (sample, strip) = (part / strips, part % strips);
            let channels = group * channels..out.c_out.min((group + 1) * channels);
            let outputs = strip * out.oh / strips..(strip + 1) * out.oh / strips;
            self.run_part(sample, outputs, channels, y);
        });
    }

    /// Computes some rows of outputs of some channels of one sample.
    fn run_part(&self, sample: usize, outputs: Range<usize>, channels: Range<usize>, y: Planes<'_>) {
        let (shape, out) = (&self.expand.shape, &self.depthwise.shape);
        let (inputs, rows) = self.rows.strip(outputs.clone());
        let len = inputs.len() * shape.w;
        let mut map = Scratch::dirty(channels.len() * len);
        let x = &self.x[sample * shape.input_sample_len()..][..shape.input_sample_len()];
        let pixels = inputs.start * shape.w..inputs.end * shape.w;
        let epilogue = (self.expand_bias, self.expand.activation);
        self.gemm.forward_pixels(shape, x, pixels, channels.clone(), epilogue, &mut map);

        let clamp = Clamp::of(self.depthwise.activation);
        let area = out.kh * out.kw;
        let outputs = outputs.start * out.ow..outputs.end * out.ow;
        // SAFETY: this task alone has these rows of these channels, and takes each part once at a time.
        let part = |channel: usize| unsafe { y.part(sample, channel, outputs.clone()) };
        let planes = channels.clone().zip(map.chunks_exact(len)).map(|(channel, x)| Plane {
            x,
            weight: &self.kernels[channel * area..][..area],
            bias: self.bias.map_or(0.0, |bias| bias[channel]),
            y: part(channel),
        });
        rows.forward(planes, clamp.unwrap_or(Clamp::NONE));
        if clamp.is_none() {
            channels.for_each(|channel| dispatch(Activate(part(channel), self.depthwise.activation)));
        }
    }
}
