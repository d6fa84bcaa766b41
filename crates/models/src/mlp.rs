use candle_core::{Module as _, ModuleT, Result, Tensor};
use candle_nn::VarBuilder;
use firstsight_ops::Activation;

use crate::{Init, Linear};

/// Settings of a multilayer perceptron.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpConfig {
    /// Number of input features.
    pub n_in: usize,
    /// Number of units of each hidden layer.
    pub hidden: Vec<usize>,
    /// Activation of the hidden layers.
    pub activation: Activation,
    /// Number of outputs.
    pub n_out: usize,
    /// Function of the last layer's outputs.
    pub output: MlpOutput,
    /// Initialization of weights and biases.
    pub init: Init,
}

/// The function that a perceptron applies to its last layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlpOutput {
    /// None, for logits or unbounded values.
    Linear,
    /// The exponential, for the positive rates of a Poisson loss.
    Exponential,
}

/// A multilayer perceptron: (B, n_in) to (B, n_out), with variables `layers.I.weight` and `layers.I.bias`.
///
/// ```
/// use candle_core::{Device, ModuleT, Tensor};
/// use firstsight_models::{Mlp, MlpConfig, MlpOutput, Params, Init};
/// use firstsight_ops::Activation;
///
/// let config = MlpConfig {
///     n_in: 8,
///     hidden: vec![64, 32],
///     activation: Activation::Relu,
///     n_out: 1,
///     output: MlpOutput::Exponential,
///     init: Init::Keras,
/// };
/// let params = Params::seeded(1, &Device::Cpu);
/// let mlp = Mlp::new(&config, &params.builder())?;
/// let rates = mlp.forward_t(&Tensor::zeros((4, 8), candle_core::DType::F32, &Device::Cpu)?, false)?;
/// assert_eq!(rates.flatten_all()?.to_vec1::<f32>()?, [1.0; 4]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Mlp {
    layers: Vec<Linear>,
    output: MlpOutput,
}

impl Mlp {
    /// The network with variables from `vb`.
    pub fn new(config: &MlpConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let mut layers = Vec::with_capacity(config.hidden.len() + 1);
        let mut n_in = config.n_in;
        for (i, &units) in config.hidden.iter().enumerate() {
            layers.push(Linear::new(
                n_in,
                units,
                config.activation,
                config.init,
                &vb.pp(format!("layers.{i}")),
            )?);
            n_in = units;
        }
        let last = vb.pp(format!("layers.{}", config.hidden.len()));
        layers.push(Linear::new(n_in, config.n_out, Activation::Identity, config.init, &last)?);
        Ok(Self { layers, output: config.output })
    }

    /// Number of weights and biases.
    pub fn n_params(&self) -> usize {
        self.layers.iter().map(Linear::n_params).sum()
    }
}

impl ModuleT for Mlp {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Result<Tensor> {
        let ys = self.layers.iter().try_fold(xs.clone(), |xs, layer| layer.forward(&xs))?;
        match self.output {
            MlpOutput::Linear => Ok(ys),
            MlpOutput::Exponential => ys.exp(),
        }
    }
}
