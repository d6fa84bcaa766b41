//! One fine-tuning, from folders of photos to a RUN folder: features, last layer, upper blocks.

use std::time::Instant;

use candle_core::{Device, ModuleT, Tensor, Var};
use firstsight_data::{
    AugmentationConfig, Batches as _, DecodeOptions, ImageDataset, ImageFolder, InputSpec, Loader,
    OnDecodeError, ResizeMode, Sampling,
};
use firstsight_models::{Block, ImageClassifier, InputShape, Params};
use firstsight_train::callbacks::{Checkpoint, CsvHistory, EarlyStopping, Interrupt, StopOnNan};
use firstsight_train::{
    Accuracy, Callback, Epoch, History, LrCurve, Metrics, Predictions, evaluate, predict,
};
use serde::Serialize;

mod report;

pub use self::report::report;
use crate::training::{LOSS, METRICS, evaluation_batch, in_order, monitor};
use crate::{
    BatchNormMode, Error, FeatureConfig, Features, Figures, FineTuner, Folders, Head, Preset, Pretrained,
    Recipe, Result, RunConfig, RunFolder, Runtime, TrainingRecord, Tuning, features, files, fingerprint,
    loader as batches_of,
};

/// Intervals of the reliability diagram and of the calibration error.
pub const BINS: usize = 10;

/// The learning rate of the last layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LearningRate {
    /// This one.
    Value(f64),
    /// The one that a range test suggests.
    Find,
}

/// What is fine-tuned, and how.
#[derive(Clone)]
pub struct Request<'a> {
    pub pretrained: &'a Pretrained,
    pub input: InputSpec,
    /// How a photo that isn't square is brought to the input's size; of several, cross-validation takes one.
    pub crops: Vec<ResizeMode>,
    pub preset: Preset,
    pub unfreeze_from: Option<String>,
    pub epochs: Option<usize>,
    pub lr: Option<LearningRate>,
    pub batch_size: Option<usize>,
    pub update_statistics: bool,
    pub balance: bool,
    /// How the images of the second part are changed.
    pub augmentation: AugmentationConfig,
    pub skip_unreadable: bool,
    pub seed: u64,
    pub split_seed: u32,
    pub resume: bool,
}

/// A split with what the network makes of it.
pub struct Measured {
    pub images: ImageDataset,
    pub metrics: Metrics,
    pub predictions: Predictions,
}

impl Measured {
    pub fn figures(&self) -> Figures {
        (&self.metrics).into()
    }
}

/// Which weights the run keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The pretrained backbone with the last layer trained on its features.
    Head,
    /// Those after this epoch of fine-tuning, from 0.
    Epoch(usize),
}

/// A fine-tuned network with its figures.
pub struct Tuned {
    /// What the network takes, with the crop that was chosen.
    pub input: InputSpec,
    /// The crops tried, with their lowest cross-validated loss.
    pub crops: Vec<(ResizeMode, f64)>,
    pub network: ImageClassifier,
    pub recipe: Recipe,
    pub head: Head,
    pub head_val: Metrics,
    pub trained_params: usize,
    pub frozen_params: usize,
    /// The layer table's rows with whether each layer was trained.
    pub trained_rows: Vec<bool>,
    pub lr_curve: Option<LrCurve>,
    pub history: History,
    pub kept: Kept,
    pub n_train: usize,
    pub train: Option<Metrics>,
    pub val: Measured,
    pub test: Option<Measured>,
    pub excluded: Vec<(std::path::PathBuf, String)>,
    pub seconds: Seconds,
}

/// Where the time went.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Seconds {
    pub decoding: f64,
    pub features: f64,
    pub head: f64,
    pub tuning: f64,
    pub measuring: f64,
}

impl Tuned {
    pub fn interrupted(&self) -> bool {
        self.history.interrupted()
    }

