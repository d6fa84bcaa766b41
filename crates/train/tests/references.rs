//! Losses, metrics, schedules and weight averages against PyTorch, scikit-learn and timm (goldens/references.py).

use std::ops::ControlFlow;

use candle_core::{DType, Device, ModuleT, Tensor, Var};
use firstsight_data::{Sampling, TensorBatches};
use firstsight_train::callbacks::ModelEma;
use firstsight_train::{
    BalancedAccuracy, BatchEnd, BatchOutputs, Callback, CrossEntropy, FitConfig, FocalLoss, Loss, MacroF1,
    MacroPrecision, MacroRecall, MeanAbsoluteError, MeanSquaredError, Metric, OptimizerConfig, R2, RocAuc,
    Schedule, StopReason, Trainable, TrainingLength, WeightedCrossEntropy, fit, gradient,
};
use serde_json::Value;

fn golden(section: &str) -> Value {
    let text = include_str!("goldens/references.json");
    serde_json::from_str::<Value>(text).unwrap()[section].take()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|v| v.as_f64().map_or_else(|| numbers(v), |v| vec![v]))
        .collect()
}

fn close(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance * expected.abs().max(1.0),
        "{what}: {found} against {expected}"
    );
}

/// Outputs as float64, labels as classes, shares or amounts.
fn tensors(case: &Value) -> (Tensor, Tensor) {
    let n = case["labels"].as_array().unwrap().len();
    let tensor = |value: &Value| {
        let values = numbers(value);
        let shape = (n, values.len() / n);
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    };
    let (outputs, labels) = (tensor(&case["outputs"]), tensor(&case["labels"]));
    let labels = match (labels.dim(1).unwrap(), case["labels"][0].is_u64()) {
        (1, true) => labels.squeeze(1).unwrap().to_dtype(DType::U32).unwrap(),
        (1, false) => labels.squeeze(1).unwrap(),
        _ => labels,
    };
    (outputs, labels)
}

fn loss(name: &str, weights: Vec<f64>) -> Box<dyn Loss> {
    match name {
        "weighted_cross_entropy" | "weighted_cross_entropy_soft" => {
            Box::new(WeightedCrossEntropy::new(weights))
        }
        "focal" => Box::new(FocalLoss::new(2.0)),
        "focal_alpha" => Box::new(FocalLoss::new(1.5).alpha(weights)),
        "focal_binary" => Box::new(FocalLoss::new(2.0).alpha(vec![0.75, 0.25])),
        "mean_squared_error" => Box::new(MeanSquaredError),
        "mean_absolute_error" => Box::new(MeanAbsoluteError),
        other => panic!("no loss is called {other}"),
    }
}

#[test]
fn losses_and_their_gradients_are_those_of_pytorch_and_of_finite_differences() {
    let golden = golden("losses");
    for case in golden["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let loss = loss(name, numbers(&golden["weights"]));
        let (outputs, labels) = tensors(case);
        let (value, grad) = gradient(|outputs| loss.compute(outputs, &labels), &outputs).unwrap();
        close(name, value.to_scalar().unwrap(), case["value"].as_f64().unwrap(), 1e-12);
        let grad = grad.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for (found, expected) in grad.iter().zip(numbers(&case["grad"])) {
            close(name, *found, expected, 1e-12);
        }
        const H: f64 = 1e-6;
        let values = outputs.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for (i, found) in grad.iter().enumerate() {
            let at = |h: f64| {
                let mut values = values.clone();
                values[i] += h;
                let outputs = Tensor::from_vec(values, outputs.shape(), &Device::Cpu).unwrap();
                loss.compute(&outputs, &labels).unwrap().to_scalar::<f64>().unwrap()
            };
            close(name, *found, (at(H) - at(-H)) / (2.0 * H), 1e-8);
        }
    }
}

#[test]
fn without_focus_and_weights_they_are_cross_entropy() {
    let (outputs, labels) = tensors(&golden("losses")["cases"][0]);
    let value = |loss: &dyn Loss| loss.compute(&outputs, &labels).unwrap().to_scalar::<f64>().unwrap();
    let expected = value(&CrossEntropy);
    close("γ = 0", value(&FocalLoss::new(0.0)), expected, 1e-12);
    close("equal weights", value(&WeightedCrossEntropy::new(vec![3.0; 4])), expected, 1e-12);
}

#[test]
fn unsuitable_labels_and_settings_are_refused() {
    let outputs = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    let labels = Tensor::new(&[0u32, 3], &Device::Cpu).unwrap();
    let error = |loss: &dyn Loss| loss.compute(&outputs, &labels).unwrap_err().to_string();
    assert!(error(&FocalLoss::new(2.0)).contains("0 to 2, found 3"));
    assert!(error(&FocalLoss::new(0.5)).contains("found 0.5"));
    assert!(error(&FocalLoss::new(1.0)).contains("0 to 2, found 3"), "1 is a focus that it takes");
    assert!(error(&WeightedCrossEntropy::new(vec![1.0; 3])).contains("found 3"));
    assert!(error(&MeanSquaredError).contains("(B, 1)"));
}

