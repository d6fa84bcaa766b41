//! Initial values: Keras's and PyTorch's defaults as named schemes, drawn from a seed and a name.

use std::hash::Hasher as _;

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::Init;
use candle_nn::init::{FanInOut, NormalOrUniform};
use fnv::FnvHasher;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};

/// What a framework fills a layer with when nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Keras: weights from Glorot's uniform distribution, U(−a, a) with a = √(6 / (fan_in + fan_out)); zero
    /// biases (Glorot and Bengio 2010, eq. 16).
    Keras,
    /// PyTorch: weights and biases from U(−a, a) with a = 1 / √fan_in (`nn.Linear.reset_parameters`,
    /// `nn.Conv2d`: Kaiming's uniform distribution with a = √5).
    PyTorch,
}

impl Scheme {
    /// The initialiser of a weight of shape (out, in) or (out, in / groups, kh, kw).
    pub fn weight(self, shape: &[usize]) -> Init {
        let (fan_in, fan_out) = fans(shape);
        let a = match self {
            Self::Keras => (6.0 / (fan_in + fan_out)).sqrt(),
            Self::PyTorch => fan_in.sqrt().recip(),
        };
        Init::Uniform { lo: -a, up: a }
    }

    /// The initialiser of the bias that goes with a weight of shape `weight`.
    pub fn bias(self, weight: &[usize]) -> Init {
        match self {
            Self::Keras => Init::Const(0.0),
            Self::PyTorch => self.weight(weight),
        }
    }
}

fn fans(shape: &[usize]) -> (f64, f64) {
    let receptive: usize = shape.iter().skip(2).product();
    let dim = |i: usize| shape.get(i).copied().unwrap_or(1);
    ((dim(1) * receptive) as f64, (dim(0) * receptive) as f64)
}

/// A variable of more values than this is a mistake in its shape, and is refused before memory is taken for it.
const MAX_VALUES: usize = 1 << 28;

/// The value of the variable `name`: drawn from ChaCha8 keyed by the seed and FNV-1a of the name, so that it
/// depends on no other variable. Uniform draws lie in [lo, up).
pub(crate) fn tensor(
    init: Init,
    shape: &Shape,
    seed: u64,
    name: &str,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let mut rng = generator(seed, name);
    let n = shape.dims().iter().try_fold(1usize, |n, dim| n.checked_mul(*dim)).filter(|n| *n <= MAX_VALUES);
    let Some(n) = n else {
        candle_core::bail!("{name} would have the shape {:?}: more than {MAX_VALUES} values", shape.dims());
    };
    let mut uniform =
        |lo: f64, up: f64| -> Vec<f64> { (0..n).map(|_| lo + (up - lo) * rng.random::<f64>()).collect() };
    let values: Vec<f64> = match init {
        Init::Const(c) => vec![c; n],
        Init::Uniform { lo, up } => uniform(lo, up),
        Init::Randn { mean, stdev } => normal(&mut rng, n, mean, stdev),
        Init::Kaiming { dist, fan, non_linearity } => {
            let (fan_in, fan_out) = fans(shape.dims());
            let fan = match fan {
                FanInOut::FanIn => fan_in,
                FanInOut::FanOut => fan_out,
            };
            let std = non_linearity.gain() / fan.sqrt();
            match dist {
                NormalOrUniform::Uniform => uniform(-(3f64.sqrt()) * std, 3f64.sqrt() * std),
                NormalOrUniform::Normal => normal(&mut rng, n, 0.0, std),
            }
        }
    };
    Tensor::from_vec(values, shape.clone(), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
}

fn normal(rng: &mut ChaCha8Rng, n: usize, mean: f64, stdev: f64) -> Vec<f64> {
    StandardNormal.sample_iter(rng).take(n).map(|z: f64| mean + stdev * z).collect()
}

fn generator(seed: u64, name: &str) -> ChaCha8Rng {
    let mut hasher = FnvHasher::default();
    hasher.write(name.as_bytes());
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&hasher.finish().to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(init: Init, dims: &[usize], seed: u64, name: &str) -> Vec<f32> {
        let t = tensor(init, &Shape::from(dims), seed, name, DType::F32, &Device::Cpu).unwrap();
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_value_depends_on_seed_and_name_alone() {
        let init = Scheme::Keras.weight(&[64, 960]);
        let a = draw(init, &[64, 960], 1, "dense.weight");
        assert_eq!(a, draw(init, &[64, 960], 1, "dense.weight"));
        assert_ne!(a, draw(init, &[64, 960], 2, "dense.weight"));
        assert_ne!(a, draw(init, &[64, 960], 1, "dense_1.weight"));
    }

    #[test]
    fn glorot_uniform_fills_its_interval() {
        let bound = (6.0f64 / (960.0 + 64.0)).sqrt() as f32;
        let a = draw(Scheme::Keras.weight(&[64, 960]), &[64, 960], 3, "w");
        let (lo, hi) = a.iter().fold((f32::MAX, f32::MIN), |(lo, hi), &v| (lo.min(v), hi.max(v)));
        assert!(lo >= -bound && hi <= bound, "{lo} {hi} outside ±{bound}");
        assert!(lo < -0.999 * bound && hi > 0.999 * bound, "{lo} {hi} do not reach ±{bound}");
        let variance = a.iter().map(|v| f64::from(v * v)).sum::<f64>() / a.len() as f64;
        let expected = f64::from(bound * bound) / 3.0;
        assert!((variance / expected - 1.0).abs() < 0.02, "{variance} against {expected}");
    }

    #[test]
    fn fans_of_a_convolution_count_the_kernel() {
        assert_eq!(fans(&[16, 3, 5, 7]), (3.0 * 35.0, 16.0 * 35.0));
        let Init::Uniform { up, .. } = Scheme::PyTorch.bias(&[16, 3, 5, 7]) else { panic!("uniform") };
        assert_eq!(up, (105.0f64).sqrt().recip());
    }

    #[test]
    fn kaiming_normal_has_its_deviation() {
        let a = draw(candle_nn::init::DEFAULT_KAIMING_NORMAL, &[100, 50, 3, 3], 5, "w");
        let variance = a.iter().map(|v| f64::from(v * v)).sum::<f64>() / a.len() as f64;
        assert!((variance / (2.0 / 450.0) - 1.0).abs() < 0.03, "{variance}");
    }
}