    pub fn measured(&self) -> Vec<(&'static str, &Measured)> {
        let test = self.test.as_ref().map(|test| ("test", test));
        std::iter::once(("validation", &self.val)).chain(test).collect()
    }

    /// The test images, or else the validation images.
    pub fn held_out(&self) -> (&'static str, &Measured) {
        self.test.as_ref().map_or(("validation", &self.val), |test| ("test", test))
    }
}

/// `metrics.json` of a fine-tuned run.
#[derive(Serialize)]
struct TunedMetrics<'a> {
    preset: &'a str,
    weights: &'a str,
    epochs: usize,
    best_epoch: Option<usize>,
    kept: &'a str,
    head: HeadMetrics,
    trained_params: usize,
    frozen_params: usize,
    train: Option<Figures>,
    val: Figures,
    test: Option<Figures>,
    expected_calibration_error: f64,
    seconds: Seconds,
}

#[derive(Serialize)]
struct HeadMetrics {
    penalty: f64,
    val: Figures,
    cross_validation: Vec<CandidateJson>,
}

#[derive(Serialize)]
struct CandidateJson {
    penalty: f64,
    loss: f64,
    accuracy: f64,
}

/// Trains the last layer on features, then, unless the preset is quick, the upper blocks; keeps the better of the two
/// by validation accuracy; measures, and fills the run folder but for the report.
pub fn run(request: &Request<'_>, folders: &Folders, run: &RunFolder, runtime: &Runtime) -> Result<Tuned> {
    let mut seconds = Seconds::default();
    let mut best: Option<FirstPart<'_>> = None;
    let mut crops = Vec::new();
    for &crop_mode in &request.crops {
        let mut input = InputSpec { crop_mode, ..request.input.clone() };
        if crop_mode == ResizeMode::Squash {
            // timm cuts the rim off after stretching unless the whole is kept.
            input.crop_pct = 1.0;
        }
        let request = Request { input, ..request.clone() };
        let part = first_part(request, folders, runtime, &mut seconds)?;
        let loss = part.head.cross_validated_loss();
        crops.push((crop_mode, loss));
        if best.as_ref().is_none_or(|best| loss < best.head.cross_validated_loss()) {
            best = Some(part);
        }
    }
    let FirstPart { request, network, params, recipe, train, train_features, head } = best
        .ok_or(Error::Setting { setting: "crops", expected: "at least one".into(), found: "none".into() })?;
    let device = &runtime.device;
    if crops.len() > 1 {
        runtime.message(&format!("{} crop, by cross-validation", request.input.crop_mode));
    }

    let started = Instant::now();
    let val = decode(&request, &folders.val, "validation images", runtime)?;
    let test =
        folders.test.as_ref().map(|test| decode(&request, test, "test images", runtime)).transpose()?;
    seconds.decoding += started.elapsed().as_secs_f64();
    let decoded = [Some(&train), Some(&val), test.as_ref()];
    let excluded: Vec<_> = decoded.into_iter().flatten().flat_map(|d| d.excluded().to_vec()).collect();
    for (path, reason) in &excluded {
        runtime.message(&format!("left out: {}: {reason}", path.display()));
    }

    set_head(&network, &params, &head)?;
    let head_train = of_features(&network, &train_features)?;
    let mut stage = Stage {
        history: History::default(),
        kept: Kept::Head,
        lr_curve: None,
        counts: (params_of_head(&network, &params), 0),
        trained_rows: network
            .summary()
            .rows
            .iter()
            .map(|row| in_head(&network, &format!("{}.", row.name)))
            .collect(),
    };
    stage.counts.1 = network.summary().total_params() - stage.counts.0;
    let started = Instant::now();
    let measure = |images: &ImageDataset| -> Result<(Metrics, Predictions)> {
        let batches = in_order(images, &request.input, device)?;
        Ok((evaluate(&network, &batches, &LOSS, &METRICS)?, predict(&network, &batches)?))
    };
    let (head_val, mut val_predictions) = measure(&val)?;
    runtime.message(&format!("last layer: val_accuracy {:.4}", accuracy(&head_val)));
    seconds.measuring += started.elapsed().as_secs_f64();

    let started = Instant::now();
    match &recipe.tuning {
        None => {
            stage.history.epochs = vec![Epoch { train: head_train.clone(), val: Some(head_val.clone()) }];
            CsvHistory::new(&run.history()).write(&stage.history.epochs)?;
        }
        Some(tuning) => {
            let images = TuningImages { train: &train, val: &val };
            stage = tune(&request, tuning, &params, &images, &head_val, run, runtime)?;
        }
    }
    seconds.tuning = started.elapsed().as_secs_f64();

    let started = Instant::now();
    files::write_json(&run.config(), &run_config(&request, &recipe, &network, &train).document()?)?;
    params.save(&run.weights())?;
    let mut val_metrics = head_val.clone();
    if stage.kept != Kept::Head {
        (val_metrics, val_predictions) = measure(&val)?;
    }
    let measured = |images: ImageDataset| -> Result<Measured> {
        let (metrics, predictions) = measure(&images)?;
        Ok(Measured { images, metrics, predictions })
    };
    let test = test.map(measured).transpose()?;
    seconds.measuring += started.elapsed().as_secs_f64();
    let tuned = Tuned {
        input: request.input.clone(),
        crops,
        network,
        head,
        head_val,
        trained_params: stage.counts.0,
        frozen_params: stage.counts.1,
        trained_rows: stage.trained_rows,
        lr_curve: stage.lr_curve,
        history: stage.history,
        train: (stage.kept == Kept::Head).then_some(head_train),
        kept: stage.kept,
        n_train: train.len(),
        val: Measured { images: val, metrics: val_metrics, predictions: val_predictions },
        test,
        excluded,
        recipe,
        seconds,
    };
    files::write_json(&run.metrics(), &metrics(&request, &tuned))?;
    Ok(tuned)
}

