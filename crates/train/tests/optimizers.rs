//! Three steps of each optimizer against PyTorch and Keras (goldens/optimizers.py).

use candle_core::{Device, Tensor, Var};
use firstsight_train::{AdamEpsilon, Optimizer, OptimizerConfig, ParamGroup};

/// Minimizes Σ a·w²/2 for three steps.
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
fn sgd_with_momentum_equals_pytorch() {
    check(
        OptimizerConfig::Sgd { lr: 0.02, momentum: 0.9 },
        [0.8897120000000001, -1.9977563839840002, -0.42700000000000005],
    );
}

#[test]
fn adam_with_the_epsilon_of_pytorch() {
    let epsilon = AdamEpsilon::PyTorch(1e-2);
    check(
        OptimizerConfig::Adam { lr: 0.1, beta1: 0.8, beta2: 0.95, epsilon },
        [0.7053259420978122, -1.8015425592749386, 0.20656039376876725],
    );
}

#[test]
fn adamw_decays_apart_from_the_gradient() {
    let epsilon = AdamEpsilon::PyTorch(1e-2);
    check(
        OptimizerConfig::AdamW { lr: 0.1, beta1: 0.8, beta2: 0.95, epsilon, weight_decay: 0.3 },
        [0.6277781201903304, -1.6342569504097764, 0.17331029861410108],
    );
}

#[test]
fn adam_with_the_epsilon_of_keras() {
    let epsilon = AdamEpsilon::Keras(1e-2);
    check(
        OptimizerConfig::Adam { lr: 0.1, beta1: 0.8, beta2: 0.95, epsilon },
        [0.7124517136078174, -1.8883531231914028, 0.20705747417329695],
    );
}

/// Gradients of Σ a·w²/2 for two variables.
fn gradients(vars: &[Var]) -> candle_core::backprop::GradStore {
    let sum: Vec<Tensor> = vars.iter().map(|w| w.as_tensor().sqr().unwrap().sum_all().unwrap()).collect();
    ((&sum[0] + &sum[1]).unwrap() * 0.5).unwrap().backward().unwrap()
}

fn values(vars: &[Var]) -> Vec<f64> {
    vars.iter().flat_map(|w| w.to_vec1::<f64>().unwrap()).collect()
}

#[test]
fn groups_scale_learning_rate_and_weight_decay() {
    let vars = [1f64, 1.0].map(|w| Var::new(&[w], &Device::Cpu).unwrap());
    let group = |i: usize, lr_scale, weight_decay| ParamGroup {
        lr_scale,
        weight_decay,
        ..ParamGroup::new(vec![vars[i].clone()])
    };
    let config = OptimizerConfig::AdamW {
        lr: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: AdamEpsilon::PyTorch(0.0),
        weight_decay: 0.5,
    };
    let mut optimizer = Optimizer::new(config, vec![group(0, 1.0, 1.0), group(1, 0.5, 0.0)]).unwrap();
    // The first step of Adam without ε is the rate's length; decay comes before it.
    optimizer.step_scaled(&gradients(&vars), 0.5, None).unwrap();
    let expected = [1.0 - 0.05 * 0.5 - 0.05, 1.0 - 0.025];
    for (found, expected) in values(&vars).into_iter().zip(expected) {
        assert!((found - expected).abs() < 1e-9, "{found} against {expected}");
    }
}

#[test]
fn long_gradients_are_clipped_together_and_short_ones_left() {
    // The gradient is (3, 4): its norm is 5.
    for (clip, scale) in [(1.0, 0.2), (5.0, 1.0), (100.0, 1.0)] {
        let vars = [3f64, 4.0].map(|w| Var::new(&[w], &Device::Cpu).unwrap());
        let config = OptimizerConfig::Sgd { lr: 0.1, momentum: 0.0 };
        let mut optimizer = Optimizer::new(config, vars.to_vec()).unwrap();
        optimizer.step_scaled(&gradients(&vars), 1.0, Some(clip)).unwrap();
        for (found, w) in values(&vars).into_iter().zip([3.0, 4.0]) {
            assert!((found - w * (1.0 - 0.1 * scale)).abs() < 1e-6, "clip {clip}: {found}");
        }
    }
}

#[test]
fn a_penalty_adds_to_the_gradient() {
    let vars = [3f64, 4.0].map(|w| Var::new(&[w], &Device::Cpu).unwrap());
    let group = |i: usize, l2| ParamGroup { l2, ..ParamGroup::new(vec![vars[i].clone()]) };
    let config = OptimizerConfig::Sgd { lr: 0.1, momentum: 0.0 };
    let mut optimizer = Optimizer::new(config, vec![group(0, 0.5), group(1, 0.0)]).unwrap();
    optimizer.step(&gradients(&vars)).unwrap();
    for (found, expected) in values(&vars).into_iter().zip([3.0 * (1.0 - 0.1 * 1.5), 4.0 * 0.9]) {
        assert!((found - expected).abs() < 1e-9, "{found} against {expected}");
    }
}
