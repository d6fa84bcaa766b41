//! Depthwise convolution and its gradients, plane by plane.

use super::depthwise_phases::Phases;
use super::depthwise_rows::{DepthwiseRows, Plane};
use crate::cpu::elementwise::Clamp;
use crate::cpu::memory::scratch::Scratch;
use crate::cpu::plan;
use crate::cpu::simd::{Simd, copy};
use crate::shape::ConvShape;

/// A depthwise convolution, ready to run.
#[derive(Debug, Clone)]
pub(crate) enum Depthwise {
    Rows3x3(DepthwiseRows),
    Rows(DepthwiseRows, Phases),
    Phases(Phases),
}

impl Depthwise {
    pub(crate) fn new(algorithm: plan::Depthwise, shape: &ConvShape) -> Self {
        match algorithm {
            plan::Depthwise::Rows3x3 => Self::Rows3x3(DepthwiseRows::new(shape)),
            plan::Depthwise::Rows => Self::Rows(DepthwiseRows::new(shape), Phases::new(shape)),
            plan::Depthwise::Phases => Self::Phases(Phases::new(shape)),
        }
    }

    /// Allocates the buffers for outputs of one plane after the other.
    pub(crate) fn forward_runner(&self) -> PlaneRunner<'_> {
        match self {
            Self::Rows3x3(_) | Self::Rows(..) => PlaneRunner::new(self, None),
            Self::Phases(phases) => PlaneRunner::new(self, Some(phases)),
        }
    }

    /// Allocates the buffers for gradients of one plane after the other.
    pub(crate) fn backward_runner(&self) -> PlaneRunner<'_> {
        match self {
            Self::Rows3x3(_) => PlaneRunner::new(self, None),
            Self::Rows(_, phases) | Self::Phases(phases) => PlaneRunner::new(self, Some(phases)),
        }
    }
}

/// A depthwise convolution with the buffers for a plane.
pub(crate) struct PlaneRunner<'a> {
    conv: &'a Depthwise,
    /// A plane's phases.
    phases: Scratch,
    /// The outputs, or their gradients.
    outputs: Scratch,
    /// The gradients of a plane's phases.
    grads: Scratch,
}

impl<'a> PlaneRunner<'a> {
    fn new(conv: &'a Depthwise, phases: Option<&Phases>) -> Self {
        let (len, outputs_len) = phases.map_or((0, 0), |phases| (phases.len(), phases.outputs_len()));
        Self {
            conv,
            phases: Scratch::zeroed(len),
            outputs: Scratch::zeroed(outputs_len),
            grads: Scratch::dirty(len),
        }
    }
}

impl PlaneRunner<'_> {
    /// Computes `y` (oh, ow) = clamp(bias + w ∗ `x`).
    #[inline(always)]
    pub(crate) fn forward<S: Simd>(
        &mut self,
        simd: S,
        x: &[f32],
        weight: &[f32],
        epilogue: (f32, Clamp),
        y: &mut [f32],
    ) {
        match self.conv {
            Depthwise::Rows3x3(rows) | Depthwise::Rows(rows, _) => {
                let (bias, clamp) = epilogue;
                rows.forward(std::iter::once(Plane { x, weight, bias, y }), clamp);
            }
            Depthwise::Phases(phases) => {
                phases.split(simd, x, &mut self.phases);
                phases.forward(simd, &self.phases, weight, epilogue, &mut self.outputs, y);
            }
        }
    }

    /// The gradients of one plane from that of its outputs. `weight_grad` is the plane of inputs
    /// and one vector of sums per kernel element, to which products are added; `input_grad` is
    /// overwritten.
    #[inline(always)]
    pub(crate) fn backward<S: Simd>(
        &mut self,
        simd: S,
        grad: &[f32],
        weight: &[f32],
        weight_grad: Option<(&[f32], &mut [f32])>,
        input_grad: Option<&mut [f32]>,
    ) {
        if let Depthwise::Rows(_, phases) | Depthwise::Phases(phases) = self.conv {
            for (row, values) in grad.chunks_exact(phases.row_len()).enumerate() {
                copy(simd, values, &mut self.outputs[phases.output_row(row)]);
            }
        }
        if let Some((x, sums)) = weight_grad {
            self.add_weight_grad(simd, grad, x, sums);
        }
        if let Some(input_grad) = input_grad {
            self.input_grad(simd, grad, weight, input_grad);
        }
    }

    #[inline(always)]
    fn add_weight_grad<S: Simd>(&mut self, simd: S, grad: &[f32], x: &[f32], sums: &mut [f32]) {
        match self.conv {
            Depthwise::Rows3x3(rows) => rows.add_weight_grad(simd, grad, x, sums),
            Depthwise::Rows(_, phases) | Depthwise::Phases(phases) => {
                phases.split(simd, x, &mut self.phases);
                phases.add_weight_grad(simd, &self.outputs, &self.phases, sums);
            }
        }
    }

    #[inline(always)]
    fn input_grad<S: Simd>(&mut self, simd: S, grad: &[f32], weight: &[f32], input_grad: &mut [f32]) {
        match self.conv {
            Depthwise::Rows3x3(rows) => rows.input_grad(simd, grad, weight, input_grad),
            Depthwise::Rows(_, phases) | Depthwise::Phases(phases) => {
                phases.input_grad(simd, &self.outputs, weight, &mut self.grads, input_grad);
            }
        }
    }
}
