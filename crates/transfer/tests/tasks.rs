//! Several labels and numbers: last layers, trainings from scratch, and what a run keeps.

use candle_core::{Device, ModuleT as _, Tensor};
use firstsight_data::{AugmentationConfig, ImageDataset, InputSpec, Labels, Mix, Task};
use firstsight_models::SaveDtype;
use firstsight_models::networks::LOGISTIC;
use firstsight_transfer::training::{Optimization, Training};
use firstsight_transfer::{
    DecodedSplits, Error, Evaluation, Features, Head, HeadConfig, LabelsEvaluation, RunFolder, Runtime,
    Target, TaskEvaluation, TrainingRecord, ValueEvaluation,
};

fn noise(n: usize, seed: u32) -> impl Iterator<Item = f32> {
    let mut state = seed;
    (0..n).map(move |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    })
}

fn head_config(penalties: Vec<f64>) -> HeadConfig {
    HeadConfig { penalties, folds: 5, steps: 600, batch_size: 1024, lr: 0.05, balanced: false, seed: 1 }
}

fn features(rows: Vec<f32>, n: usize, labels: Labels, n_classes: usize) -> Features {
    let n_features = rows.len() / n;
    let rows = Tensor::from_vec(rows, (n, n_features), &Device::Cpu).unwrap();
    Features::new(&rows, labels, n_classes).unwrap()
}

/// The solution of (XᵀX/n + λ/2·I) w = Xᵀy/n for two features of mean 0, which minimizes mean (Xw − y)² + λ/2·‖w‖².
fn ridge(x: &[[f64; 2]], y: &[f64], penalty: f64) -> [f64; 2] {
    let n = x.len() as f64;
    let product = |a: usize, b: usize| x.iter().map(|row| row[a] * row[b]).sum::<f64>() / n;
    let right = [0, 1].map(|a| x.iter().zip(y).map(|(row, y)| row[a] * y).sum::<f64>() / n);
    let (a, b, d) = (product(0, 0) + penalty / 2.0, product(0, 1), product(1, 1) + penalty / 2.0);
    let determinant = a * d - b * b;
    [(d * right[0] - b * right[1]) / determinant, (a * right[1] - b * right[0]) / determinant]
}

#[test]
fn a_last_layer_for_numbers_is_ridge_regression() {
    let n = 200;
    let mut rows: Vec<f32> = noise(2 * n, 3).collect();
    // Mean 0 and overall variance 1, so that the layer's own scaling changes nothing.
    for j in 0..2 {
        let mean = rows.iter().skip(j).step_by(2).sum::<f32>() / n as f32;
        rows.iter_mut().skip(j).step_by(2).for_each(|x| *x -= mean);
    }
    let scale = (rows.iter().map(|x| x * x).sum::<f32>() / (2 * n) as f32).sqrt();
    rows.iter_mut().for_each(|x| *x /= scale);
    let x: Vec<[f64; 2]> = rows.chunks(2).map(|row| [f64::from(row[0]), f64::from(row[1])]).collect();
    let y: Vec<f64> =
        x.iter().zip(noise(n, 9)).map(|(x, e)| 0.8 * x[0] - 0.3 * x[1] + f64::from(e)).collect();
    let labels = Labels::Value(y.iter().map(|&y| y as f32).collect());
    let features = features(rows, n, labels, 1);
    for penalty in [0.01, 1.0] {
        let head = Head::train(&features, &head_config(vec![penalty]), &mut |_, _| ()).unwrap();
        let found = head.weight.to_vec2::<f32>().unwrap()[0].clone();
        for (found, expected) in found.iter().zip(ridge(&x, &y, penalty)) {
            assert!((f64::from(*found) - expected).abs() < 0.01, "{found} against {expected} at {penalty}");
        }
    }
    let head = Head::train(&features, &head_config(vec![0.01, 10.0]), &mut |_, _| ()).unwrap();
    assert_eq!(head.penalty, 0.01);
    assert!(head.cross_validation.iter().all(|c| c.accuracy.is_none()), "numbers have no accuracy");
}

