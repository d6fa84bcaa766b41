use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use firstsight_ops::{self as ops, Activation};

use crate::Init;

/// A dense layer: (B, in) to (B, out), y = f(x Wᵀ + b), with `weight` (out, in) and `bias` (out,).
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
    activation: Activation,
}

impl Linear {
    /// The layer with variables `weight` and `bias` from `vb`.
    ///
    /// ```
    /// use candle_core::Device;
    /// use firstsight_models::{Linear, Params, Init};
    /// use firstsight_ops::Activation;
    ///
    /// let params = Params::seeded(1, &Device::Cpu);
    /// let head = Linear::new(1280, 2, Activation::Identity, Init::Keras, &params.builder().pp("classifier"))?;
    /// assert_eq!(head.n_params(), 2562);
    /// assert_eq!(params.names(), ["classifier.bias", "classifier.weight"]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn new(
        n_in: usize,
        n_out: usize,
        activation: Activation,
        init: Init,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        Self::with_bias(n_in, n_out, activation, init, 0.0, vb)
    }

    /// A layer whose biases start from `constant`.
    pub(crate) fn with_bias(
        n_in: usize,
        n_out: usize,
        activation: Activation,
        init: Init,
        constant: f64,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let shape = [n_out, n_in];
        let weight = vb.get_with_hints(shape.as_slice(), "weight", init.weight(&shape))?;
        let bias = vb.get_with_hints(n_out, "bias", init.bias(&shape, constant))?;
        Ok(Self { weight, bias, activation })
    }

    /// Number of input features.
    pub fn n_in(&self) -> usize {
        self.weight.dims().get(1).copied().unwrap_or_default()
    }

    /// Number of output features.
    pub fn n_out(&self) -> usize {
        self.bias.elem_count()
    }

    /// (out, in)
    pub(crate) fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// (out,)
    pub(crate) fn bias(&self) -> &Tensor {
        &self.bias
    }

    pub(crate) fn activation(&self) -> Activation {
        self.activation
    }

    /// Number of weights and biases.
    pub fn n_params(&self) -> usize {
        self.weight.elem_count() + self.bias.elem_count()
    }
}

impl Module for Linear {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        ops::linear(xs, &self.weight, Some(&self.bias), self.activation)
    }
}
