#![doc = include_str!("../README.md")]

mod digits;
mod drawings;
mod error;
mod filters;
mod housing;
mod photo;
mod reference;
pub mod search_report;
mod section_01_images;
mod section_02_convolution;
mod section_03_networks;
mod section_04_augmentation;
mod section_05_features;
mod section_06_data;
mod section_07_logistic;
mod section_08_cnn;
mod section_09_search;
mod section_10_transfer;
mod stage;
pub mod visualization;
mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use firstsight_data::{AugmentationConfig, DatasetFolder, InputSpec, OnError};
use firstsight_models::networks::{LOGISTIC, SMALL_CNN};
use firstsight_models::{ModelInfo, SaveDtype};
use firstsight_report::{Report, escape_markup, number, unescape_markup};
use firstsight_transfer::training::{Optimization, RunSummary, Trained, Training, monitor};
use firstsight_transfer::{
    DecodedSplits, HubConfig, RunFolder, Runtime, SplitConfig, Splits, TrainingRecord, files, report_sections,
};
use serde::Serialize;

use stage::Stage;

pub use self::digits::MNIST_MIRROR;
pub use self::error::{Error, Result};

/// The seed of the lecture's 80/20 split.
const SPLIT_SEED: u32 = 123;

/// The quick form uses one image in this many.
const QUICK_STRIDE: usize = 10;

/// Settings of the lecture.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder of character images; the generated handwriting if there is none.
    pub data: Option<PathBuf>,
    /// Use a tenth of the images and fewer epochs.
    pub quick: bool,
    /// California housing as a CSV file; a generated table if there is none.
    pub housing: Option<PathBuf>,
    /// The photo of the sections on convolution and augmentation; a drawn scene if there is none.
    pub photo: Option<PathBuf>,
    /// Folder with MNIST's four files; downloaded or generated digits if there is none.
    pub mnist: Option<PathBuf>,
    /// The address that MNIST's four files are downloaded from, instead of [`MNIST_MIRROR`].
    pub mnist_mirror: Option<String>,
    /// Pretrained weights for sections 5 and 10: hub repositories, folders or files; the published ones if there is none.
    pub weights: Vec<String>,
    /// Folder of class folders of photos for section 10; two of the characters if there is none.
    pub photos: Option<PathBuf>,
    /// The sections to write; all if there is none.
    pub sections: Vec<SectionName>,
    /// Folder for `report.html`, `metrics.json`, the pictures and the trained runs.
    pub out: PathBuf,
    /// Continue the trainings that an earlier call left in the folder.
    pub resume: bool,
    /// Seed of initial weights, shuffling and generated data.
    pub seed: u64,
    /// Folder for generated and downloaded data sets.
    pub datasets: PathBuf,
    /// The hub that pretrained weights are fetched from.
    pub hub: HubConfig,
    /// Connection settings for MNIST's mirror.
    pub mirror: HubConfig,
}

impl Settings {
    /// Every section in its full form, on generated data and published weights.
    pub fn new(out: impl Into<PathBuf>, datasets: impl Into<PathBuf>, seed: u64, hub: HubConfig) -> Self {
        Self {
            data: None,
            quick: false,
            housing: None,
            photo: None,
            mnist: None,
            mnist_mirror: None,
            weights: Vec::new(),
            photos: None,
            sections: Vec::new(),
            out: out.into(),
            resume: false,
            seed,
            datasets: datasets.into(),
            mirror: HubConfig { endpoint: MNIST_MIRROR.to_owned(), token: None, ..hub.clone() },
            hub,
        }
    }
}

/// A section of the lecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionName {
    /// Images as tensors.
    Images,
    /// Convolution.
    Convolution,
    /// Classic networks.
    Networks,
    /// Augmentation.
    Augmentation,
    /// Feature visualization: what the layers learn.
    Features,
    /// The character data.
    Data,
    /// Logistic regression.
    Logistic,
    /// The CNN.
    Cnn,
    /// Hyperparameter search.
    Search,
    /// Transfer learning.
    Transfer,
}