/// Images, their features, and a last layer trained on them.
struct FirstPart<'a> {
    /// With the input that the features were made for.
    request: Request<'a>,
    network: ImageClassifier,
    params: Params,
    recipe: Recipe,
    train: ImageDataset,
    train_features: Features,
    head: Head,
}

fn first_part<'a>(
    request: Request<'a>,
    folders: &Folders,
    runtime: &Runtime,
    seconds: &mut Seconds,
) -> Result<FirstPart<'a>> {
    let device = &runtime.device;
    let started = Instant::now();
    let train = decode(&request, &folders.train, "training images", runtime)?;
    seconds.decoding += started.elapsed().as_secs_f64();
    let (network, params, parts) = network(&request, train.classes().len(), device)?;
    let recipe = recipe(&request, &parts);
    if let Some(tuning) = &recipe.tuning {
        // A block that there is not should be heard of before the work, not after it.
        let (input, n_classes) = (InputShape::from(&request.input), train.classes().len());
        FineTuner::new(request.pretrained.model, input, n_classes, &params, &tuning.config)?;
    }
    if request.crops.first() == Some(&request.input.crop_mode) {
        say_cost(&request, &recipe, &parts, &network, &train, folders.val.len(), runtime)?;
    }
    let started = Instant::now();
    let extraction = FeatureConfig {
        normalize: request.input.normalize(),
        views: recipe.views.as_slice(),
        batch_size: evaluation_batch(&request.input),
        identity: format!("{} {:?}", fingerprint(&params, |name| !in_head(&network, name))?, request.input),
    };
    let train_features = runtime.counted("features of the training images", |report| {
        features(
            network.backbone(),
            &train,
            &extraction,
            runtime.cache.as_deref(),
            device,
            &mut |done, total| report(done, total),
        )
    })?;
    seconds.features += started.elapsed().as_secs_f64();
    let started = Instant::now();
    let head = runtime.counted("last layer", |report| {
        Head::train(&train_features, &recipe.head, &mut |done, total| report(done, total))
    })?;
    seconds.head += started.elapsed().as_secs_f64();
    Ok(FirstPart { request, network, params, recipe, train, train_features, head })
}

