//! The loop and its callbacks.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Device, Module as _, ModuleT as _, Tensor, Var};
use firstsight_data::{Batch, Batches, Sampling, TensorBatches};
use firstsight_models::{Init, Mlp, MlpConfig, MlpOutput, Params};
use firstsight_ops::{Activation, PackedWeights};
use firstsight_train::callbacks::{
    Checkpoint, CsvHistory, EarlyStopping, Interrupt, ModelEma, Recorder, RestartFrom, StopOnNan,
};
use firstsight_train::{
    Accuracy, BatchEnd, Callback, CrossEntropy, Epoch, Error, FitConfig, History, Identity, Inference,
    LrCurve, Metric as _, Metrics, Monitor, OptimizerConfig, Predictions, Schedule, StopReason, TopK,
    Trainable, WeightedCrossEntropy, evaluate, fit, lr_find, predict,
};

fn monitor() -> Monitor {
    Monitor::val(Accuracy)
}

/// Three classes on a spiral, a little too hard for the network.
fn spiral(n: usize, sampling: Sampling) -> TensorBatches {
    let (inputs, labels) = spiral_tensors(n);
    TensorBatches::new(inputs, labels, 16, sampling).unwrap()
}

fn spiral_tensors(n: usize) -> (Tensor, Tensor) {
    let mut x = Vec::new();
    let mut y = Vec::new();
    for i in 0..n {
        let (class, t) = (i % 3, i as f32 / n as f32);
        let angle = 5.0 * t + 2.1 * class as f32 + 0.3 * (i as f32 * 1.7).sin();
        x.extend([t * angle.cos(), t * angle.sin()]);
        y.push(class as u32);
    }
    let inputs = Tensor::from_vec(x, (n, 2), &Device::Cpu).unwrap();
    (inputs, Tensor::new(y, &Device::Cpu).unwrap())
}

fn mlp(seed: u64) -> (Mlp, Params) {
    let params = Params::seeded(seed, &Device::Cpu);
    let config = MlpConfig {
        n_in: 2,
        hidden: vec![24],
        activation: Activation::Tanh,
        n_out: 3,
        output: MlpOutput::Linear,
        init: Init::Keras,
    };
    (Mlp::new(&config, &params.builder()).unwrap(), params)
}

fn config(epochs: usize) -> FitConfig {
    FitConfig::new(epochs, CrossEntropy, OptimizerConfig::adam_keras(0.01)).metric(Accuracy).metric(TopK(2))
}

fn checkpoint(folder: &Path) -> Checkpoint {
    Checkpoint::new(folder, monitor(), "mlp on spirals").resume(true)
}

/// Trains into `folder`, resuming from its checkpoint if there is one.
fn train(folder: &Path, epochs: usize, seed: u64, extra: &mut dyn Callback) -> (History, Params) {
    let (mlp, params) = mlp(seed);
    let mut checkpoint = checkpoint(folder);
    let mut stopping = EarlyStopping::new(monitor(), 100);
    let mut csv = CsvHistory::new(&folder.join("history.csv"));
    let (train, val) = (spiral(120, Sampling::Shuffled { seed: 4 }), spiral(90, Sampling::Sequential));
    let mut callbacks: [&mut dyn Callback; 4] = [extra, &mut stopping, &mut csv, &mut checkpoint];
    let model = Trainable::new(&mlp, params.named());
    let history = fit(&model, &train, Some(&val), &config(epochs), &mut callbacks).unwrap();
    (history, params)
}

fn bytes(params: &Params) -> Vec<Vec<u32>> {
    let bits = |var: &Var| {
        var.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect()
    };
    params.named().iter().map(|(_, var)| bits(var)).collect()
}

struct Nothing;
impl Callback for Nothing {}

/// Presses Ctrl-C in the middle of an epoch.
struct PressAt {
    epoch: usize,
    batch: usize,
    flag: Arc<AtomicBool>,
}

impl Callback for PressAt {
    fn on_batch_end(&mut self, end: &BatchEnd<'_>) -> firstsight_train::Result<ControlFlow<StopReason>> {
        if (end.epoch, end.batch) == (self.epoch, self.batch) {
            self.flag.store(true, Ordering::Relaxed);
        }
        Interrupt(self.flag.clone()).on_batch_end(end)
    }
}

#[test]
fn it_learns() {
    let folder = tempfile::tempdir().unwrap();
    let (history, _) = train(folder.path(), 40, 1, &mut Nothing);
    assert_eq!((history.epochs.len(), history.stopped.clone()), (40, None));
    let (first, last) = (&history.epochs[0], &history.epochs[39]);
    assert!(last.train.loss < 0.9 * first.train.loss, "{} after {}", last.train.loss, first.train.loss);
    let (first, train, last) = (first.val.as_ref().unwrap(), &last.train, last.val.as_ref().unwrap());
    assert!(last.get(&Accuracy) > first.get(&Accuracy));
    assert_eq!((train.n, last.n), (120, 90));
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let run = |seed| {
        let folder = tempfile::tempdir().unwrap();
        let (history, params) = train(folder.path(), 3, seed, &mut Nothing);
        (history, bytes(&params))
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).1, run(8).1);
}