impl SectionName {
    /// Every section, in order.
    pub const ALL: [Self; 10] = [
        Self::Images,
        Self::Convolution,
        Self::Networks,
        Self::Augmentation,
        Self::Features,
        Self::Data,
        Self::Logistic,
        Self::Cnn,
        Self::Search,
        Self::Transfer,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Convolution => "convolution",
            Self::Networks => "networks",
            Self::Augmentation => "augmentation",
            Self::Features => "features",
            Self::Data => "data",
            Self::Logistic => "logistic",
            Self::Cnn => "cnn",
            Self::Search => "search",
            Self::Transfer => "transfer",
        }
    }

    /// The number in the report.
    pub fn number(self) -> &'static str {
        const NUMBERS: [&str; 10] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];
        NUMBERS[self as usize]
    }

    /// The title in the report.
    pub fn title(self) -> &'static str {
        match self {
            Self::Images => "Images as tensors",
            Self::Convolution => "Convolution",
            Self::Networks => "Classic networks",
            Self::Augmentation => "Augmentation",
            Self::Features => "What the layers learn",
            Self::Data => "The character data",
            Self::Logistic => "Logistic regression",
            Self::Cnn => "The CNN",
            Self::Search => "Hyperparameter search",
            Self::Transfer => "Transfer learning",
        }
    }
}

/// A written report.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The page.
    pub report: PathBuf,
    /// Whether a request to stop cut it short; [`Settings::resume`] continues.
    pub interrupted: bool,
}

/// Settings and runtime of a section.
#[derive(Debug, Clone, Copy)]
struct Context<'a> {
    settings: &'a Settings,
    runtime: &'a Runtime,
}

/// Data and settings of the sections on characters.
struct Lecture<'a> {
    context: Context<'a>,
    out: &'a Path,
    resume: bool,
    /// From which data, in words, for captions.
    source: String,
    /// Whether the classes are the lecture's characters, so that its figures can be compared with ours.
    lectures_characters: bool,
    folders: Splits,
    splits: DecodedSplits,
    lengths: Lengths,
}

/// Lengths of the trainings, the lecture's or shorter ones.
struct Lengths {
    /// Epochs of each training of the section on augmentation.
    augmentation_epochs: usize,
    epochs: usize,
    patience: usize,
}

/// `metrics.json`. A section that did not run is null or absent.
#[derive(Default, Serialize)]
struct Metrics {
    quick: bool,
    seed: u64,
    networks: Option<section_03_networks::NetworkMetrics>,
    augmentation: Option<section_04_augmentation::AugmentationMetrics>,
    data: Option<DataMetrics>,
    models: BTreeMap<&'static str, ModelMetrics>,
    search: Option<section_09_search::SearchMetrics>,
    transfer: Option<section_10_transfer::TransferMetrics>,
}

#[derive(Serialize)]
struct DataMetrics {
    source: String,
    split_seed: u32,
    classes: usize,
    train: usize,
    val: usize,
    test: Option<usize>,
}

#[derive(Serialize)]
struct ModelMetrics {
    params: usize,
    #[serde(flatten)]
    run: RunSummary,
    seconds: f64,
}

