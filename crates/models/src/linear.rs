use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use firstsight_ops::{self as ops, Activation};

use crate::Scheme;

/// A dense layer: (B, in) to (B, out), y = f(x Wᵀ + b), with `weight` (out, in) and `bias` (out,).
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
    activation: Activation,
}

impl Linear {
    /// The layer with variables `weight` and `bias` from `vb`.
    pub fn new(
        n_in: usize,
        n_out: usize,
        activation: Activation,
        scheme: Scheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let shape = [n_out, n_in];
        let weight = vb.get_with_hints(shape.as_slice(), "weight", scheme.weight(&shape))?;
        let bias = vb.get_with_hints(n_out, "bias", scheme.bias(&shape))?;
        Ok(Self { weight, bias, activation })
    }

    /// Weights and biases.
    pub fn n_params(&self) -> usize {
        self.weight.elem_count() + self.bias.elem_count()
    }
}

impl Module for Linear {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        ops::linear(xs, &self.weight, Some(&self.bias), self.activation)
    }
}
