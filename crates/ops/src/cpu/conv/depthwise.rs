//! Depthwise convolution and its gradients, plane by plane.

use super::depthwise_3x3::Depthwise3x3;
use super::depthwise_phases::Phases;
use crate::cpu::memory::scratch::Scratch;
use crate::cpu::plan;
use crate::cpu::simd::{Simd, copy};
use crate::shape::ConvShape;

/// A depthwise convolution, ready to run.
#[derive(Debug, Clone)]
pub(crate) enum Depthwise {
    Rows3x3(Depthwise3x3),
    Phases(Phases),
}

impl Depthwise {
    pub(crate) fn new(algorithm: plan::Depthwise, shape: &ConvShape) -> Self {
        match algorithm {
            plan::Depthwise::Rows3x3 => Self::Rows3x3(Depthwise3x3::new(shape)),
            plan::Depthwise::Phases => Self::Phases(Phases::new(shape)),
        }
    }

    /// Allocates the buffers to process one plane after the other.
    pub(crate) fn runner(&self) -> PlaneRunner<'_> {
        let (len, outputs_len) = match self {
            Self::Rows3x3(_) => (0, 0),
            Self::Phases(phases) => (phases.len(), phases.outputs_len()),
        };
        PlaneRunner {
            conv: self,
            phases: Scratch::zeroed(len),
            outputs: Scratch::zeroed(outputs_len),
            grads: Scratch::dirty(len),
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

impl PlaneRunner<'_> {
    /// Computes `y` (oh, ow) = w ∗ `x` + bias.
    #[inline(always)]
    pub(crate) fn forward<S: Simd>(&mut self, simd: S, x: &[f32], weight: &[f32], bias: f32, y: &mut [f32]) {
        match self.conv {
            Depthwise::Rows3x3(rows) => rows.forward(simd, x, weight, bias, y),
            Depthwise::Phases(phases) => {
                phases.split(simd, x, &mut self.phases);
                phases.forward(simd, &self.phases, weight, bias, &mut self.outputs, y);
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
        if let Depthwise::Phases(phases) = self.conv {
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
            Depthwise::Phases(phases) => {
                phases.split(simd, x, &mut self.phases);
                phases.add_weight_grad(simd, &self.outputs, &self.phases, sums);
            }
        }
    }

    #[inline(always)]
    fn input_grad<S: Simd>(&mut self, simd: S, grad: &[f32], weight: &[f32], input_grad: &mut [f32]) {
        match self.conv {
            Depthwise::Rows3x3(rows) => rows.input_grad(simd, grad, weight, input_grad),
            Depthwise::Phases(phases) => {
                phases.input_grad(simd, &self.outputs, weight, &mut self.grads, input_grad);
            }
        }
    }
}
