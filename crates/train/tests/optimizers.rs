//! Three steps of each optimiser against PyTorch and Keras (goldens/optimizers.py).

use candle_core::{Device, Tensor, Var};
use firstsight_train::{AdamEpsilon, Optimizer, OptimizerConfig};

/// Minimises Σ a·w²/2 for three steps.
fn three_steps(config: OptimizerConfig) -> Vec<f64> {
    let a = Tensor::new(&[1f64, 0.01, 30.0], &Device::Cpu).unwrap();
    let w = Var::new(&[1f64, -2.0, 0.5], &Device::Cpu).unwrap();
    let mut optimizer = Optimizer::new(config, vec![w.clone()]).unwrap();
    for _ in 0..3 {
        let loss = ((w.as_tensor().sqr().unwrap() * &a).unwrap() * 0.5).unwrap().sum_all().unwrap();
        optimizer.step(&loss.backward().unwrap()).unwrap();
    }
    assert_eq!(optimizer.steps(), 3);
    w.to_vec1().unwrap()
}

fn check(config: OptimizerConfig, expected: [f64; 3]) {
    for (found, expected) in three_steps(config).into_iter().zip(expected) {
        assert!((found - expected).abs() < 1e-7, "{config:?}: {found} against {expected}");
    }
}

#[test]
fn sgd_with_momentum_is_pytorchs() {
    check(
        OptimizerConfig::Sgd { rate: 0.02, momentum: 0.9 },
        [0.8897120000000001, -1.9977563839840002, -0.42700000000000005],
    );
}

#[test]
fn adam_with_pytorchs_epsilon() {
    let epsilon = AdamEpsilon::PyTorch(1e-2);
    check(
        OptimizerConfig::Adam { rate: 0.1, beta1: 0.8, beta2: 0.95, epsilon },
        [0.7053259420978122, -1.8015425592749386, 0.20656039376876725],
    );
}

#[test]
fn adamw_decays_apart_from_the_gradient() {
    let epsilon = AdamEpsilon::PyTorch(1e-2);
    check(
        OptimizerConfig::AdamW { rate: 0.1, beta1: 0.8, beta2: 0.95, epsilon, decay: 0.3 },
        [0.6277781201903304, -1.6342569504097764, 0.17331029861410108],
    );
}

#[test]
fn adam_with_kerass_epsilon() {
    let epsilon = AdamEpsilon::Keras(1e-2);
    check(
        OptimizerConfig::Adam { rate: 0.1, beta1: 0.8, beta2: 0.95, epsilon },
        [0.7124517136078174, -1.8883531231914028, 0.20705747417329695],
    );
}
