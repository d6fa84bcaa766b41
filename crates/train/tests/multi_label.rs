//! Several labels per example against PyTorch and scikit-learn (goldens/multi_label.py).

use candle_core::{Device, Tensor};
use firstsight_train::{
    BatchOutputs, BinaryCrossEntropy, LabelCounts, Loss as _, MeanAveragePrecision, Metric as _,
    MultiLabelPredictions, Outputs, best_f1_threshold, gradient,
};
use serde_json::Value;

fn golden(section: &str) -> Value {
    let text = include_str!("goldens/multi_label.json");
    serde_json::from_str::<Value>(text).unwrap()[section].take()
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(value.clone()).unwrap()
}

fn singles(value: &Value) -> Vec<f32> {
    rows(value).concat().into_iter().map(|v| v as f32).collect()
}

fn close(what: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-12, "{what}: {found} against {expected}");
}

#[test]
fn binary_cross_entropy_of_several_labels_is_that_of_pytorch() {
    let golden = golden("loss");
    let tensor = |name: &str| Tensor::new(rows(&golden[name]), &Device::Cpu).unwrap();
    let labels = tensor("labels");
    let (value, grad) = gradient(|z| BinaryCrossEntropy.compute(z, &labels), &tensor("outputs")).unwrap();
    close("loss", value.to_scalar().unwrap(), golden["value"].as_f64().unwrap());
    let grad = grad.to_vec2::<f64>().unwrap().concat();
    grad.iter()
        .zip(rows(&golden["grad"]).concat())
        .for_each(|(found, expected)| close("gradient", *found, expected));
}

#[test]
fn figures_of_several_labels_are_those_of_scikit_learn() {
    for case in golden("cases").as_array().unwrap() {
        let n_outputs = case["thresholds"].as_array().unwrap().len();
        let outputs =
            Outputs { values: singles(&case["outputs"]), n_outputs, labels: singles(&case["labels"]) };
        let predictions = MultiLabelPredictions::new(&outputs);
        assert_eq!(predictions.len(), rows(&case["outputs"]).len());
        assert!(!predictions.is_empty());
        let thresholds: Vec<f32> = serde_json::from_value(case["thresholds"].clone()).unwrap();
        let optional = |name: &str| serde_json::from_value::<Vec<Option<f64>>>(case[name].clone()).unwrap();
        for (found, expected) in predictions.average_precisions().iter().zip(optional("average_precision")) {
            assert_eq!(found.is_some(), expected.is_some());
            close("average precision", found.unwrap_or(0.0), expected.unwrap_or(0.0));
        }
        let counts = predictions.counts(&thresholds);
        type Figure = fn(&LabelCounts) -> Option<f64>;
        let figures: [(&str, Figure); 3] =
            [("precision", LabelCounts::precision), ("recall", LabelCounts::recall), ("f1", LabelCounts::f1)];
        for (name, figure) in figures {
            for (counts, expected) in counts.iter().zip(optional(name)) {
                // scikit-learn says 0 where there is nothing to say.
                close(name, figure(counts).unwrap_or(0.0), expected.unwrap());
            }
        }
        let number = |name: &str| case[name].as_f64().unwrap();
        close("micro F1", predictions.micro_f1(&thresholds), number("micro_f1"));
        close("macro F1", predictions.macro_f1(&thresholds), number("macro_f1"));
        close("exact match", predictions.exact_match(&thresholds), number("exact_match"));

        let best = predictions.counts(&predictions.best_thresholds());
        for (found, expected) in best.iter().zip(optional("best_f1")) {
            if let Some(expected) = expected {
                close("best F1", found.f1().unwrap(), expected);
            }
        }
    }
}

#[test]
fn mean_average_precision_is_that_of_scikit_learn_in_whatever_batches() {
    assert_eq!(MeanAveragePrecision.name(), "mean_average_precision");
    for case in golden("cases").as_array().unwrap() {
        let (outputs, shares) = (rows(&case["outputs"]), rows(&case["labels"]));
        let single = |rows: &[Vec<f64>]| rows.concat().into_iter().map(|v| v as f32).collect::<Vec<f32>>();
        for batch in [1, 7, outputs.len()] {
            let mut state = MeanAveragePrecision.accumulator();
            for (outputs, shares) in outputs.chunks(batch).zip(shares.chunks(batch)) {
                let (n_outputs, n) = (outputs[0].len(), outputs.len());
                let (outputs, shares) = (single(outputs), single(shares));
                state.add(&BatchOutputs {
                    outputs: &outputs,
                    n_outputs,
                    labels: &vec![0.0; n],
                    shares: &shares,
                });
            }
            close("mAP", state.value(), case["mean_average_precision"].as_f64().unwrap());
        }
    }
}

#[test]
fn a_threshold_lies_between_what_counts_and_what_does_not() {
    let threshold = best_f1_threshold(&[0.9, 0.6, 0.5, 0.1], &[true, true, false, false]);
    assert!((threshold.unwrap() - 0.55).abs() < 1e-6);
    assert_eq!(best_f1_threshold(&[0.8], &[true]), Some(0.4), "all count");
    assert_eq!(best_f1_threshold(&[0.3, 0.2], &[false, false]), None, "a label that does not occur");
    let equally_good = best_f1_threshold(&[0.9, 0.6, 0.5, 0.1], &[true, false, false, true]);
    assert_eq!(equally_good, Some(0.75), "the highest");
    for top in [0.5f32, 0.5f32.next_down()] {
        let next = top.next_down();
        let threshold = best_f1_threshold(&[top, next], &[true, false]).unwrap();
        assert!(top >= threshold && next < threshold, "{threshold} between {top} and {next}");
    }
}
