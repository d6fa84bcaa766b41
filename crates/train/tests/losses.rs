//! Losses and their gradients against Keras (goldens/losses.py).

// The script's digits, as it prints them.
#![allow(clippy::excessive_precision)]

use candle_core::{DType, Device, Tensor, Var};
use firstsight_train::{BinaryCrossEntropy, CrossEntropy, Loss, Poisson, WeightedCrossEntropy};

fn check(loss: &dyn Loss, outputs: &[&[f32]], labels: &[f32], expected: f64, gradients: &[f32]) {
    let rows = outputs.len();
    let flat: Vec<f32> = outputs.concat();
    let outputs =
        Var::from_tensor(&Tensor::from_vec(flat, (rows, gradients.len() / rows), &Device::Cpu).unwrap())
            .unwrap();
    let labels = Tensor::new(labels, &Device::Cpu).unwrap();
    let labels = if outputs.dims()[1] > 1 { labels.to_dtype(DType::U32).unwrap() } else { labels };
    let value = loss.compute(&outputs, &labels).unwrap();
    let found = f64::from(value.to_scalar::<f32>().unwrap());
    assert!((found / expected - 1.0).abs() < 1e-6, "{loss:?}: {found} against {expected}");
    let found =
        value.backward().unwrap().get(&outputs).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (found, expected) in found.iter().zip(gradients) {
        assert!(
            (found - expected).abs() <= 1e-5 * expected.abs() + 1e-7,
            "{loss:?}: {found} against {expected}"
        );
    }
}

#[test]
fn cross_entropy_equals_keras() {
    check(
        &CrossEntropy,
        &[&[1.5, -0.25, 3.0], &[-40.0, 60.0, 0.0], &[0.1, 0.1, 0.1]],
        &[2.0, 0.0, 1.0],
        33.777076721191406,
        &[
            0.0589400604,
            0.010242248,
            -0.0691823214,
            -0.333333343,
            0.333333343,
            0.0,
            0.111111104,
            -0.222222239,
            0.111111104,
        ],
    );
}

#[test]
fn cross_entropy_of_soft_labels_equals_keras() {
    let outputs = [[1.5f32, -0.25, 3.0], [-40.0, 60.0, 0.0], [0.1, 0.1, 0.1]];
    let outputs = Var::new(&outputs, &Device::Cpu).unwrap();
    let labels = [[0.7f32, 0.1, 0.2], [0.0, 1.0, 0.0], [0.25, 0.5, 0.25]];
    let labels = Tensor::new(&labels, &Device::Cpu).unwrap();
    let loss = CrossEntropy.compute(&outputs, &labels).unwrap();
    let value = loss.to_scalar::<f32>().unwrap();
    assert!((value - 0.9020781517028809).abs() < 1e-6, "{value}");
    let found =
        loss.backward().unwrap().get(&outputs).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let expected =
        [-0.174393281, -0.0230910871, 0.197484359, 0.0, 0.0, 0.0, 0.0277777724, -0.0555555634, 0.0277777724];
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-7, "{found} against {expected}");
    }
}

#[test]
fn binary_cross_entropy_equals_keras_far_from_zero_too() {
    check(
        &BinaryCrossEntropy,
        &[&[0.75], &[-30.0], &[12.0], &[-0.5]],
        &[1.0, 1.0, 0.0, 0.0],
        10.715238571166992,
        &[-0.0802053213, -0.25, 0.24999845, 0.0943851694],
    );
}

#[test]
fn poisson_equals_keras() {
    check(
        &Poisson,
        &[&[0.5], &[2.25], &[7.0], &[0.001]],
        &[0.0, 3.5, 6.0, 1.25],
        0.9679632186889648,
        &[0.25, -0.138888896, 0.0357142836, -312.21875],
    );
}

#[test]
fn balanced_weights_are_scikit_learns() {
    let loss = WeightedCrossEntropy::balanced(&[0, 0, 0, 1, 3, 3], 4);
    assert_eq!(loss.weights, [6.0 / 12.0, 6.0 / 4.0, 0.0, 6.0 / 8.0]);
}

#[test]
fn outputs_of_another_shape_are_refused() {
    let outputs = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    let labels = Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap();
    let error = Poisson.compute(&outputs, &labels).unwrap_err().to_string();
    assert!(error.contains("(B, 1)") && error.contains("[2, 3]"), "{error}");
}
