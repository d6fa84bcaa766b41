use std::hash::Hasher as _;

use candle_core::{DType, Result, Tensor};
use firstsight_ops as ops;
use fnv::FnvHasher;

/// Inverted dropout (Srivastava et al. 2014) that keeps no state.
///
/// The mask is a function of the layer's name and of the sum of its input, which changes with the weights from step to
/// step. So a resumed training drops the same values as an uninterrupted one.
#[derive(Debug, Clone)]
pub(crate) struct Dropout {
    rate: f64,
    name: String,
}

impl Dropout {
    /// A layer that drops a share `rate` in [0, 1) of the values.
    pub(crate) fn new(rate: f64, name: impl Into<String>) -> Self {
        Self { rate, name: name.into() }
    }

    pub(crate) fn forward(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        if !train || self.rate == 0.0 {
            return Ok(xs.clone());
        }
        ops::dropout(xs, self.rate, mask_seed(&self.name, xs)?)
    }
}

/// The seed of the mask that the layer `name` applies to `xs`: a function of the name and of the sum of the values.
pub(super) fn mask_seed(name: &str, xs: &Tensor) -> Result<u64> {
    let sum = xs.detach().sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?;
    let mut seed = FnvHasher::default();
    seed.write(name.as_bytes());
    seed.write_u32(sum.to_bits());
    Ok(seed.finish())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::Dropout;

    #[test]
    fn drops_in_training_alone_and_the_same_for_the_same_input() {
        let xs = Tensor::ones((10, 100), DType::F32, &Device::Cpu).unwrap();
        let values = |xs: &Tensor, train: bool| {
            let ys = Dropout::new(0.5, "drop").forward(xs, train).unwrap();
            ys.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(values(&xs, false), [1.0; 1000]);
        let dropped = values(&xs, true);
        let n = dropped.iter().filter(|v| **v == 0.0).count();
        assert!((430..570).contains(&n), "{n} of 1000 dropped at a rate of 0.5");
        assert_eq!(dropped, values(&xs, true));
        let other: Vec<f32> = values(&(&xs * 1.5).unwrap(), true).iter().map(|v| v / 1.5).collect();
        assert_ne!(dropped, other);
    }
}