#[test]
fn an_interrupted_and_resumed_training_equals_one_that_ran_through() {
    let through = tempfile::tempdir().unwrap();
    let (expected, expected_params) = train(through.path(), 9, 1, &mut Nothing);

    let folder = tempfile::tempdir().unwrap();
    let flag = Arc::new(AtomicBool::new(false));
    let (history, _) = train(folder.path(), 9, 1, &mut PressAt { epoch: 4, batch: 3, flag });
    assert_eq!((history.epochs.len(), history.interrupted()), (4, true));
    // The resumed network starts from other weights: all that counts is in the checkpoint.
    let (history, params) = train(folder.path(), 9, 99, &mut Nothing);

    assert_eq!(history, expected);
    assert_eq!(bytes(&params), bytes(&expected_params));
    for file in ["history.csv", "last.safetensors", "best.safetensors"] {
        let read = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
        assert!(read(folder.path()) == read(through.path()), "{file} differs");
    }
}

#[test]
fn the_history_file_reads_back_to_the_same_values() {
    let folder = tempfile::tempdir().unwrap();
    let (history, _) = train(folder.path(), 2, 1, &mut Nothing);
    let text = std::fs::read_to_string(folder.path().join("history.csv")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "epoch,loss,accuracy,top2_accuracy,val_loss,val_accuracy,val_top2_accuracy");
    let last: Vec<f64> = lines[2].split(',').map(|v| v.parse().unwrap()).collect();
    let epoch = &history.epochs[1];
    let val = epoch.val.as_ref().unwrap();
    assert_eq!((last[0], last[1], last[4]), (2.0, epoch.train.loss, val.loss));
    assert_eq!(last[5], val.get(&Accuracy).unwrap());
}

fn epoch(val_accuracy: f64) -> Epoch {
    let metrics = Metrics { loss: 1.0, values: vec![(Accuracy.name(), val_accuracy)], n: 1 };
    Epoch { train: metrics.clone(), val: Some(metrics) }
}

#[test]
fn only_a_strictly_better_epoch_is_best() {
    let best = |values: &[f64]| monitor().best(&values.iter().map(|&v| epoch(v)).collect::<Vec<_>>());
    assert_eq!(best(&[]), None);
    assert_eq!(best(&[0.5, 0.7, 0.7, 0.6]), Some(1));
    assert_eq!(best(&[f64::NAN, 0.1, f64::NAN]), Some(1));
}

#[test]
fn early_stopping_ends_patience_epochs_after_the_best_and_restores_it() {
    let (mlp, params) = mlp(1);
    let (train, val) = (spiral(60, Sampling::Shuffled { seed: 1 }), spiral(30, Sampling::Sequential));
    let mut stopping = EarlyStopping::new(monitor(), 4);
    let model = Trainable::new(&mlp, params.named());
    let history = fit(&model, &train, Some(&val), &config(500), &mut [&mut stopping]).unwrap();
    let best = monitor().best(&history.epochs).unwrap();
    let reason = "no better val_accuracy in 4 epochs";
    assert_eq!(history.stopped, Some(StopReason::Callback(reason.to_owned())));
    assert_eq!(history.stopped.as_ref().unwrap().to_string(), reason);
    assert_eq!(history.epochs.len(), best + 1 + 4);
    let metrics = evaluate(&mlp, &val, &CrossEntropy, &[&Accuracy, &TopK(2)]).unwrap();
    assert_eq!(Some(metrics), history.epochs[best].val);
}

#[test]
fn without_patience_the_first_epoch_that_is_no_better_ends_the_training() {
    let run = |patience| {
        let (mlp, params) = mlp(1);
        let (train, val) = (spiral(60, Sampling::Shuffled { seed: 1 }), spiral(30, Sampling::Sequential));
        let mut stopping = EarlyStopping::new(monitor(), patience);
        let model = Trainable::new(&mlp, params.named());
        fit(&model, &train, Some(&val), &config(500), &mut [&mut stopping]).unwrap().epochs
    };
    assert_eq!(run(0), run(1));
    assert!(run(0).len() > 1);
}

/// Undefined for all examples.
#[derive(Debug)]
struct Undefined;

impl firstsight_train::Metric for Undefined {
    fn name(&self) -> String {
        "undefined".to_owned()
    }
    fn accumulator(&self) -> Box<dyn firstsight_train::Accumulator> {
        Box::new(Self)
    }
}

impl firstsight_train::Accumulator for Undefined {
    fn add(&mut self, _: &firstsight_train::BatchOutputs<'_>) {}
    fn value(&self) -> f64 {
        f64::NAN
    }
}

#[test]
fn a_training_with_a_metric_that_is_undefined_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let run = |epochs| {
        let (mlp, params) = mlp(1);
        let mut checkpoint = checkpoint(folder.path());
        let (train, val) = (spiral(60, Sampling::Shuffled { seed: 1 }), spiral(30, Sampling::Sequential));
        let model = Trainable::new(&mlp, params.named());
        let config = config(epochs).metric(Undefined);
        fit(&model, &train, Some(&val), &config, &mut [&mut checkpoint]).unwrap().epochs
    };
    let begun = run(2);
    let resumed = run(3);
    assert_eq!(format!("{begun:?}"), format!("{:?}", &resumed[..2]), "NaN is not equal to itself");
    assert!(resumed.iter().all(|epoch| epoch.train.get(&Undefined).unwrap().is_nan()));
    assert_eq!(Checkpoint::stored(folder.path()).unwrap().unwrap().epochs.len(), 3);
}