fn decode(
    request: &Request<'_>,
    folder: &ImageFolder,
    what: &str,
    runtime: &Runtime,
) -> Result<ImageDataset> {
    let mut settings = request.input.decode_settings();
    if request.skip_unreadable {
        settings.on_error = OnDecodeError::Exclude;
    }
    Ok(runtime.counted(what, |report| {
        ImageDataset::decode_with(
            folder,
            &settings,
            DecodeOptions { cache: runtime.cache.as_deref(), progress: Some(report) },
        )
    })?)
}

/// The pretrained network with a new last layer.
fn network(
    request: &Request<'_>,
    n_classes: usize,
    device: &Device,
) -> Result<(ImageClassifier, Params, Vec<Block>)> {
    let pretrained = request.pretrained;
    let params = Params::seeded(request.seed, device);
    let kind = pretrained.model;
    let mut network = ImageClassifier::new(
        kind,
        InputShape::from(&request.input),
        pretrained.n_classes,
        kind.init,
        &params,
    )?;
    params.load(&pretrained.weights)?;
    network.reset_classifier(n_classes)?;
    let parts = network.blocks();
    Ok((network, params, parts))
}

fn recipe(request: &Request<'_>, parts: &[Block]) -> Recipe {
    let mut recipe = request.preset.recipe(parts, request.seed);
    recipe.head.balanced = request.balance;
    if let Some(tuning) = &mut recipe.tuning {
        let config = &mut tuning.config;
        if let Some(block) = &request.unfreeze_from {
            config.unfreeze_from.clone_from(block);
        }
        if let Some(epochs) = request.epochs {
            (config.epochs, tuning.patience) = (epochs, epochs);
        }
        if let Some(LearningRate::Value(lr)) = request.lr {
            config.lr = lr;
        }
        if let Some(batch_size) = request.batch_size {
            tuning.batch_size = batch_size;
        }
        if request.update_statistics {
            config.batch_norm = BatchNormMode::Train;
        }
    }
    recipe
}

/// Says what the preset will do and about how long that takes, from the time of a few images.
fn say_cost(
    request: &Request<'_>,
    recipe: &Recipe,
    parts: &[Block],
    network: &ImageClassifier,
    train: &ImageDataset,
    n_val: usize,
    runtime: &Runtime,
) -> Result<()> {
    let few: Vec<usize> = (0..train.len().min(8)).collect();
    let batches = in_order(&train.subset(&few), &request.input, &runtime.device)?;
    let mut seconds = f64::INFINITY;
    for _ in 0..2 {
        let Some(batch) = batches.epoch(0).next() else { return Ok(()) };
        let batch = batch?;
        let started = Instant::now();
        network.forward_t(&batch.inputs, false)?;
        seconds = seconds.min(started.elapsed().as_secs_f64());
    }
    let cost = recipe.cost(parts, train.len(), request.crops.len(), n_val);
    let about = cost.seconds(seconds / few.len() as f64);
    let name = request.preset.name();
    match &recipe.tuning {
        None => runtime.message(&format!(
            "{name}: {} images through the frozen network (those of earlier runs are remembered), then the last layer; \
             at most about {about:.0} s",
            cost.forward
        )),
        Some(tuning) => runtime.message(&format!(
            "{name}: {} images through the network and {} training steps of {} images from {} up; about {about:.0} s",
            cost.forward,
            cost.trained.div_ceil(tuning.batch_size),
            tuning.batch_size,
            tuning.config.unfreeze_from
        )),
    }
    Ok(())
}

fn in_head(network: &ImageClassifier, name: &str) -> bool {
    name.strip_prefix(network.head_name()).is_some_and(|rest| rest.starts_with('.'))
}