#[test]
fn a_last_layer_for_several_labels_learns_each_by_itself() {
    let n = 120;
    let rows: Vec<f32> = noise(3 * n, 5).collect();
    // The third label is there with the first two.
    let has = |row: &[f32]| [row[0] > 0.0, row[1] > 0.1, row[0] > 0.0 && row[1] > 0.1];
    let sets: Vec<Vec<u32>> = rows
        .chunks(3)
        .map(|row| (0..3).zip(has(row)).filter(|(_, has)| *has).map(|(k, _)| k).collect())
        .collect();
    let features = features(rows.clone(), n, Labels::MultiLabel(sets), 3);
    let head = Head::train(&features, &head_config(vec![1e-3]), &mut |_, _| ()).unwrap();
    let all: Vec<usize> = (0..n).collect();
    let (inputs, _) = features.select(&all, 1).unwrap();
    let logits = head.forward_t(&inputs, false).unwrap().to_vec2::<f32>().unwrap();
    let right =
        |k: usize| logits.iter().zip(rows.chunks(3)).filter(|(z, row)| (z[k] > 0.0) == has(row)[k]).count();
    assert!(
        (0..2).all(|k| right(k) >= 114) && right(2) >= 105,
        "{:?} of {n}",
        [right(0), right(1), right(2)]
    );
}

/// Gray pictures of 4x4 pixels. The brightness of the upper and of the lower half are drawn.
fn pictures(n: usize, seed: u32) -> (ImageDataset, Vec<[u8; 2]>) {
    let draws: Vec<u8> = noise(2 * n, seed).map(|v| ((v + 0.5) * 255.0) as u8).collect();
    let halves: Vec<[u8; 2]> = draws.chunks(2).map(|two| [two[0], two[1]]).collect();
    let pixels = halves.iter().flat_map(|[upper, lower]| [[*upper; 8], [*lower; 8]].concat()).collect();
    (ImageDataset::from_pixels(pixels, (4, 4, 1), vec![0; n], vec!["any".into()]).unwrap(), halves)
}

fn splits(labels: impl Fn(&[[u8; 2]]) -> Labels, classes: &[&str]) -> DecodedSplits {
    let part = |n, seed| {
        let (images, halves) = pictures(n, seed);
        images.with_targets(labels(&halves), classes.iter().map(|&name| name.into()).collect()).unwrap()
    };
    DecodedSplits::in_memory(part(200, 1), part(80, 2), Some(part(60, 3)))
}

/// 12.5 euros for each level of the upper half's brightness, and 300 besides.
fn costs() -> DecodedSplits {
    let cost = |[upper, _]: &[u8; 2]| 300.0 + 12.5 * f32::from(*upper);
    splits(move |halves| Labels::Value(halves.iter().map(cost).collect()), &["cost"])
}

fn lights() -> DecodedSplits {
    let set = |[upper, lower]: &[u8; 2]| match (*upper > 120, *lower > 160) {
        (true, true) => vec![0, 1],
        (true, false) => vec![0],
        (false, true) => vec![1],
        (false, false) => vec![],
    };
    splits(move |halves| Labels::MultiLabel(halves.iter().map(set).collect()), &["top", "bottom"])
}

fn plan(epochs: usize, augmentation: AugmentationConfig) -> Training {
    Training {
        model: &LOGISTIC,
        input: InputSpec::bytes(1, 4, 4),
        epochs,
        patience: epochs,
        optimization: Optimization::Adam,
        save_dtype: SaveDtype::Float32,
        record: TrainingRecord {
            seed: 1,
            split_seed: 1,
            batch_size: 16,
            shards: 1,
            learning_rate: 0.03,
            augmentation,
        },
    }
}

fn train<E: TaskEvaluation>(
    splits: &DecodedSplits,
    plan: &Training,
) -> Result<(tempfile::TempDir, RunFolder, firstsight_transfer::training::Trained<E>), Error> {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::create(&folder.path().join("run"), false)?;
    let trained = plan.run_task::<E>(splits, &run, false, &Runtime::new(Device::Cpu))?;
    Ok((folder, run, trained))
}