#[test]
fn a_training_that_had_stopped_early_does_not_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = |epochs| {
        let (mlp, params) = mlp(1);
        let (mut checkpoint, mut stopping) = (checkpoint(folder.path()), EarlyStopping::new(monitor(), 2));
        let (train, val) = (spiral(60, Sampling::Shuffled { seed: 1 }), spiral(30, Sampling::Sequential));
        let model = Trainable::new(&mlp, params.named());
        let callbacks: &mut [&mut dyn Callback] = &mut [&mut stopping, &mut checkpoint];
        let history = fit(&model, &train, Some(&val), &config(epochs), callbacks).unwrap();
        (history, bytes(&params))
    };
    let first = run(500);
    assert!(matches!(first.0.stopped, Some(StopReason::Callback(_))));
    assert_eq!(run(500), first);
}

#[test]
fn a_loss_that_is_not_finite_names_its_batch() {
    let (mlp, params) = mlp(1);
    let mut x = vec![0.5f32; 80];
    x[2 * 20] = f32::NAN;
    let inputs = Tensor::from_vec(x, (40, 2), &Device::Cpu).unwrap();
    let labels = Tensor::zeros(40, DType::U32, &Device::Cpu).unwrap();
    let batches = TensorBatches::new(inputs, labels, 16, Sampling::Sequential).unwrap();
    let model = Trainable::new(&mlp, params.named());
    let error = fit(&model, &batches, None, &config(3), &mut [&mut StopOnNan]).unwrap_err();
    assert!(matches!(error, Error::NonFinite { epoch: 0, batch: 1, .. }), "{error}");
}

/// A network on a device whose memory is full.
struct Refused;

impl candle_core::ModuleT for Refused {
    fn forward_t(&self, _xs: &Tensor, _train: bool) -> candle_core::Result<Tensor> {
        let error = r#"DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")"#;
        Err(candle_core::Error::Cuda(error.into()))
    }
}

#[test]
fn a_batch_that_does_not_fit_the_memory_is_named() {
    let (_, params) = mlp(1);
    let model = Trainable::new(&Refused, params.named());
    let batches = spiral(90, Sampling::Sequential);
    let errors = [
        fit(&model, &batches, None, &config(1), &mut []).unwrap_err(),
        evaluate(&Refused, &batches, &CrossEntropy, &[]).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(&error, Error::OutOfMemory { shape, .. } if *shape == [16, 2]), "{error}");
        assert!(error.to_string().contains("a batch of shape [16, 2] (0.0 MB)"), "{error}");
    }
}

#[test]
fn a_validation_loss_that_is_not_finite_names_its_epoch() {
    let run = |value: f32| {
        let (mlp, params) = mlp(1);
        let inputs = Tensor::full(value, (16, 2), &Device::Cpu).unwrap();
        let labels = Tensor::zeros(16, DType::U32, &Device::Cpu).unwrap();
        let val = TensorBatches::new(inputs, labels, 16, Sampling::Sequential).unwrap();
        let (train, model) = (spiral(30, Sampling::Sequential), Trainable::new(&mlp, params.named()));
        fit(&model, &train, Some(&val), &config(2), &mut [&mut StopOnNan])
    };
    assert_eq!(run(0.5).unwrap().epochs.len(), 2);
    let error = run(f32::NAN).unwrap_err();
    assert!(matches!(error, Error::NonFiniteValidation { epoch: 0, .. }), "{error}");
}

#[test]
fn a_checkpoint_of_another_training_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), 1, 1, &mut Nothing);
    let (_, params) = mlp(2);
    let before = bytes(&params);
    let other = Checkpoint::new(folder.path(), monitor(), "something else");
    let error = other.load(&params.named()).unwrap_err().to_string();
    assert!(error.contains("last.safetensors") && error.contains("mlp on spirals"), "{error}");
    let named: Vec<_> = params.named().into_iter().map(|(name, var)| (format!("x.{name}"), var)).collect();
    let error = checkpoint(folder.path()).load(&named).unwrap_err().to_string();
    assert!(error.contains("x.layers.0.bias is missing"), "{error}");
    assert_eq!(bytes(&params), before);
}

#[test]
fn a_damaged_checkpoint_is_an_error_and_none_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let (_, params) = mlp(2);
    assert!(checkpoint(folder.path()).load(&params.named()).unwrap().is_none());
    train(folder.path(), 1, 1, &mut Nothing);
    let path = folder.path().join("last.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for cut in [0, 4, 100, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let error = checkpoint(folder.path()).load(&params.named()).unwrap_err().to_string();
        assert!(error.contains("last.safetensors"), "{error}");
    }
}