fn params_of_head(network: &ImageClassifier, params: &Params) -> usize {
    params.vars(|name| in_head(network, name)).iter().map(|var| var.elem_count()).sum()
}

fn set_head(network: &ImageClassifier, params: &Params, head: &Head) -> Result<()> {
    for (name, value) in [("weight", &head.weight), ("bias", &head.bias)] {
        let name = format!("{}.{name}", network.head_name());
        if let Some(var) = params.get(&name) {
            var.set(value)?;
        }
    }
    Ok(())
}

/// A network's last layer alone, on features.
pub struct LastLayer<'a>(pub &'a ImageClassifier);

impl ModuleT for LastLayer<'_> {
    fn forward_t(&self, xs: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        self.0.classify(xs, train)
    }
}

/// Figures of the present last layer on features in their first view.
fn of_features(network: &ImageClassifier, features: &Features) -> Result<Metrics> {
    let all: Vec<usize> = (0..features.n_images()).collect();
    let (rows, labels) = features.of(&all, 1)?;
    let labels = Tensor::new(labels, rows.device())?;
    let batches = firstsight_data::TensorBatches::new(rows, labels, 1024, Sampling::Sequential)?;
    Ok(evaluate(&LastLayer(network), &batches, &LOSS, &METRICS)?)
}

fn accuracy(metrics: &Metrics) -> f64 {
    metrics.get(&Accuracy).unwrap_or(f64::NAN)
}

struct TuningImages<'a> {
    train: &'a ImageDataset,
    val: &'a ImageDataset,
}

/// What the second part of a recipe leaves.
struct Stage {
    history: History,
    kept: Kept,
    lr_curve: Option<LrCurve>,
    counts: (usize, usize),
    trained_rows: Vec<bool>,
}

/// Trains the upper blocks. The variables are then those of the best epoch, or as before where none was better.
fn tune(
    request: &Request<'_>,
    tuning: &Tuning,
    params: &Params,
    images: &TuningImages<'_>,
    head_val: &Metrics,
    run: &RunFolder,
    runtime: &Runtime,
) -> Result<Stage> {
    let TuningImages { train, val } = *images;
    let mut config = tuning.config.clone();
    let (model, n_classes) = (request.pretrained.model, train.classes().len());
    let tuner = FineTuner::new(model, InputShape::from(&request.input), n_classes, params, &config)?;
    let counts = tuner.counts();
    let (_, trained_rows) = tuner.summary();
    runtime.message(&format!("{} parameters are trained, {} are frozen", counts.0, counts.1));
    let shown = if request.balance { train.balanced() } else { train.clone() };
    let loader = training_loader(request, tuning, &shown, &runtime.device)?;
    let val = in_order(val, &request.input, &runtime.device)?;

    let mut lr_curve = None;
    if request.lr == Some(LearningRate::Find) {
        let curve = tuner.lr_find(&loader, &config, 60)?;
        if let Some(lr) = curve.suggestion() {
            runtime.message(&format!("learning rate: {lr:.2e}, by a range test"));
            config.lr = lr;
        }
        lr_curve = Some(curve);
    }
    let identity = identity(request, tuning, train);
    let all: Vec<Var> = params.vars(|_| true);
    let before = all.iter().map(|var| var.copy()).collect::<candle_core::Result<Vec<Tensor>>>()?;
    let mut checkpoint = Checkpoint::new(&run.checkpoint(), monitor(), &identity).resume(request.resume);
    let mut stopping = EarlyStopping::new(monitor(), tuning.patience);
    let mut csv = CsvHistory::new(&run.history());
    let mut progress = runtime.training("fine-tuning");
    let history = runtime.interrupt.with_graceful_interrupt(|pressed| {
        let mut interrupt = Interrupt(pressed);
        let callbacks: &mut [&mut dyn Callback] =
            &mut [&mut StopOnNan, &mut interrupt, &mut stopping, &mut csv, &mut progress, &mut checkpoint];
        tuner.fit(&loader, Some(&val), &config, callbacks)
    })?;
    let best = monitor().best(&history.epochs);
    let kept = match best {
        Some(epoch) if monitor().value(&history.epochs[epoch]) >= accuracy(head_val) => Kept::Epoch(epoch),
        _ => {
            match history.epochs.is_empty() {
                true => runtime.message("no epoch of fine-tuning was finished: the last layer alone is kept"),
                false => runtime
                    .message("no epoch of fine-tuning was better than the last layer alone, which is kept"),
            }
            for (var, value) in all.iter().zip(&before) {
                var.set(value)?;
            }
            Kept::Head
        }
    };
    Ok(Stage { history, kept, lr_curve, counts, trained_rows })
}

