//! Five Adam steps of the lecture's two networks against Keras, from the same weights and batches
//! (goldens/training_steps.py).

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{Device, Tensor};
use firstsight_data::{Batch, Batches, Error};
use firstsight_models::networks::{LOGISTIC, SMALL_CNN};
use firstsight_models::{ImageClassifier, Init, InputShape, ModelInfo, Params};
use firstsight_train::{
    BatchEnd, Callback, CrossEntropy, FitConfig, OptimizerConfig, StopReason, Trainable, fit,
};
use serde_json::Value;

const CLASSES: usize = 55;
const BATCH: usize = 16;
const PIXELS: usize = 80 * 60;

/// The script's `pattern`.
fn pattern(n: usize, k: u64) -> impl Iterator<Item = f64> {
    const M: u64 = 1 << 32;
    (0..n as u64).map(move |i| {
        let h = i.wrapping_mul(2_654_435_761).wrapping_add(k * 40_503) % M;
        let h = (h ^ (h >> 15)).wrapping_mul(2_246_822_519) % M;
        h as f64 / M as f64
    })
}

struct Hashed;

impl Batches for Hashed {
    fn epoch(&self, _epoch: usize) -> Box<dyn Iterator<Item = Result<Batch, Error>> + '_> {
        Box::new((0..self.n_batches()).map(|step| {
            let bytes: Vec<f32> =
                pattern(BATCH * PIXELS, 1000 + step as u64).map(|v| (256.0 * v).floor() as f32).collect();
            let labels: Vec<u32> = (0..BATCH).map(|i| ((7 * i + 3 * step) % CLASSES) as u32).collect();
            Ok(Batch {
                inputs: Tensor::from_vec(bytes, (BATCH, 1, 80, 60), &Device::Cpu)?,
                labels: Tensor::from_vec(labels, BATCH, &Device::Cpu)?,
            })
        }))
    }

    fn n_batches(&self) -> usize {
        5
    }

    fn n_examples(&self) -> usize {
        5 * BATCH
    }
}

struct Compare<'a> {
    steps: &'a Value,
    params: &'a Params,
}

impl Callback for Compare<'_> {
    fn on_batch_end(&mut self, end: &BatchEnd<'_>) -> firstsight_train::Result<ControlFlow<StopReason>> {
        let step = &self.steps[end.batch];
        let expected = step["loss"].as_f64().unwrap();
        assert!(
            (end.loss / expected - 1.0).abs() < 1e-4,
            "step {}: loss {} against {expected}",
            end.batch,
            end.loss
        );
        for (name, golden) in step["tensors"].as_object().unwrap() {
            let found: Vec<f32> = self.params.get(name).unwrap().flatten_all()?.to_vec1()?;
            let every = golden["every"].as_u64().unwrap() as usize;
            let expected: Vec<f64> =
                golden["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            let pairs = || found.iter().step_by(every).map(|&v| f64::from(v)).zip(&expected);
            assert_eq!(pairs().count(), expected.len());
            let difference = pairs().map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            let size = expected.iter().map(|b| b * b).sum::<f64>().sqrt();
            assert!(difference < 1e-4 * size, "step {}: {name} is off by {}", end.batch, difference / size);
            let norm = found.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            assert!(
                (norm / golden["norm"].as_f64().unwrap() - 1.0).abs() < 1e-4,
                "step {}: norm of {name}",
                end.batch
            );
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn five_steps(kind: &'static ModelInfo, layers: &[&str]) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/training_steps.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
    let params = Params::seeded(0, &Device::Cpu);
    let input = InputShape::Map { channels: 1, height: 80, width: 60 };
    let network = ImageClassifier::new(kind, input, CLASSES, Init::Keras, &params).unwrap();
    for (k, layer) in layers.iter().enumerate() {
        let weight = params.get(&format!("{layer}.weight")).unwrap();
        let receptive: usize = weight.dims()[2..].iter().product();
        let limit = (6.0 / ((weight.dims()[0] + weight.dims()[1]) * receptive) as f64).sqrt();
        let values: Vec<f32> =
            pattern(weight.elem_count(), k as u64).map(|v| ((2.0 * v - 1.0) * limit) as f32).collect();
        weight.set(&Tensor::from_vec(values, weight.shape(), &Device::Cpu).unwrap()).unwrap();
        let bias = params.get(&format!("{layer}.bias")).unwrap();
        let values: Vec<f32> = pattern(bias.elem_count(), 100 + k as u64).map(|v| (0.1 * v) as f32).collect();
        bias.set(&Tensor::from_vec(values, bias.shape(), &Device::Cpu).unwrap()).unwrap();
    }
    let config = FitConfig::new(1, CrossEntropy, OptimizerConfig::adam_keras(0.001));
    let model = Trainable::new(&network, params.named());
    let mut compare = Compare { steps: &golden[kind.name], params: &params };
    let history = fit(&model, &Hashed, None, &config, &mut [&mut compare]).unwrap();
    assert_eq!(history.epochs.len(), 1);
}

#[test]
fn logistic_regression_follows_keras() {
    five_steps(&LOGISTIC, &["dense"]);
}

#[test]
fn the_small_cnn_follows_keras() {
    five_steps(&SMALL_CNN, &["conv1", "conv2", "conv3", "dense_1", "dense_2"]);
}