#[test]
fn what_a_checkpoint_says_of_its_training_is_read_from_its_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    assert!(Checkpoint::stored(folder.path()).unwrap().is_none());
    std::fs::write(&path, [7; 4]).unwrap();
    let error = Checkpoint::stored(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Checkpoint { .. }) && error.to_string().contains("ends in its header"));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    for error in [
        Checkpoint::stored(folder.path()).map(drop).unwrap_err(),
        checkpoint(folder.path()).load(&mlp(1).1.named()).map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Io { .. }), "not a damaged file, but none: {error}");
    }
}

#[test]
fn the_time_of_a_training_is_that_of_its_file_and_otherwise_0() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Checkpoint::seconds(folder.path()), 0.0);
    let seconds = |text: &str| {
        std::fs::write(folder.path().join("seconds.json"), text).unwrap();
        Checkpoint::seconds(folder.path())
    };
    assert_eq!(seconds("{\"seconds\":12.5}"), 12.5);
    for unknown in ["{\"seconds\":-1.0}", "{\"seconds\":\"12\"}", "{}", "12.5 s"] {
        assert_eq!(seconds(unknown), 0.0, "{unknown}");
    }
}

#[test]
fn a_resumed_training_adds_to_the_time_it_took_before() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), 1, 1, &mut Nothing);
    std::fs::write(folder.path().join("seconds.json"), "{\"seconds\":1000.0}").unwrap();
    train(folder.path(), 2, 1, &mut Nothing);
    assert!((1000.0..2000.0).contains(&Checkpoint::seconds(folder.path())));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (mlp, params) = mlp(1);
    let mut checkpoint = checkpoint(&folder.path().join("gone"));
    let batches = spiral(30, Sampling::Sequential);
    let model = Trainable::new(&mlp, params.named());
    let error = fit(&model, &batches, Some(&batches), &config(1), &mut [&mut checkpoint]).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("gone"), "{error}");
}

#[test]
fn a_trained_variable_without_a_name_is_refused() {
    let (mlp, params) = mlp(1);
    let batches = spiral(30, Sampling::Sequential);
    let mut named = params.named();
    named.pop();
    let model = Trainable::new(&mlp, named).groups(params.trainable());
    let error = fit(&model, &batches, None, &config(1), &mut []).unwrap_err();
    assert!(matches!(error, Error::UnnamedVariable { .. }), "{error}");
}

#[test]
fn predictions_are_probabilities_in_order() {
    let (mlp, _) = mlp(1);
    let batches = spiral(30, Sampling::Sequential);
    let predictions = predict(&mlp, &batches).unwrap();
    assert_eq!((predictions.len(), predictions.n_classes), (30, 3));
    assert!((0..30).all(|i| (predictions.row(i).iter().sum::<f32>() - 1.0).abs() < 1e-5));
    let metrics = evaluate(&mlp, &batches, &CrossEntropy, &[&Accuracy]).unwrap();
    let confusion = predictions.confusion();
    let right = confusion[0] + confusion[4] + confusion[8];
    assert_eq!(confusion.iter().sum::<usize>(), 30);
    assert_eq!(metrics.get(&Accuracy), Some(right as f64 / 30.0));
}

#[test]
fn figures_do_not_depend_on_the_size_of_batches() {
    let (mlp, _) = mlp(1);
    let (inputs, labels) = spiral_tensors(90);
    let figures = |size: usize| {
        let batches = TensorBatches::new(inputs.clone(), labels.clone(), size, Sampling::Sequential).unwrap();
        evaluate(&mlp, &batches, &CrossEntropy, &[&Accuracy]).unwrap()
    };
    let (small, whole) = (figures(16), figures(90));
    assert_eq!((small.n, small.get(&Accuracy)), (whole.n, whole.get(&Accuracy)));
    assert!((small.loss - whole.loss).abs() < 1e-6, "{} against {}", small.loss, whole.loss);
}

struct NoBatches;

impl Batches for NoBatches {
    fn epoch(&self, _epoch: usize) -> Box<dyn Iterator<Item = firstsight_data::Result<Batch>> + '_> {
        Box::new(std::iter::empty())
    }

    fn n_batches(&self) -> usize {
        0
    }

    fn n_examples(&self) -> usize {
        0
    }
}

#[test]
fn nothing_to_predict_is_an_error() {
    let (mlp, _) = mlp(1);
    let errors =
        [predict(&mlp, &NoBatches).unwrap_err(), evaluate(&mlp, &NoBatches, &CrossEntropy, &[]).unwrap_err()];
    assert!(errors.iter().all(|error| matches!(error, Error::Empty("evaluation"))), "{errors:?}");
}

#[test]
fn the_most_probable_classes_come_first() {
    let predictions = Predictions { probabilities: vec![0.1, 0.6, 0.3], labels: vec![0], n_classes: 3 };
    assert_eq!(predictions.ranked(0, 2), [(1, 0.6), (2, 0.3)]);
    assert_eq!(predictions.ranked(0, 9).len(), 3);
}

#[test]
fn outputs_do_not_depend_on_the_pool() {
    let (mlp, _) = mlp(1);
    let packed = PackedWeights::default();
    for n in [1, 8, 20] {
        let (inputs, _) = spiral_tensors(n);
        let alone = mlp.forward_t(&inputs, false).unwrap().to_vec2::<f32>().unwrap();
        let pooled = Inference::in_pool(&mlp, &packed).forward(&inputs).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(pooled.len(), n);
        for (a, b) in alone.iter().flatten().zip(pooled.iter().flatten()) {
            assert!((a - b).abs() < 1e-6, "{a} against {b}");
        }
    }
}