/// Shuffled batches as the recipe has them.
fn training_loader(
    request: &Request<'_>,
    tuning: &Tuning,
    images: &ImageDataset,
    device: &Device,
) -> Result<Loader> {
    let order = Sampling::Shuffled { seed: request.seed };
    let loader = batches_of(images, &request.input, tuning.batch_size, order, device)?;
    Ok(match request.augmentation.augmentation(request.seed) {
        Some(augmentation) => loader.augmented(augmentation)?,
        None => loader,
    })
}

/// What a checkpoint must agree on to be resumed.
fn identity(request: &Request<'_>, tuning: &Tuning, train: &ImageDataset) -> String {
    format!(
        "{} from {}, {} preset, {} training images of {} classes, batches of {}, {:?}, augmented ({}), seed {}",
        request.pretrained.model,
        request.pretrained.origin,
        request.preset.name(),
        train.len(),
        train.classes().len(),
        tuning.batch_size,
        tuning.config,
        request.augmentation,
        request.seed
    )
}

fn run_config(
    request: &Request<'_>,
    recipe: &Recipe,
    network: &ImageClassifier,
    train: &ImageDataset,
) -> RunConfig {
    let (batch_size, learning_rate) = match &recipe.tuning {
        Some(tuning) => (tuning.batch_size, tuning.config.lr),
        None => (recipe.head.batch_size, recipe.head.lr),
    };
    RunConfig {
        architecture: request.pretrained.model.architecture().to_owned(),
        num_classes: train.classes().len(),
        num_features: network.n_features(),
        label_names: train.classes().to_vec(),
        named: true,
        pretrained_cfg: request.input.clone(),
        training: Some(TrainingRecord {
            seed: request.seed,
            split_seed: request.split_seed,
            batch_size,
            learning_rate,
            augmentation: request.augmentation,
        }),
    }
}

fn metrics<'a>(request: &'a Request<'_>, tuned: &Tuned) -> TunedMetrics<'a> {
    let (epochs, best_epoch, kept) = match (tuned.kept, &tuned.recipe.tuning) {
        (Kept::Epoch(epoch), _) => (tuned.history.epochs.len(), Some(epoch + 1), "fine-tuned"),
        (Kept::Head, Some(_)) => (tuned.history.epochs.len(), None, "last layer"),
        (Kept::Head, None) => (0, None, "last layer"),
    };
    let candidate =
        |c: &crate::CrossValidation| CandidateJson { penalty: c.penalty, loss: c.loss, accuracy: c.accuracy };
    TunedMetrics {
        preset: request.preset.name(),
        weights: &request.pretrained.origin,
        epochs,
        best_epoch,
        kept,
        head: HeadMetrics {
            penalty: tuned.head.penalty,
            val: (&tuned.head_val).into(),
            cross_validation: tuned.head.cross_validation.iter().map(candidate).collect(),
        },
        trained_params: tuned.trained_params,
        frozen_params: tuned.frozen_params,
        train: tuned.train.as_ref().map(Figures::from),
        val: tuned.val.figures(),
        test: tuned.test.as_ref().map(Measured::figures),
        expected_calibration_error: tuned.held_out().1.predictions.expected_calibration_error(BINS),
        seconds: tuned.seconds,
    }
}
