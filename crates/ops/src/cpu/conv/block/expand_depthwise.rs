//! A pointwise layer and the depthwise layer after it, in inference, a strip of rows at a time: the map between them, the largest
//! of an inverted residual, never leaves the cache.

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
    /// `None` if the layers are others, or the map between them is small.
    pub(crate) fn new(
        (expand, expand_weights): (&'a ConvBnActSpec, &'a InferenceWeights),
        (depthwise, weights): (&'a ConvBnActSpec, &'a InferenceWeights),
        x: LazyMap<'a>,
    ) -> Option<Self> {
        /// Values of a map that leaves the L2 cache: a mebibyte.
        const LARGE: usize = 1 << 18;
        let (Weights::Dense(PackedConv::ImplicitGemm(gemm)), Weights::Depthwise(algorithm, kernels)) =
            (&expand_weights.conv, &weights.conv)
        else {
            return None;
        };
        let rows = DepthwiseRows::of(*algorithm, &depthwise.shape)?;
        let fits =
            expand.shape.is_pointwise() && expand.shape.output_sample_len() > LARGE && x.epilogue.is_none();
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
        /// Values of a strip of the map between: half a mebibyte.
        const STRIP: usize = 1 << 17;
        let (shape, out) = (&self.expand.shape, &self.depthwise.shape);
        let samples = self.x.len() / shape.input_sample_len();
        let most = self.rows.outputs_of(STRIP / (shape.c_out * shape.w)).max(1);
        let strips = out.oh.div_ceil(most).next_multiple_of(rayon::current_num_threads()).min(out.oh);
        let y = Planes::new(y, out.c_out, out.oh * out.ow);
        let work = samples * shape.output_sample_len() * shape.c_in;
        map_tasks(samples * strips, work, |task| {
            let (sample, strip) = (task / strips, task % strips);
            self.run_strip(sample, strip * out.oh / strips..(strip + 1) * out.oh / strips, y);
        });
    }

    /// Computes some rows of outputs of one sample.
    fn run_strip(&self, sample: usize, outputs: Range<usize>, y: Planes<'_>) {
        let (shape, out) = (&self.expand.shape, &self.depthwise.shape);
        let (inputs, rows) = self.rows.strip(outputs.clone());
        let (len, channels) = (inputs.len() * shape.w, shape.c_out);
        let mut map = Scratch::dirty(channels * len);
        let x = &self.x[sample * shape.input_sample_len()..][..shape.input_sample_len()];
        let pixels = inputs.start * shape.w..inputs.end * shape.w;
        self.gemm.forward_pixels(shape, x, pixels, (self.expand_bias, self.expand.activation), &mut map);

        let clamp = Clamp::of(self.depthwise.activation);
        let area = out.kh * out.kw;
        let outputs = outputs.start * out.ow..outputs.end * out.ow;
        // SAFETY: this task alone has these rows, and takes each part once at a time.
        let part = |channel: usize| unsafe { y.part(sample, channel, outputs.clone()) };
        let planes = (0..channels).map(|channel| Plane {
            x: &map[channel * len..][..len],
            weight: &self.kernels[channel * area..][..area],
            bias: self.bias.map_or(0.0, |bias| bias[channel]),
            y: part(channel),
        });
        rows.forward(planes, clamp.unwrap_or(Clamp::NONE));
        if clamp.is_none() {
            (0..channels).for_each(|channel| dispatch(Activate(part(channel), self.depthwise.activation)));
        }
    }
}