#[test]
fn lr_find_suggests_a_learning_rate_and_changes_nothing() {
    let (mlp, params) = mlp(3);
    let before = bytes(&params);
    let train = spiral(120, Sampling::Shuffled { seed: 4 });
    let model = Trainable::new(&mlp, params.named());
    // The configured learning rate is 0.01: the test runs from 1e-5 to 10.
    let curve = lr_find(&model, &train, &config(1), (1e-3, 1e3), 60).unwrap();
    assert_eq!(bytes(&params), before);
    assert!(curve.points.windows(2).all(|w| w[0].0 < w[1].0));
    let lr = curve.suggestion().unwrap();
    assert!((1e-4..0.5).contains(&lr), "{lr}");
    let config = FitConfig::new(40, CrossEntropy, OptimizerConfig::adam_keras(lr))
        .schedule(Schedule::WarmupCosine { warmup: 0.1, floor: 0.0 })
        .clip_norm(1.0);
    let history = fit(&model, &train, None, &config, &mut []).unwrap();
    let (first, last) = (&history.epochs[0].train, &history.epochs[39].train);
    assert!(last.loss < 0.85 * first.loss, "{} after {}", last.loss, first.loss);
}

/// The loss of each step.
struct Losses(Vec<f64>);

impl Callback for Losses {
    fn on_batch_end(&mut self, end: &BatchEnd<'_>) -> firstsight_train::Result<ControlFlow<StopReason>> {
        self.0.push(end.loss);
        Ok(ControlFlow::Continue(()))
    }
}

#[test]
fn the_range_test_is_a_training_at_its_learning_rates() {
    // One batch, so that an epoch of the training is a step of the test.
    let (inputs, labels) = spiral_tensors(60);
    let batches = TensorBatches::new(inputs, labels, 60, Sampling::Sequential).unwrap();
    let sgd = |epochs| FitConfig::new(epochs, CrossEntropy, OptimizerConfig::sgd(0.01, 0.0));
    let (mlp, params) = mlp(3);
    let model = Trainable::new(&mlp, params.named());
    // Whatever the number of epochs and of accumulated batches is.
    let curve = lr_find(&model, &batches, &sgd(7).accumulation_steps(3), (1e-1, 1e2), 20).unwrap();
    let mut losses = Losses(Vec::new());
    let config = sgd(20).schedule(Schedule::Exponential { from: 1e-1, to: 1e2 });
    fit(&model, &batches, None, &config, &mut [&mut losses]).unwrap();
    assert_eq!(curve.points.len(), 20);
    let mut average = 0.0;
    for (i, ((lr, found), loss)) in curve.points.iter().zip(losses.0).enumerate() {
        let expected = 1e-3 * 1e3f64.powf(i as f64 / 19.0);
        assert!((lr / expected - 1.0).abs() < 1e-12, "{lr} against {expected}");
        average = 0.9 * average + 0.1 * loss;
        let expected = average / (1.0 - 0.9f64.powi(i as i32 + 1));
        assert!((found - expected).abs() < 1e-9, "{found} against {expected}");
    }
}

#[test]
fn the_range_test_ends_when_the_loss_explodes() {
    let (inputs, labels) = spiral_tensors(60);
    let batches = TensorBatches::new(inputs, labels, 60, Sampling::Sequential).unwrap();
    let (mlp, params) = mlp(3);
    let config = FitConfig::new(1, CrossEntropy, OptimizerConfig::sgd(1.0, 0.0));
    let model = Trainable::new(&mlp, params.named());
    let points = lr_find(&model, &batches, &config, (1e-2, 1e6), 60).unwrap().points;
    assert!(points.len() < 60, "{points:?}");
    let (last, before) = points.split_last().unwrap();
    let lowest = |points: &[(f64, f64)]| points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    assert!(last.1 > 4.0 * lowest(&points), "{points:?}");
    assert!(before.iter().all(|point| point.1 <= 4.0 * lowest(before)), "{points:?}");
}

#[test]
fn a_loss_that_only_rises_suggests_no_learning_rate() {
    let curve = |losses: [f64; 3]| LrCurve { points: [1e-3, 1e-2, 1e-1].into_iter().zip(losses).collect() };
    assert_eq!(curve([1.0, 1.5, 2.0]).suggestion(), None);
    assert_eq!(curve([1.0, 0.5, 2.0]).suggestion(), Some(1e-3));
}

#[test]
fn without_validation_data_training_figures_can_be_watched() {
    let folder = tempfile::tempdir().unwrap();
    let (mlp, params) = mlp(1);
    let train = spiral(60, Sampling::Shuffled { seed: 1 });
    let monitor = Monitor::train_loss();
    let mut stopping = EarlyStopping::new(monitor.clone(), 2);
    let mut csv = CsvHistory::new(&folder.path().join("history.csv"));
    let callbacks: &mut [&mut dyn Callback] = &mut [&mut stopping, &mut csv];
    let model = Trainable::new(&mlp, params.named());
    let history = fit(&model, &train, None, &config(3), callbacks).unwrap();
    assert!(history.epochs.iter().all(|epoch| epoch.val.is_none()));
    assert_eq!((monitor.best(&history.epochs), monitor.name()), (Some(2), "loss".to_owned()));
    let text = std::fs::read_to_string(folder.path().join("history.csv")).unwrap();
    assert!(text.starts_with("epoch,loss,accuracy,top2_accuracy\n"), "{text}");
}

