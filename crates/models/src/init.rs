//! Initial values of variables.

use std::hash::Hasher as _;

use candle_core::{DType, Device, Result, Shape, Tensor, Var};
use candle_nn::Init as Distribution;
use candle_nn::init::{FanInOut, NormalOrUniform};
use fnv::FnvHasher;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};

/// Initialization of weights and biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Init {
    /// Keras's default, Glorot uniform: weights from U(−a, a) with a = √(6 / (fan_in + fan_out)), zero biases (Glorot and
    /// Bengio 2010, eq. 16).
    Keras,
    /// PyTorch's default for `nn.Linear` and `nn.Conv2d`, Kaiming uniform with a = √5: weights and biases from U(−a, a)
    /// with a = 1 / √fan_in.
    PyTorch,
    /// Kaiming normal of torchvision: N(0, 2 / fan_out) for convolutions (He et al. 2015, eq. 14, in the backward form; fan_out is
    /// PyTorch's, that of all groups), N(0, 0.01²) for dense layers as in its MobileNetV2, zero biases. timm's ResNets
    /// differ: the last normalization of each block begins with γ = 0 (`zero_init_last`), and the dense layer is PyTorch's.
    Kaiming,
    /// Google's for MobileNetV3 and EfficientNet, as timm has it: N(0, 2 / fan_out) for convolutions, where fan_out is that of one
    /// group; U(−a, a) with a = 1 / √fan_out for dense layers; zero biases.
    Google,
    /// N(0, 0.09²) truncated at two standard deviations, zero biases: MobileNetV2 in its authors' code for TF-Slim.
    TruncatedNormal,
    /// N(0, 0.02²), zero biases: timm's for transformers and ConvNeXt.
    Transformer,
    /// U(−2.4 / fan_in, 2.4 / fan_in) for weights and biases (LeCun et al. 1998, appendix A).
    LeCun,
    /// N(0, 0.01²); biases 0 or 1, as the table of layers states (Krizhevsky et al. 2012, section 5).
    Krizhevsky,
}

impl Init {
    /// Distribution of a weight of shape (out, in) or (out, in, kh, kw).
    pub fn weight(self, shape: &[usize]) -> Distribution {
        self.grouped_weight(shape, 1)
    }

    /// Distribution of a convolution's weight of shape (out, in / groups, kh, kw).
    pub fn grouped_weight(self, shape: &[usize], groups: usize) -> Distribution {
        let (fan_in, fan_out) = fans(shape);
        let uniform = |a: f64| Distribution::Uniform { lo: -a, up: a };
        let normal = |stdev: f64| Distribution::Randn { mean: 0.0, stdev };
        match self {
            Self::Keras => uniform((6.0 / (fan_in + fan_out)).sqrt()),
            Self::PyTorch => uniform(fan_in.sqrt().recip()),
            Self::Kaiming if shape.len() > 2 => normal((2.0 / fan_out).sqrt()),
            Self::Google if shape.len() > 2 => normal((2.0 * groups as f64 / fan_out).sqrt()),
            Self::Google => uniform(fan_out.sqrt().recip()),
            Self::Kaiming | Self::Krizhevsky => normal(0.01),
            Self::TruncatedNormal => normal(0.09),
            Self::Transformer => normal(0.02),
            Self::LeCun => uniform(2.4 / fan_in),
        }
    }

    /// Distribution of the bias of a layer with a weight of shape `weight`. [`Init::Krizhevsky`] sets it to `constant`.
    pub fn bias(self, weight: &[usize], constant: f64) -> Distribution {
        match self {
            Self::Keras | Self::Kaiming | Self::Google | Self::TruncatedNormal | Self::Transformer => {
                Distribution::Const(0.0)
            }
            Self::Krizhevsky => Distribution::Const(constant),
            Self::PyTorch | Self::LeCun => self.weight(weight),
        }
    }

    /// Whether normal distributions are truncated at two standard deviations.
    pub(crate) fn truncates(self) -> bool {
        self == Self::TruncatedNormal
    }
}

fn fans(shape: &[usize]) -> (f64, f64) {
    let receptive: usize = shape.iter().skip(2).product();
    let dim = |i: usize| shape.get(i).copied().unwrap_or(1);
    ((dim(1) * receptive) as f64, (dim(0) * receptive) as f64)
}

