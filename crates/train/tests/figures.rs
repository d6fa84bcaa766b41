//! Figures of predictions against scikit-learn and SciPy (goldens/figures.py), and outputs that are NaN.

use candle_core::{Device, ModuleT, Tensor};
use firstsight_data::{Sampling, TensorBatches};
use firstsight_train::{
    Accuracy, CrossEntropy, Error, Predictions, evaluate, evaluate_and_predict, outputs, predict,
    wilson_interval,
};
use serde_json::Value;

fn golden(section: &str) -> Vec<Value> {
    let text = include_str!("goldens/figures.json");
    serde_json::from_str::<Value>(text).unwrap()[section].as_array().unwrap().clone()
}

fn close(what: &str, found: f64, expected: &Value, tolerance: f64) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= tolerance, "{what}: {found} against {expected}");
}

fn predictions(case: &Value) -> Predictions {
    let numbers = |key: &str| case[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap());
    Predictions {
        probabilities: numbers("probabilities").map(|p| p as f32).collect(),
        labels: numbers("labels").map(|label| label as u32).collect(),
        n_classes: case["n_classes"].as_u64().unwrap() as usize,
    }
}

#[test]
fn the_figures_of_classes_are_those_of_the_classification_report() {
    for case in golden("cases") {
        let predictions = predictions(&case);
        let confusion: Vec<u64> = predictions.confusion().into_iter().map(|n| n as u64).collect();
        assert_eq!(serde_json::json!(confusion), case["confusion"]);
        let per_class = predictions.per_class();
        assert_eq!(per_class.len(), predictions.n_classes);
        for (ours, theirs) in per_class.into_iter().zip(case["classes"].as_array().unwrap()) {
            assert_eq!(ours.recall.is_some(), ours.n > 0);
            if theirs.is_null() {
                assert_eq!((ours.n, ours.predicted, ours.precision, ours.f1), (0, 0, None, None));
                continue;
            }
            assert_eq!(ours.n as f64, theirs["support"].as_f64().unwrap());
            close("precision", ours.precision.unwrap(), &theirs["precision"], 1e-12);
            close("recall", ours.recall.unwrap_or(0.0), &theirs["recall"], 1e-12);
            close("F1", ours.f1.unwrap(), &theirs["f1-score"], 1e-12);
        }
        let k = predictions.n_classes;
        let pairs = predictions.confused_pairs();
        let off_diagonal = |i: &usize| i / k != i % k && confusion[*i] > 0;
        assert_eq!(pairs.len(), (0..k * k).filter(off_diagonal).count());
        assert!(pairs.iter().all(|&(n, truth, guess)| n as u64 == confusion[truth * k + guess]));
        assert!(pairs.is_sorted_by(|a, b| a.0 >= b.0), "{pairs:?}");
        let averages = predictions.macro_averages();
        close("macro precision", averages.precision, &case["macro"]["precision"], 1e-12);
        close("macro recall", averages.recall, &case["macro"]["recall"], 1e-12);
        close("macro F1", averages.f1, &case["macro"]["f1-score"], 1e-12);
        close("balanced accuracy", averages.balanced_accuracy, &case["balanced_accuracy"], 1e-12);
    }
}

#[test]
fn intervals_are_wilson_s() {
    for case in golden("wilson") {
        let n = |key: &str| case[key].as_u64().unwrap() as usize;
        let (low, high) = wilson_interval(n("right"), n("n"));
        close("low", low, &case["low"], 1e-12);
        close("high", high, &case["high"], 1e-12);
    }
    assert_eq!(wilson_interval(0, 0), (0.0, 1.0));
}

#[test]
fn the_temperature_is_where_the_cross_entropy_is_lowest() {
    for case in golden("cases") {
        let predictions = predictions(&case);
        close("cross-entropy", predictions.cross_entropy(), &case["cross_entropy"], 1e-7);
        let temperature = predictions.best_temperature().unwrap();
        close("temperature", temperature, &case["temperature"], 1e-4);
        let scaled = predictions.with_temperature(temperature);
        close("its cross-entropy", scaled.cross_entropy(), &case["cross_entropy_at_temperature"], 1e-6);
    }
}

/// Gives its input as the outputs.
struct Identity;

impl ModuleT for Identity {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> candle_core::Result<Tensor> {
        Ok(xs.clone())
    }
}

#[test]
fn outputs_that_are_not_numbers_are_an_error_that_names_the_example() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut values = vec![0.5f32; 10];
        values[6] = bad;
        let values = Tensor::from_vec(values, (5, 2), &Device::Cpu).unwrap();
        let labels = Tensor::new(&[0u32, 1, 0, 1, 0], &Device::Cpu).unwrap();
        let batches = TensorBatches::new(values, labels, 2, Sampling::Sequential).unwrap();
        let errors = [
            evaluate(&Identity, &batches, &CrossEntropy, &[&Accuracy]).unwrap_err(),
            evaluate_and_predict(&Identity, &batches, &CrossEntropy, &[&Accuracy]).unwrap_err(),
            predict(&Identity, &batches).unwrap_err(),
            outputs(&Identity, &batches).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, Error::NonFiniteOutput { example: 3, .. }), "{error}");
        }
    }
}