#[test]
fn a_checkpoint_of_version_1_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let (expected, _) = train(folder.path(), 2, 1, &mut Nothing);
    let path = folder.path().join("last.safetensors");
    let file = std::fs::read(&path).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&file).unwrap();
    let header = metadata.metadata().as_ref().unwrap()["firstsight"].clone();
    let (_, unchecked) = header.split_once(',').unwrap();
    let old = format!("{{{unchecked}")
        .replace("\"version\":4", "\"version\":1")
        .replace("[[\"training\",\"mlp on spirals\"]]", "\"mlp on spirals\"")
        .replace("\"accuracy\"", "\"Accuracy\"")
        .replace("\"top2_accuracy\"", "{\"TopK\":2}");
    assert!(old.contains("\"version\":1") && !old.contains("checksum"));
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let metadata = std::collections::HashMap::from([("firstsight".to_owned(), old)]);
    std::fs::write(&path, safetensors::serialize(tensors.tensors(), Some(metadata)).unwrap()).unwrap();
    let (history, _) = train(folder.path(), 2, 99, &mut Nothing);
    assert_eq!(history.epochs, expected.epochs);
}

/// A training under a cosine into `folder`, as its checkpoint says, with the learning rate of each step.
fn restartable(
    folder: &Path,
    mut checkpoint: Checkpoint,
    epochs: usize,
    extra: &mut dyn Callback,
) -> (History, Params) {
    let (mlp, params) = mlp(99);
    let mut stopping = EarlyStopping::new(monitor(), 100);
    let mut csv = CsvHistory::new(&folder.join("history.csv"));
    let (train, val) = (spiral(120, Sampling::Shuffled { seed: 4 }), spiral(90, Sampling::Sequential));
    let config = config(epochs).schedule(Schedule::WarmupCosine { warmup: 0.2, floor: 0.0 });
    let callbacks: &mut [&mut dyn Callback] = &mut [extra, &mut stopping, &mut csv, &mut checkpoint];
    let history = fit(&Trainable::new(&mlp, params.named()), &train, Some(&val), &config, callbacks).unwrap();
    (history, params)
}

#[test]
fn a_restart_goes_on_from_the_best_epoch_with_a_new_schedule_and_is_resumed_exactly() {
    let start = |folder: &Path| {
        let first = Checkpoint::new(folder, monitor(), "three epochs");
        restartable(folder, first, 3, &mut Nothing).0
    };
    let again = |folder: &Path| Checkpoint::new(folder, monitor(), "seven epochs");
    let through = tempfile::tempdir().unwrap();
    let before = start(through.path());
    let best = std::fs::read(through.path().join("best.safetensors")).unwrap();
    let (expected, params) =
        restartable(through.path(), again(through.path()).restart(RestartFrom::Best), 7, &mut Nothing);
    assert_eq!((expected.epochs.len(), &expected.epochs[..3]), (7, &before.epochs[..]));
    assert_eq!(std::fs::read_to_string(through.path().join("history.csv")).unwrap().lines().count(), 8);
    let stored = Checkpoint::stored(through.path()).unwrap().unwrap();
    assert_eq!((stored.identity, &stored.epochs), ("seven epochs".into(), &expected.epochs));

    // What was trained on are the best variables: with no epoch left they are what remains.
    let unchanged = tempfile::tempdir().unwrap();
    start(unchanged.path());
    let (_, kept) =
        restartable(unchanged.path(), again(unchanged.path()).restart(RestartFrom::Best), 3, &mut Nothing);
    let tensors = candle_core::safetensors::load_buffer(&best, &Device::Cpu).unwrap();
    for (name, var) in kept.named() {
        let bits = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(bits(&tensors[&name]), bits(&var), "{name}");
    }

    let folder = tempfile::tempdir().unwrap();
    start(folder.path());
    let flag = Arc::new(AtomicBool::new(false));
    let mut press = PressAt { epoch: 5, batch: 2, flag };
    let (history, _) =
        restartable(folder.path(), again(folder.path()).restart(RestartFrom::Best), 7, &mut press);
    assert!(history.interrupted());
    let (history, resumed) = restartable(folder.path(), again(folder.path()).resume(true), 7, &mut Nothing);
    assert_eq!(history, expected);
    assert_eq!(bytes(&resumed), bytes(&params));
}