/// Largest number of values of a variable; more are a mistake in its shape.
const MAX_VALUES: usize = 1 << 28;

/// Treatment of normal draws far from the mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    Kept,
    /// Draws beyond two standard deviations are repeated.
    Cut,
}

/// The variable `name`, drawn from ChaCha8 keyed by the seed and FNV-1a of the name, so that it depends on no other
/// variable. Uniform draws lie in [lo, up).
pub(crate) fn var(
    init: Distribution,
    tail: Tail,
    shape: &Shape,
    seed: u64,
    name: &str,
    dtype: DType,
    device: &Device,
) -> Result<Var> {
    let rng = generator(seed, name);
    let n = shape.dims().iter().try_fold(1usize, |n, dim| n.checked_mul(*dim)).filter(|n| *n <= MAX_VALUES);
    let Some(n) = n else {
        candle_core::bail!("{name} would have the shape {:?}: more than {MAX_VALUES} values", shape.dims());
    };
    let mut draw: Box<dyn FnMut() -> f64> = match init {
        // Zeros are memory that the system hands out when it is written to.
        Distribution::Const(c) if dtype == DType::F32 => {
            return Var::from_vec(vec![c as f32; n], shape.clone(), device);
        }
        Distribution::Const(c) => Box::new(move || c),
        Distribution::Uniform { lo, up } => uniform(rng, lo, up),
        Distribution::Randn { mean, stdev } => normal(rng, tail, mean, stdev),
        Distribution::Kaiming { dist, fan, non_linearity } => {
            let (fan_in, fan_out) = fans(shape.dims());
            let fan = match fan {
                FanInOut::FanIn => fan_in,
                FanInOut::FanOut => fan_out,
            };
            let std = non_linearity.gain() / fan.sqrt();
            match dist {
                NormalOrUniform::Uniform => uniform(rng, -(3f64.sqrt()) * std, 3f64.sqrt() * std),
                NormalOrUniform::Normal => normal(rng, tail, 0.0, std),
            }
        }
    };
    if dtype == DType::F32 {
        let values: Vec<f32> = (0..n).map(|_| draw() as f32).collect();
        // Not by way of a tensor, which `Var::from_tensor` would copy.
        return Var::from_vec(values, shape.clone(), device);
    }
    let values: Vec<f64> = (0..n).map(|_| draw()).collect();
    Var::from_tensor(
        &Tensor::from_vec(values, shape.clone(), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?,
    )
}

fn uniform(mut rng: ChaCha8Rng, lo: f64, up: f64) -> Box<dyn FnMut() -> f64> {
    Box::new(move || lo + (up - lo) * rng.random::<f64>())
}

fn normal(mut rng: ChaCha8Rng, tail: Tail, mean: f64, stdev: f64) -> Box<dyn FnMut() -> f64> {
    Box::new(move || {
        loop {
            let z: f64 = StandardNormal.sample(&mut rng);
            if tail == Tail::Kept || z.abs() <= 2.0 {
                return mean + stdev * z;
            }
        }
    })
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

    fn draw(init: Distribution, dims: &[usize], seed: u64, name: &str) -> Vec<f32> {
        let t = var(init, Tail::Kept, &Shape::from(dims), seed, name, DType::F32, &Device::Cpu).unwrap();
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_value_depends_on_seed_and_name_alone() {
        let init = Init::Keras.weight(&[64, 960]);
        let a = draw(init, &[64, 960], 1, "dense.weight");
        assert_eq!(a, draw(init, &[64, 960], 1, "dense.weight"));
        assert_ne!(a, draw(init, &[64, 960], 2, "dense.weight"));
        assert_ne!(a, draw(init, &[64, 960], 1, "dense_1.weight"));
    }

    #[test]
    fn glorot_uniform_fills_its_interval() {
        let bound = (6.0f64 / (960.0 + 64.0)).sqrt() as f32;
        let a = draw(Init::Keras.weight(&[64, 960]), &[64, 960], 3, "w");
        let (lo, hi) = a.iter().fold((f32::MAX, f32::MIN), |(lo, hi), &v| (lo.min(v), hi.max(v)));
        assert!(lo >= -bound && hi <= bound, "{lo} {hi} outside ±{bound}");
        assert!(lo < -0.999 * bound && hi > 0.999 * bound, "{lo} {hi} do not reach ±{bound}");
        let variance = a.iter().map(|v| f64::from(v * v)).sum::<f64>() / a.len() as f64;
        let expected = f64::from(bound * bound) / 3.0;
        assert!((variance / expected - 1.0).abs() < 0.02, "{variance} against {expected}");
    }

    #[test]
    fn truncated_normal_draws_stay_within_two_deviations() {
        let init = Init::TruncatedNormal.weight(&[100, 100]);
        let shape = Shape::from((100, 100));
        let t = var(init, Tail::Cut, &shape, 4, "w", DType::F32, &Device::Cpu).unwrap();
        let a: Vec<f32> = t.flatten_all().unwrap().to_vec1().unwrap();
        let most = a.iter().fold(0f32, |most, v| most.max(v.abs()));
        assert!(most <= 0.18 && most > 0.179, "{most}");
        // A normal distribution cut off at two deviations has 0.8796 of the deviation.
        let deviation = (a.iter().map(|v| f64::from(v * v)).sum::<f64>() / a.len() as f64).sqrt();
        assert!((deviation / (0.09 * 0.8796) - 1.0).abs() < 0.02, "{deviation}");
    }

    #[test]
    fn kaiming_google_and_lecun_go_by_the_fans_of_a_layer() {
        let deviation = |init: Init, shape: &[usize], groups| match init.grouped_weight(shape, groups) {
            Distribution::Randn { mean: 0.0, stdev } => stdev,
            other => panic!("{other:?}"),
        };
        // torch.nn.init.kaiming_normal_(…, mode="fan_out", nonlinearity="relu") of resnext50_32x4d's layer1.0.conv2.
        assert_eq!(deviation(Init::Kaiming, &[128, 4, 3, 3], 32), (2.0f64 / (128.0 * 9.0)).sqrt());
        assert_eq!(deviation(Init::Kaiming, &[16, 4], 1), 0.01);
        // timm's _init_weight_goog.
        assert_eq!(deviation(Init::Google, &[16, 1, 3, 3], 16), (2.0f64 / 9.0).sqrt());
        let Distribution::Uniform { lo, up } = Init::Google.weight(&[16, 4]) else { panic!("uniform") };
        assert_eq!((lo, up), (-0.25, 0.25));
        let Distribution::Uniform { lo, up } = Init::LeCun.weight(&[16, 3, 5, 5]) else { panic!("uniform") };
        assert_eq!((lo, up), (-2.4 / 75.0, 2.4 / 75.0));
    }

    #[test]
    fn fans_of_a_convolution_count_the_kernel() {
        assert_eq!(fans(&[16, 3, 5, 7]), (3.0 * 35.0, 16.0 * 35.0));
        let Distribution::Uniform { up, .. } = Init::PyTorch.bias(&[16, 3, 5, 7], 0.0) else {
            panic!("uniform")
        };
        assert_eq!(up, (105.0f64).sqrt().recip());
    }

    #[test]
    fn kaiming_uniform_fills_its_interval() {
        let a = draw(candle_nn::init::DEFAULT_KAIMING_UNIFORM, &[100, 50, 3, 3], 5, "w");
        let bound = (6.0f32 / 450.0).sqrt();
        let (lo, hi) = a.iter().fold((f32::MAX, f32::MIN), |(lo, hi), &v| (lo.min(v), hi.max(v)));
        assert!(lo >= -bound && hi <= bound, "{lo} {hi} outside ±{bound}");
        assert!(lo < -0.999 * bound && hi > 0.999 * bound, "{lo} {hi} do not reach ±{bound}");
    }

    #[test]
    fn kaiming_normal_has_its_deviation() {
        let a = draw(candle_nn::init::DEFAULT_KAIMING_NORMAL, &[100, 50, 3, 3], 5, "w");
        let variance = a.iter().map(|v| f64::from(v * v)).sum::<f64>() / a.len() as f64;
        assert!((variance / (2.0 / 450.0) - 1.0).abs() < 0.03, "{variance}");
    }
}
