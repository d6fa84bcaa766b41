//! Convolutions that are not depthwise, by the algorithm that the plan chose.

use rayon::prelude::*;

use super::col2im;
use super::epilogue::LazyMap;
use super::implicit_gemm::{self, ImplicitGemm};
use super::winograd::Winograd;
use crate::config::Activation;
use crate::cpu::plan::{Dense, InputGrad};
use crate::shape::ConvShape;

/// A convolution with packed weights.
pub(crate) enum PackedConv {
    ImplicitGemm(ImplicitGemm),
    Winograd(Winograd),
}

impl PackedConv {
    /// Packs the weights, with those of each output channel multiplied by its `scale`.
    pub(crate) fn new(algorithm: Dense, shape: &ConvShape, weight: &[f32], scale: Option<&[f32]>) -> Self {
        match algorithm {
            Dense::ImplicitGemm => Self::ImplicitGemm(ImplicitGemm::new(shape, weight, scale)),
            Dense::Winograd(form) => Self::Winograd(Winograd::new(form, shape, weight, scale)),
        }
    }

    /// Computes f(w ∗ x + bias) for any number of samples, (B, O, oh, ow).
    pub(crate) fn forward(
        &self,
        shape: &ConvShape,
        x: LazyMap<'_>,
        bias: Option<&[f32]>,
        activation: Activation,
        y: &mut [f32],
    ) {
        match self {
            Self::ImplicitGemm(conv) => conv.forward(shape, x, bias, activation, y),
            Self::Winograd(conv) => conv.forward(shape, x, bias, activation, y),
        }
    }
}

/// Writes the gradient of the input to `input_grad`, whose contents may be anything.
pub(crate) fn input_grad(
    algorithm: InputGrad,
    shape: &ConvShape,
    weight: &[f32],
    grad_output: &[f32],
    input_grad: &mut [f32],
) {
    match algorithm {
        InputGrad::Pointwise => {
            implicit_gemm::pointwise_input_grad(shape, weight, grad_output, input_grad);
        }
        InputGrad::TransposedConv { shape: transposed, algorithm } => {
            let kernels = transpose_kernels(shape, weight);
            let conv = PackedConv::new(algorithm, &transposed, &kernels, None);
            conv.forward(&transposed, LazyMap::stored(grad_output), None, Activation::Identity, input_grad);
        }
        InputGrad::Col2im => {
            input_grad.fill(0.0);
            col2im::add_input_grad(shape, weight, grad_output, input_grad);
        }
    }
}

/// Swaps the input and output channels of each group, and flips the kernels.
fn transpose_kernels(shape: &ConvShape, weight: &[f32]) -> Vec<f32> {
    let groups = shape.config.groups;
    let (group_in, group_out, size) = (shape.c_in / groups, shape.c_out / groups, shape.kh * shape.kw);
    let mut transposed = vec![0.0; weight.len()];
    transposed.par_chunks_exact_mut(group_out * size).enumerate().for_each(|(c, to)| {
        let (group, c) = (c / group_in, c % group_in);
        for (o, to) in to.chunks_exact_mut(size).enumerate() {
            let from = &weight[((group * group_out + o) * group_in + c) * size..][..size];
            for (to, from) in to.iter_mut().zip(from.iter().rev()) {
                *to = *from;
            }
        }
    });
    transposed
}