#[test]
fn patience_counts_from_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let run = |checkpoint: Checkpoint| {
        let (mlp, params) = mlp(1);
        let (mut checkpoint, mut stopping) = (checkpoint, EarlyStopping::new(monitor(), 2));
        let (train, val) = (spiral(60, Sampling::Shuffled { seed: 1 }), spiral(30, Sampling::Sequential));
        let callbacks: &mut [&mut dyn Callback] = &mut [&mut stopping, &mut checkpoint];
        fit(&Trainable::new(&mlp, params.named()), &train, Some(&val), &config(500), callbacks).unwrap()
    };
    let first = run(checkpoint(folder.path())).epochs.len();
    assert_eq!(run(checkpoint(folder.path())).epochs.len(), first);
    let second = run(checkpoint(folder.path()).restart(RestartFrom::Best)).epochs.len();
    assert!(second >= first + 2, "{first} epochs, then {second}");
}

/// A NaN in the middle of an epoch, and a disk that is full at the end of one.
#[test]
fn a_training_that_fails_can_keep_its_best_epoch() {
    struct FailsAfter(usize);
    impl Callback for FailsAfter {
        fn on_epoch_end(
            &mut self,
            end: &firstsight_train::EpochEnd<'_>,
        ) -> firstsight_train::Result<ControlFlow<StopReason>> {
            match end.history.len() == self.0 {
                true => {
                    Err(Error::Io { path: "disk".into(), source: std::io::ErrorKind::StorageFull.into() })
                }
                false => Ok(ControlFlow::Continue(())),
            }
        }
    }
    let (mlp, params) = mlp(1);
    let (train, val) = (spiral(60, Sampling::Shuffled { seed: 1 }), spiral(30, Sampling::Sequential));
    let mut recorder = Recorder::default();
    let mut stopping = EarlyStopping::new(monitor(), 100);
    let callbacks: &mut [&mut dyn Callback] = &mut [&mut recorder, &mut stopping, &mut FailsAfter(6)];
    let model = Trainable::new(&mlp, params.named());
    let error = fit(&model, &train, Some(&val), &config(50), callbacks).unwrap_err();
    assert!(error.to_string().contains("disk"), "{error}");
    assert_eq!(recorder.epochs.len(), 6);
    stopping.restore(&params.named()).unwrap();
    let best = monitor().best(&recorder.epochs).unwrap();
    let metrics = evaluate(&mlp, &val, &CrossEntropy, &[&Accuracy, &TopK(2)]).unwrap();
    assert_eq!(Some(metrics), recorder.epochs[best].val);
}

#[test]
fn a_refusal_names_the_settings_that_differ() {
    let folder = tempfile::tempdir().unwrap();
    let identity = |batch: usize| Identity::new().with("network", "mlp").with("batch size", batch);
    let first = Checkpoint::new(folder.path(), monitor(), identity(16));
    restartable(folder.path(), first, 1, &mut Nothing);
    let (_, params) = mlp(1);
    let other = Checkpoint::new(folder.path(), monitor(), identity(32));
    let error = other.load(&params.named()).unwrap_err().to_string();
    assert!(error.ends_with(": batch size: 16 there, 32 asked for"), "{error}");
}

#[test]
fn accumulated_batches_make_the_step_of_one_large_batch() {
    let train = |batch_size: usize, accumulation_steps: usize, clip: Option<f64>| {
        let (mlp, params) = mlp(1);
        let (inputs, labels) = spiral_tensors(120);
        let batches = TensorBatches::new(inputs, labels, batch_size, Sampling::Shuffled { seed: 4 }).unwrap();
        let config = FitConfig::new(3, CrossEntropy, OptimizerConfig::sgd(0.1, 0.9))
            .schedule(Schedule::WarmupCosine { warmup: 0.2, floor: 0.0 })
            .clip_norm(clip)
            .accumulation_steps(accumulation_steps);
        let mut steps = StepsTaken::default();
        fit(&Trainable::new(&mlp, params.named()), &batches, None, &config, &mut [&mut steps]).unwrap();
        let values =
            params.vars(|_| true).into_iter().map(|var| var.flatten_all().unwrap().to_vec1().unwrap());
        (values.collect::<Vec<Vec<f32>>>().concat(), steps.0)
    };
    // 120 examples: batches of 50, 50 and 20, or of 10, five at a time.
    for clip in [None, Some(0.2)] {
        let ((large, large_steps), (small, small_steps)) = (train(50, 1, clip), train(10, 5, clip));
        assert_eq!(large_steps, (1..=9).collect::<Vec<_>>());
        assert_eq!(small_steps, large_steps);
        for (a, b) in large.iter().zip(&small) {
            assert!((a - b).abs() < 2e-6, "{a} against {b}");
        }
    }
}