/// Writes the report.
///
/// # Errors
///
/// Data, weights or a folder that cannot be used, named.
pub fn run(args: &Settings, runtime: &Runtime) -> Result<Outcome> {
    let started = Instant::now();
    let _lock = RunFolder::lock(&args.out)?;
    let stage = Stage::begin(&args.out, args.quick, args.resume)?;
    let out = &args.out;
    let args = &Settings { out: stage.path().to_owned(), ..args.clone() };
    let context = &Context { settings: args, runtime };
    let wanted = |name| args.sections.is_empty() || args.sections.contains(&name);
    let mut report = Report::new("Firstsight: the lecture, reproduced");
    report.lead(
        "A lecture on computer vision teaches image classification with Keras, scikit-learn, Pillow, matplotlib and Optuna. \
         This report does the same work in Rust on candle, on this machine, and shows what came out.",
    );
    let mut metrics = Metrics { quick: args.quick, seed: context.settings.seed, ..Metrics::default() };
    if wanted(SectionName::Images) {
        section_01_images::write(&mut report)?;
    }
    if wanted(SectionName::Convolution) {
        section_02_convolution::write(args.photo.as_deref(), context, &mut report)?;
    }
    let mut interrupted = false;
    if wanted(SectionName::Networks) {
        let (networks, stopped) = section_03_networks::write(args, context, &mut report)?;
        (metrics.networks, interrupted) = (Some(networks), stopped);
    }
    let on_characters = [
        SectionName::Augmentation,
        SectionName::Features,
        SectionName::Data,
        SectionName::Logistic,
        SectionName::Cnn,
        SectionName::Transfer,
    ];
    let mut lecture = None;
    if on_characters.into_iter().any(wanted) && !interrupted {
        let prepared = Lecture::prepare(args, context)?;
        interrupted = characters(args, &prepared, wanted, &mut report, &mut metrics)?;
        lecture = Some(prepared);
    }
    if wanted(SectionName::Search) && !interrupted {
        // The search may be interrupted: what there is by now is kept.
        report.write(&args.out.join("report.html"))?;
        files::write_json(&args.out.join("metrics.json"), &metrics)?;
        metrics.search = Some(section_09_search::write(context, args.housing.as_deref(), &mut report)?);
    }
    if let Some(lecture) = lecture.filter(|_| wanted(SectionName::Transfer) && !interrupted) {
        metrics.transfer = section_10_transfer::write(args, &lecture, &mut report)?;
        interrupted |= metrics.transfer.is_none();
    }
    report.facts(&[
        ("seed", context.settings.seed.to_string()),
        ("device", runtime.device_name.clone()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("time", number::duration(started.elapsed())),
    ]);
    files::write_json(&args.out.join("metrics.json"), &metrics)?;
    report.write(&args.out.join("report.html"))?;
    report.write_pictures(&args.out.join("pictures"))?;
    // What was broken off replaces nothing.
    if interrupted && !stage.is_first() {
        return Ok(Outcome { report: args.out.join("report.html"), interrupted });
    }
    stage.publish()?;
    Ok(Outcome { report: out.join("report.html"), interrupted })
}

/// Sections 4 and 6 to 8. Returns whether a training was interrupted.
fn characters(
    args: &Settings,
    lecture: &Lecture<'_>,
    wanted: impl Fn(SectionName) -> bool,
    report: &mut Report,
    metrics: &mut Metrics,
) -> Result<bool> {
    const INTERRUPTED: &str = "The training of the network that it is about was interrupted.";
    report.subtitle("From image folders to a convolutional network");
    lecture.lead(report, args);
    metrics.data = Some(lecture.data());
    let mut interrupted = false;
    let mut plain = None;
    if wanted(SectionName::Augmentation) {
        let shown = section_04_augmentation::write(lecture, args.photo.as_deref(), report)?;
        interrupted |= shown.is_none();
        (metrics.augmentation, plain) = shown.unzip();
    }
    if wanted(SectionName::Features) {
        // It is about the network that section 8 trains, and is filled when that one is there.
        report.section(Some(section_05_features::NUMBER), section_05_features::TITLE);
    }
    if wanted(SectionName::Data) {
        section_06_data::write(lecture, report)?;
    }
    if wanted(SectionName::Logistic) && !interrupted {
        let trained = lecture.train(&LOGISTIC, None)?;
        metrics.add("logistic", &trained);
        section_07_logistic::write(lecture, &trained, report)?;
        interrupted |= trained.interrupted();
    }
    if (wanted(SectionName::Cnn) || wanted(SectionName::Features)) && !interrupted {
        let trained = lecture.train(&SMALL_CNN, plain.as_ref())?;
        metrics.add("cnn", &trained);
        if wanted(SectionName::Cnn) {
            section_08_cnn::write(lecture, &trained, report)?;
        }
        interrupted |= trained.interrupted();
        if let Some(section) = report.numbered(section_05_features::NUMBER) {
            match interrupted {
                false => interrupted |= !section_05_features::write(lecture, args, &trained, section)?,
                true => drop(section.note(INTERRUPTED)),
            }
        }
    } else if let Some(section) = report.numbered(section_05_features::NUMBER) {
        section.note(INTERRUPTED);
    }
    Ok(interrupted)
}

impl<'a> Lecture<'a> {
    /// Finds or draws the images, splits and decodes them.
    fn prepare(args: &'a Settings, context: &Context<'a>) -> Result<Self> {
        let (root, dataset, source) = match &args.data {
            Some(data) => {
                let dataset = DatasetFolder::scan(data)?;
                let name = data
                    .file_name()
                    .map_or_else(|| data.display().to_string(), |n| n.to_string_lossy().into_owned());
                (
                    data.clone(),
                    if args.quick { thin_out(dataset) } else { dataset },
                    format!("images of the folder {}", escape_markup(&name)),
                )
            }
            None => {
                let scale = if args.quick { 1.0 / QUICK_STRIDE as f64 } else { 1.0 };
                let name = if args.quick { "handwriting-quick" } else { "handwriting" };
                let folder = context.settings.datasets.join(format!("{name}-{}", context.settings.seed));
                files::create_dir(&context.settings.datasets)?;
                let settings = firstsight_handwriting::Settings { seed: context.settings.seed, scale };
                context.runtime.counted("drawing characters", |report| {
                    firstsight_handwriting::generate(&folder, &settings, report)
                })?;
                (
                    folder.clone(),
                    DatasetFolder::scan(&folder)?,
                    format!("handwriting drawn by this program, seed {}", context.settings.seed),
                )
            }
        };
        let folders = Splits::new(&root, dataset, SplitConfig::scikit_learn(SPLIT_SEED), context.runtime)?;
        let splits = DecodedSplits::decode(&folders, &input(), OnError::Fail, context.runtime)?;
        let lengths = if args.quick {
            Lengths { augmentation_epochs: 12, epochs: 30, patience: 8 }
        } else {
            Lengths { augmentation_epochs: 25, epochs: 100, patience: 15 }
        };
        Ok(Self {
            context: *context,
            out: &args.out,
            resume: args.resume,
            source,
            lectures_characters: reference::are_the_lectures(splits.train.classes()),
            folders,
            splits,
            lengths,
        })
    }

    /// The lecture's training: Adam 0.001, batches of 128, early stopping on validation accuracy. `begun` is the same
    /// training for fewer epochs, from whose checkpoint this one continues.
    fn train(&self, model: &'static ModelInfo, begun: Option<&Trained>) -> Result<Trained> {
        let plan = self.plan(model);
        let run = RunFolder::reopen(&self.run_path(model.name), self.resume)?;
        let begun = begun.filter(|begun| !self.resume && self.would_go_on(begun));
        if begun.is_some() {
            run.copy_checkpoint(&RunFolder::open(&self.run_path(section_04_augmentation::PLAIN_RUN))?)?;
        }
        let resume = self.resume || begun.is_some();
        let trained = plan.run(&self.splits, &run, resume, self.context.runtime)?;
        report_sections::run_report(&plan, &self.splits, &trained, &self.source, self.context.runtime)?
            .write(&run.report())?;
        Ok(trained)
    }

    /// Whether early stopping with the lecture's patience would not have ended a training within its epochs.
    fn would_go_on(&self, begun: &Trained) -> bool {
        let (epochs, monitor) = (&begun.history.epochs, monitor());
        (1..=epochs.len()).all(|n| {
            let best = monitor.best(&epochs[..n]).map_or(0, |best| best + 1);
            n - best < self.lengths.patience
        })
    }

    fn run_path(&self, name: &str) -> PathBuf {
        self.out.join("runs").join(name)
    }

    fn plan(&self, model: &'static ModelInfo) -> Training {
        Training {
            model,
            input: input(),
            epochs: self.lengths.epochs,
            patience: self.lengths.patience,
            optimization: Optimization::Adam,
            save_dtype: SaveDtype::Float32,
            record: TrainingRecord {
                seed: self.context.settings.seed,
                split_seed: SPLIT_SEED,
                batch_size: 128,
                shards: 1,
                learning_rate: 0.001,
                augmentation: AugmentationConfig::default(),
            },
        }
    }

    fn lead(&self, report: &mut Report, args: &Settings) {
        if args.data.is_none() {
            report.lead(
                "No data was named, so the program **drew the handwriting itself** from stroke descriptions of the \
                 lecture's 55 characters, training and test images by different writers. Real handwriting is more \
                 varied. `--data DIR` runs the same on a folder of images.",
            );
        }
        if args.quick {
            report.lead(
                "This is the **quick form**: a tenth of the images and at most 30 epochs, so the figures are lower than \
                 a full run's. Without `--quick` the lecture's full training runs.",
            );
        }
        report.facts(&[("images", unescape_markup(&self.source))]);
        if self.folders.val_is_split_off {
            report.facts(&[("split", format!("80/20, random_state {SPLIT_SEED}"))]);
        }
    }

    fn data(&self) -> DataMetrics {
        DataMetrics {
            source: unescape_markup(&self.source),
            split_seed: SPLIT_SEED,
            classes: self.splits.n_classes(),
            train: self.splits.train.len(),
            val: self.splits.val.len(),
            test: self.splits.test.as_ref().map(firstsight_data::ImageDataset::len),
        }
    }
}

impl Metrics {
    fn add(&mut self, name: &'static str, trained: &Trained) {
        let params = trained.network.summary().total_params();
        self.models.insert(name, ModelMetrics { params, run: trained.summary(), seconds: trained.seconds });
    }
}

/// Grayscale, 80 high, 60 wide, Lanczos.
fn input() -> InputSpec {
    InputSpec::bytes(1, 80, 60)
}

/// One image in [`QUICK_STRIDE`] of each split.
fn thin_out(mut dataset: DatasetFolder) -> DatasetFolder {
    for folder in [dataset.train.as_mut(), dataset.val.as_mut(), dataset.test.as_mut()].into_iter().flatten()
    {
        *folder = folder.subset(&(0..folder.len()).step_by(QUICK_STRIDE).collect::<Vec<_>>());
    }
    dataset
}