#[test]
fn costs_are_learned_and_told_in_euros() {
    let (_folder, run, trained) =
        train::<ValueEvaluation>(&costs(), &plan(40, AugmentationConfig::default())).unwrap();
    let figures = trained.test.as_ref().unwrap().all_figures();
    assert!(figures.r2.unwrap() > 0.95, "{figures:?}");
    assert!((figures.root_mean_squared_error.powi(2) / figures.mean_squared_error - 1.0).abs() < 1e-9);
    assert!((50.0..400.0).contains(&figures.mean_absolute_error) || figures.mean_absolute_error < 50.0);
    let Target::Value { mean, std } = trained.target.clone() else { panic!("{:?}", trained.target) };
    assert!((300.0..3500.0).contains(&mean) && std > 300.0, "{mean} and {std} are in euros");
    assert!(trained.val.predictions.iter().all(|cost| (0.0..4000.0).contains(cost)));
    let best = trained.best_epoch().unwrap();
    let losses: Vec<f64> = trained.history.epochs.iter().map(|e| e.val.as_ref().unwrap().loss).collect();
    assert!(losses.iter().all(|loss| losses[best] <= *loss), "the lowest validation loss is kept");

    let (_, config) = run.load(&Device::Cpu).unwrap();
    assert_eq!((config.target, config.label_names), (trained.target, vec!["cost".to_owned()]));
    let text = std::fs::read_to_string(run.config()).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["problem_type"], json["target_mean"].as_f64()), (&"regression".into(), Some(mean)));
    let metrics: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(run.metrics()).unwrap()).unwrap();
    assert_eq!(metrics["test"]["r2"].as_f64(), figures.r2);
}

#[test]
fn several_labels_are_learned_with_thresholds_from_the_validation_images() {
    let splits = lights();
    let (_folder, run, trained) =
        train::<LabelsEvaluation>(&splits, &plan(40, AugmentationConfig::default())).unwrap();
    let figures = trained.test.as_ref().unwrap().all_figures();
    assert!(figures.mean_average_precision > 0.95 && figures.macro_f1 > 0.85, "{figures:?}");
    let names: Vec<&str> = figures.per_label.iter().map(|label| label.label.as_str()).collect();
    assert_eq!(names, ["top", "bottom"]);
    let Target::Labels { thresholds } = trained.target.clone() else { panic!("{:?}", trained.target) };
    assert_eq!(thresholds, trained.val.predictions.best_thresholds());
    let at_half = trained.val.predictions.macro_f1(&[0.5, 0.5]);
    assert!(trained.val.all_figures().macro_f1 >= at_half, "thresholds are at least as good as a half");
    let (network, config) = run.load(&Device::Cpu).unwrap();
    assert_eq!(config.target, trained.target);
    let again = LabelsEvaluation::measure_task(
        &network,
        splits.val.clone(),
        &config.target,
        &config.pretrained_cfg,
        &Runtime::new(Device::Cpu),
    );
    assert_eq!(again.unwrap().predictions, trained.val.predictions);
}

#[test]
fn what_has_no_meaning_for_a_task_is_refused() {
    let smoothed = AugmentationConfig { label_smoothing: 0.1, ..AugmentationConfig::default() };
    let cut = AugmentationConfig { mix: Some(Mix::Cutmix(1.0)), ..AugmentationConfig::default() };
    for (augmentation, word) in [(smoothed, "label_smoothing"), (cut, "mix")] {
        let error = train::<ValueEvaluation>(&costs(), &plan(1, augmentation)).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("regression"), "{error}");
    }
    let both = AugmentationConfig { label_smoothing: 0.1, ..cut };
    assert!(train::<LabelsEvaluation>(&lights(), &plan(1, both)).is_ok(), "labels can be mixed and smoothed");
    let error =
        train::<Evaluation>(&costs(), &plan(1, AugmentationConfig::default())).unwrap_err().to_string();
    assert!(error.contains("single-label") && error.contains("regression"), "{error}");
}

#[test]
fn a_target_scales_numbers_by_the_training_images() {
    let labels = Labels::Value(vec![1.0, 2.0, 6.0]);
    let target = Target::of(&labels, 1);
    let variance: f64 = (4.0 + 1.0 + 9.0) / 3.0;
    assert_eq!(target, Target::Value { mean: 3.0, std: variance.sqrt() });
    assert_eq!(target.task(), Task::Regression);
    assert_eq!(Target::of(&Labels::Value(vec![5.0; 4]), 1), Target::Value { mean: 5.0, std: 1.0 });
    assert_eq!(
        Target::of(&Labels::MultiLabel(vec![vec![0]]), 2),
        Target::Labels { thresholds: vec![0.5; 2] }
    );
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let (_folder, run, _) =
        train::<LabelsEvaluation>(&lights(), &plan(1, AugmentationConfig::default())).unwrap();
    let text = std::fs::read_to_string(run.config()).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut refused = |key: &str, value: serde_json::Value, word: &str| {
        let before = json[key].take();
        json[key] = value;
        std::fs::write(run.config(), json.to_string()).unwrap();
        let error = run.load(&Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        json[key] = before;
    };
    refused("thresholds", serde_json::json!([0.5]), "1 thresholds");
    refused("problem_type", serde_json::json!("regression"), "2 outputs");
}