#[test]
fn batches_count_by_the_weights_of_their_classes() {
    let loss = || WeightedCrossEntropy::new(vec![1.0, 10.0, 0.0]);
    let (inputs, labels) = spiral_tensors(60);
    // By class, so that batches of 20 are unlike, and one weighs nothing.
    let by_class: Vec<u32> = (0..3).flat_map(|class| (0..20).map(move |i| 3 * i + class)).collect();
    let by_class = Tensor::new(by_class, &Device::Cpu).unwrap();
    let [inputs, labels] = [inputs, labels].map(|t| t.index_select(&by_class, 0).unwrap());
    let train = |batch_size: usize, accumulation_steps: usize| {
        let (mlp, params) = mlp(1);
        let batches =
            TensorBatches::new(inputs.clone(), labels.clone(), batch_size, Sampling::Sequential).unwrap();
        let config =
            FitConfig::new(4, loss(), OptimizerConfig::sgd(0.1, 0.9)).accumulation_steps(accumulation_steps);
        let model = Trainable::new(&mlp, params.named());
        let history = fit(&model, &batches, Some(&batches), &config, &mut [&mut StopOnNan]).unwrap();
        let losses =
            history.epochs.iter().flat_map(|epoch| [epoch.train.loss, epoch.val.as_ref().unwrap().loss]);
        let values = params
            .vars(|_| true)
            .into_iter()
            .flat_map(|var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from));
        losses.chain(values).collect::<Vec<f64>>()
    };
    let (whole, parts) = (train(60, 1), train(20, 3));
    for (a, b) in whole.iter().zip(&parts) {
        assert!((a - b).abs() < 1e-5, "{a} against {b}");
    }
    // A step whose batches weigh nothing is one along gradients of 0.
    assert!(train(20, 1).iter().chain(&train(10, 2)).all(|value| value.is_finite()));
}

#[derive(Default)]
struct StepsTaken(Vec<u64>);

impl Callback for StepsTaken {
    fn on_batch_end(&mut self, end: &BatchEnd<'_>) -> firstsight_train::Result<ControlFlow<StopReason>> {
        self.0.extend(end.step);
        Ok(ControlFlow::Continue(()))
    }
}

/// Trains with averaged weights, resuming from the checkpoint in `folder` if there is one.
fn train_averaged(folder: &Path, extra: &mut dyn Callback, seed: u64) -> (History, Params) {
    let (mlp, params) = mlp(seed);
    let mut ema = ModelEma::new(0.9).warmup(1.0, 0.75);
    let (mut stopping, mut checkpoint) = (EarlyStopping::new(monitor(), 100), checkpoint(folder));
    let (train, val) = (spiral(120, Sampling::Shuffled { seed: 4 }), spiral(90, Sampling::Sequential));
    let callbacks: &mut [&mut dyn Callback] = &mut [extra, &mut ema, &mut stopping, &mut checkpoint];
    let model = Trainable::new(&mlp, params.named());
    (fit(&model, &train, Some(&val), &config(6), callbacks).unwrap(), params)
}

#[test]
fn averaged_weights_are_evaluated_kept_and_resumed_exactly() {
    let through = tempfile::tempdir().unwrap();
    let (expected, expected_params) = train_averaged(through.path(), &mut Nothing, 1);
    let (mlp, params) = mlp(5);
    for ((_, to), (_, from)) in params.named().iter().zip(expected_params.named()) {
        to.set(&from).unwrap();
    }
    let val = spiral(90, Sampling::Sequential);
    let metrics = evaluate(&mlp, &val, &CrossEntropy, &[&Accuracy, &TopK(2)]).unwrap();
    let best = monitor().best(&expected.epochs).unwrap();
    assert_eq!(expected.epochs[best].val.as_ref(), Some(&metrics));
    // The training itself goes on from its own weights, not from their averages.
    let (plain, _) = train(tempfile::tempdir().unwrap().path(), 6, 1, &mut Nothing);
    for (plain, averaged) in plain.epochs.iter().zip(&expected.epochs) {
        assert_eq!(plain.train, averaged.train);
    }
    assert_ne!(plain.epochs[5].val, expected.epochs[5].val);

    let folder = tempfile::tempdir().unwrap();
    let flag = Arc::new(AtomicBool::new(false));
    train_averaged(folder.path(), &mut PressAt { epoch: 3, batch: 2, flag }, 1);
    let (history, params) = train_averaged(folder.path(), &mut Nothing, 99);
    assert_eq!(history, expected);
    assert_eq!(bytes(&params), bytes(&expected_params));
    let read = |folder: &Path| std::fs::read(folder.join("last.safetensors")).unwrap();
    assert!(read(folder.path()) == read(through.path()));
}

#[test]
fn a_training_that_is_interrupted_in_an_epoch_ends_with_the_averages() {
    struct Weights(Vec<Tensor>);
    impl Callback for Weights {
        fn on_batch_end(&mut self, end: &BatchEnd<'_>) -> firstsight_train::Result<ControlFlow<StopReason>> {
            self.0.push(end.vars[0].1.copy()?);
            Ok(ControlFlow::Continue(()))
        }
    }
    let (mlp, params) = mlp(1);
    let train = spiral(120, Sampling::Sequential);
    let (mut weights, mut ema) = (Weights(Vec::new()), ModelEma::new(0.5));
    let mut press = PressAt { epoch: 0, batch: 2, flag: Arc::new(AtomicBool::new(false)) };
    let model = Trainable::new(&mlp, params.named());
    let callbacks: &mut [&mut dyn Callback] = &mut [&mut weights, &mut ema, &mut press];
    assert!(fit(&model, &train, None, &config(6), callbacks).unwrap().interrupted());
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let [a, b, c] = [0, 1, 2].map(|i| flat(&weights.0[i]));
    for (i, found) in flat(&params.named()[0].1).into_iter().enumerate() {
        let expected = 0.25 * a[i] + 0.25 * b[i] + 0.5 * c[i];
        assert!((found - expected).abs() < 1e-6, "{found} against {expected}");
    }
}
