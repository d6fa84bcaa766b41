//! Weights and inputs by the formulas of goldens/formulas.py, and comparison with what a golden keeps of a tensor.

// Not every test uses every function.
#![allow(dead_code, unreachable_pub)]

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

pub const CLASSES: usize = 10;

/// The scripts' `pattern`.
pub fn pattern(n: usize, k: u32) -> impl Iterator<Item = f64> {
    (0..n).map(move |i| {
        let h = (i as u32).wrapping_mul(2_654_435_761).wrapping_add(k.wrapping_mul(40_503));
        f64::from((h ^ (h >> 15)).wrapping_mul(2_246_822_519)) / f64::from(2u32.pow(31)) / 2.0
    })
}

/// FNV-1a of a name, 32 bits.
pub fn number(name: &str) -> u32 {
    name.bytes().fold(2_166_136_261, |h, byte| (h ^ u32::from(byte)).wrapping_mul(16_777_619))
}

/// The scripts' `value`.
pub fn value(name: &str, shape: &[usize], k: u32, power: f64, dtype: DType) -> Tensor {
    let (n, fan_in) = (shape.iter().product(), shape.iter().skip(1).product::<usize>());
    let (scale, offset) = match shape.len() {
        _ if name.ends_with("running_var") => (1.0, 0.5),
        1 if name.ends_with("weight") => (1.0, 0.5),
        1 => (0.4, -0.2),
        _ => ((power / fan_in as f64).sqrt() * 2.0, -(power / fan_in as f64).sqrt()),
    };
    let values = pattern(n, k).map(|u| offset + scale * u);
    match dtype {
        DType::F32 => {
            Tensor::from_vec(values.map(|v| v as f32).collect::<Vec<f32>>(), shape, &Device::Cpu).unwrap()
        }
        _ => tensor(values.collect(), shape, dtype),
    }
}

/// The scripts' `images`, (B, 3, H, W).
pub fn images(batch: usize, (height, width): (usize, usize), dtype: DType) -> Tensor {
    let shape = [batch, 3, height, width];
    let values = pattern(shape.iter().product(), 5000).map(|u| 1.5 * (2.0 * u - 1.0)).collect();
    tensor(values, &shape, dtype)
}

/// The scripts' `labels`.
pub fn labels(batch: usize) -> Tensor {
    let labels: Vec<u32> = (0..batch).map(|i| ((7 * i + 3) % CLASSES) as u32).collect();
    Tensor::from_vec(labels, batch, &Device::Cpu).unwrap()
}

pub fn tensor(values: Vec<f64>, shape: &[usize], dtype: DType) -> Tensor {
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

pub fn norm_of(tensor: &Tensor) -> f64 {
    let squares = tensor.to_dtype(DType::F64).unwrap().sqr().unwrap();
    squares.sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt()
}

/// The largest relative differences so far.
#[derive(Default)]
pub struct Worst {
    pub what: String,
    pub difference: f64,
}

impl Worst {
    pub fn note(&mut self, what: &str, difference: f64) {
        assert!(difference.is_finite(), "{what}: {difference}");
        if difference > self.difference {
            *self = Self { what: what.to_owned(), difference };
        }
    }

    /// The kept values and the sum, relative to what such values amount to given the golden's norm; and the norm.
    pub fn see(&mut self, what: &str, found: &Tensor, golden: &Value) {
        let shape: Vec<usize> =
            golden["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
        assert_eq!(found.dims(), shape, "{what}");
        let found: Vec<f64> =
            found.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let every = golden["every"].as_u64().unwrap() as usize;
        let values: Vec<f64> =
            golden["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        let norm = golden["norm"].as_f64().unwrap();
        let n = found.len() as f64;
        let kept: Vec<f64> = found.iter().step_by(every).copied().collect();
        assert_eq!(kept.len(), values.len(), "{what}");
        let length = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
        let difference: Vec<f64> = kept.iter().zip(&values).map(|(a, b)| a - b).collect();
        let typical = norm * (kept.len() as f64 / n).sqrt();
        self.note(what, length(&difference) / length(&values).max(typical));
        self.note(what, (length(&found) / norm - 1.0).abs());
        self.note(
            what,
            (found.iter().sum::<f64>() - golden["sum"].as_f64().unwrap()).abs() / (norm * n.sqrt()),
        );
    }

    pub fn check(&self, stage: &str, tolerance: f64) {
        println!("{stage}: at most {:.1e} off ({})", self.difference, self.what);
        assert!(self.difference < tolerance, "{stage}: {} is {:.1e} off", self.what, self.difference);
    }
}