#[test]
fn metrics_are_those_of_scikit_learn_in_whatever_batches() {
    let metrics: [&dyn Metric; 8] = [
        &MacroPrecision,
        &MacroRecall,
        &MacroF1,
        &BalancedAccuracy,
        &RocAuc,
        &R2,
        &MeanAbsoluteError,
        &MeanSquaredError,
    ];
    let mut compared = 0;
    for (i, case) in golden("metrics").as_array().unwrap().iter().enumerate() {
        let single = |value: &Value| numbers(value).into_iter().map(|v| v as f32).collect::<Vec<f32>>();
        let (outputs, labels) = (single(&case["outputs"]), single(&case["labels"]));
        let n_outputs = outputs.len() / labels.len();
        for metric in metrics {
            let Some(expected) = case[metric.name()].as_f64() else { continue };
            compared += 1;
            for batch in [1, 7, labels.len()] {
                let mut state = metric.accumulator();
                for (outputs, labels) in outputs.chunks(batch * n_outputs).zip(labels.chunks(batch)) {
                    state.add(&BatchOutputs { outputs, n_outputs, labels, shares: &[] });
                }
                close(&format!("{} of case {i}", metric.name()), state.value(), expected, 1e-12);
            }
        }
    }
    assert_eq!(compared, 3 * 5 + 2 * 3);
}

#[test]
fn a_metric_is_nan_where_it_is_undefined() {
    let value = |metric: &dyn Metric, labels: &[f32]| {
        let mut state = metric.accumulator();
        state.add(&BatchOutputs { outputs: &vec![0.5; labels.len()], n_outputs: 1, labels, shares: &[] });
        state.value()
    };
    assert!(value(&RocAuc, &[1.0, 1.0]).is_nan(), "labels of one class");
    assert!(value(&R2, &[1.0]).is_nan(), "one example");
    assert!(value(&MacroF1, &[]).is_nan(), "no examples");
    assert!(value(&MeanSquaredError, &[]).is_nan(), "no examples");
}

#[test]
fn schedules_are_those_of_pytorch() {
    let golden = golden("schedules");
    let other = Schedule::OneCycle { pct_start: 0.45, div_factor: 10.0, final_div_factor: 100.0 };
    let cases = [
        ("one_cycle", Schedule::one_cycle(), (4, 5), 1),
        ("one_cycle_other", other, (1, 12), 1),
        ("step", Schedule::Step { epochs: 3, gamma: 0.25 }, (10, 4), 4),
        ("multi_step", Schedule::MultiStep { milestones: vec![2, 5], gamma: 0.1 }, (8, 3), 3),
    ];
    for (name, schedule, (epochs, steps_per_epoch), steps) in cases {
        let length = TrainingLength { epochs, steps_per_epoch };
        for (i, expected) in numbers(&golden[name]).into_iter().enumerate() {
            for step in i * steps..(i + 1) * steps {
                close(&format!("{name} at {i}"), schedule.lr_scale(step as u64, length), expected, 1e-12);
            }
        }
    }
}

/// A network whose weights follow a list, one pair of values per step.
struct Scripted(Var);

impl ModuleT for Scripted {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> candle_core::Result<Tensor> {
        xs.to_dtype(DType::F64)?.broadcast_mul(&self.0.sum_all()?)
    }
}

struct SetWeights(Vec<f64>);

impl Callback for SetWeights {
    fn on_batch_end(&mut self, end: &BatchEnd<'_>) -> firstsight_train::Result<ControlFlow<StopReason>> {
        let values = &self.0[2 * end.batch..2 * end.batch + 2];
        end.vars[0].1.set(&Tensor::new(values, &Device::Cpu)?)?;
        Ok(ControlFlow::Continue(()))
    }
}

#[test]
fn the_average_of_weights_is_that_of_timm() {
    let golden = golden("ema");
    for (name, mut ema) in
        [("constant", ModelEma::new(0.8)), ("warmup", ModelEma::new(0.8).warmup(1.0, 0.75))]
    {
        let case = &golden[name];
        let (values, averages) = (numbers(&case["values"]), numbers(&case["averages"]));
        for steps in 1..=values.len() / 2 {
            let var = Var::new(&[1f64, -2.0], &Device::Cpu).unwrap();
            let network = Scripted(var.clone());
            let model = Trainable::new(&network, vec![("weight".to_owned(), var.clone())]);
            let inputs = Tensor::ones((steps, 1), DType::F32, &Device::Cpu).unwrap();
            let labels = Tensor::zeros(steps, DType::F32, &Device::Cpu).unwrap();
            let batches = TensorBatches::new(inputs, labels, 1, Sampling::Sequential).unwrap();
            let config = FitConfig::new(1, MeanSquaredError, OptimizerConfig::sgd(0.0, 0.0));
            let mut script = SetWeights(values.clone());
            fit(&model, &batches, None, &config, &mut [&mut script, &mut ema]).unwrap();
            let found = var.to_vec1::<f64>().unwrap();
            for (found, expected) in found.iter().zip(&averages[2 * steps - 2..2 * steps]) {
                close(&format!("{name} after {steps} steps"), *found, *expected, 1e-14);
            }
        }
    }
}
