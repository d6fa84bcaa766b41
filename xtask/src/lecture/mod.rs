//! `reproduce-lecture`: each section of the lecture in a file of its own, all in one report.

mod digits;
mod drawings;
mod filters;
mod housing;
mod photo;
mod reference;
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

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use firstsight_data::DatasetFolder;
use firstsight_models::networks::{LOGISTIC, SMALL_CNN};
use firstsight_models::{InputSpec, ModelInfo};
use firstsight_report::{Report, escape_markup, number};
use serde::Serialize;

use crate::augmentation::Recipe;
use crate::commands::dataset;
use crate::device;
use crate::env::Env;
use crate::files;
use crate::images::{Folders, Splits};
use crate::interrupt::Interrupted;
use crate::pages;
use crate::run::{RunFolder, TrainingRecord};
use crate::training::{self, Optimization, Plan, Trained};

/// The seed of the lecture's 80/20 split.
const SPLIT_SEED: u32 = 123;

/// Of every folder given with `--quick`, one image in this many is used.
const QUICK_STRIDE: usize = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of character images, Train/Test of class folders [default: handwriting that this program draws]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A tenth of the images and fewer epochs: the whole report in minutes
    #[arg(long)]
    quick: bool,
    /// California housing as a CSV file [default: a table that this program draws]
    #[arg(long, value_name = "FILE")]
    housing: Option<PathBuf>,
    /// The photo that the sections on convolution and augmentation show [default: a scene that this program draws]
    #[arg(long, value_name = "FILE")]
    photo: Option<PathBuf>,
    #[command(flatten)]
    digits: digits::Args,
    /// Pretrained weights that section 5 looks into and section 10 starts from: a hub repository (owner/name), a folder
    /// or a file (may be repeated) [default: the published ones, from the hub; without a network, one that this program trains]
    #[arg(long, value_name = "HUB_ID, FOLDER or FILE")]
    weights: Vec<String>,
    /// Folder of class folders of photos that section 10 transfers ImageNet's weights to [default: two characters]
    #[arg(long, value_name = "DIR")]
    photos: Option<PathBuf>,
    /// Only this section (may be repeated) [default: all]
    #[arg(long, value_name = "NAME")]
    section: Vec<SectionName>,
    /// Folder for report.html, metrics.json, pictures and the trained runs
    #[arg(long, default_value = "report", value_name = "DIR")]
    out: PathBuf,
    /// Go on with the trainings that an earlier call left in the folder
    #[arg(long)]
    resume: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SectionName {
    /// 1. Images as tensors
    #[value(alias = "1")]
    Images,
    /// 2. Convolution
    #[value(alias = "2")]
    Convolution,
    /// 3. Classic networks
    #[value(alias = "3")]
    Networks,
    /// 4. Augmentation
    #[value(alias = "4")]
    Augmentation,
    /// 5. What the layers learn
    #[value(alias = "5")]
    Features,
    /// 6. The character data
    #[value(alias = "6")]
    Data,
    /// 7. Logistic regression
    #[value(alias = "7")]
    Logistic,
    /// 8. The CNN
    #[value(alias = "8")]
    Cnn,
    /// 9. Hyperparameter search
    #[value(alias = "9")]
    Search,
    /// 10. Transfer learning
    #[value(alias = "10")]
    Transfer,
}

/// What every section works with.
struct Lecture<'a> {
    env: &'a Env,
    out: &'a Path,
    resume: bool,
    /// From which data, in words, for captions.
    source: String,
    /// Whether the classes are the lecture's characters, so that its figures may stand beside ours.
    lectures_characters: bool,
    folders: Folders,
    splits: Splits,
    training: Training,
}

/// The lecture's training, or a shorter one.
struct Training {
    /// Of each of the two trainings that show what augmentation does.
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
    run: training::RunMetrics,
    seconds: f64,
}

pub(crate) fn run(args: &Args, env: &Env) -> Result<()> {
    let started = Instant::now();
    files::create_dir(&args.out)?;
    let wanted = |name| args.section.is_empty() || args.section.contains(&name);
    let mut report = Report::new("Firstsight: the lecture, reproduced");
    report.lead(
        "A lecture on computer vision teaches image classification with Keras, scikit-learn, Pillow, matplotlib and Optuna. \
         This report does the same work in Rust on candle, on this machine, and shows what came out.",
    );
    let mut metrics = Metrics { quick: args.quick, seed: env.seed, ..Metrics::default() };
    if wanted(SectionName::Images) {
        section_01_images::write(&mut report)?;
    }
    if wanted(SectionName::Convolution) {
        section_02_convolution::write(args.photo.as_deref(), env, &mut report)?;
    }
    let mut interrupted = false;
    if wanted(SectionName::Networks) {
        let (networks, stopped) = section_03_networks::write(args, env, &mut report)?;
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
        let prepared = Lecture::prepare(args, env)?;
        interrupted = characters(args, &prepared, wanted, &mut report, &mut metrics)?;
        lecture = Some(prepared);
    }
    if wanted(SectionName::Search) && !interrupted {
        // The search may be interrupted: what there is by now is kept.
        report.write(&args.out.join("report.html"))?;
        files::write_json(&args.out.join("metrics.json"), &metrics)?;
        metrics.search = Some(section_09_search::write(env, args.housing.as_deref(), &mut report)?);
    }
    if let Some(lecture) = lecture.filter(|_| wanted(SectionName::Transfer) && !interrupted) {
        metrics.transfer = section_10_transfer::write(args, &lecture, &mut report)?;
        interrupted |= metrics.transfer.is_none();
    }
    report.facts(&[
        ("seed", env.seed.to_string()),
        ("device", device::describe(&env.device)),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("time", number::duration(started.elapsed())),
    ]);
    files::write_json(&args.out.join("metrics.json"), &metrics)?;
    report.write(&args.out.join("report.html"))?;
    report.write_pictures(&args.out.join("pictures"))?;
    println!("{}", args.out.join("report.html").display());
    if interrupted {
        return Err(Interrupted("the report shows what was reached; `--resume` goes on".to_owned()).into());
    }
    Ok(())
}

/// Sections 4 and 6 to 8. Returns whether a training was interrupted.
fn characters(
    args: &Args,
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
    if wanted(SectionName::Augmentation) {
        metrics.augmentation = section_04_augmentation::write(lecture, args.photo.as_deref(), report)?;
        interrupted |= metrics.augmentation.is_none();
    }
    if wanted(SectionName::Features) {
        // It is about the network that section 8 trains, and is filled when that one is there.
        report.section(Some(section_05_features::NUMBER), section_05_features::TITLE);
    }
    if wanted(SectionName::Data) {
        section_06_data::write(lecture, report)?;
    }
    if wanted(SectionName::Logistic) && !interrupted {
        let trained = lecture.train(&LOGISTIC)?;
        metrics.add("logistic", &trained);
        section_07_logistic::write(lecture, &trained, report)?;
        interrupted |= trained.interrupted();
    }
    if (wanted(SectionName::Cnn) || wanted(SectionName::Features)) && !interrupted {
        let trained = lecture.train(&SMALL_CNN)?;
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
    fn prepare(args: &'a Args, env: &'a Env) -> Result<Self> {
        let (dataset, source) = match &args.data {
            Some(data) => {
                let dataset = DatasetFolder::scan(data)?;
                let name = data
                    .file_name()
                    .map_or_else(|| data.display().to_string(), |n| n.to_string_lossy().into_owned());
                (
                    if args.quick { thin_out(dataset) } else { dataset },
                    format!("images of the folder {}", escape_markup(&name)),
                )
            }
            None => {
                let scale = if args.quick { 1.0 / QUICK_STRIDE as f64 } else { 1.0 };
                let name = if args.quick { "handwriting-quick" } else { "handwriting" };
                let folder = env.datasets.join(format!("{name}-{}", env.seed));
                files::create_dir(&env.datasets)?;
                dataset::make(&folder, scale, env.seed)
                    .with_context(|| format!("drawing {}", folder.display()))?;
                (
                    DatasetFolder::scan(&folder)?,
                    format!("handwriting drawn by this program, seed {}", env.seed),
                )
            }
        };
        let folders = Folders::new(dataset, SPLIT_SEED)?;
        let splits = Splits::decode(&folders, &input(), &env.cache)?;
        let training = if args.quick {
            Training { augmentation_epochs: 12, epochs: 30, patience: 8 }
        } else {
            Training { augmentation_epochs: 25, epochs: 100, patience: 15 }
        };
        Ok(Self {
            env,
            out: &args.out,
            resume: args.resume,
            source,
            lectures_characters: reference::are_the_lectures(splits.train.classes()),
            folders,
            splits,
            training,
        })
    }

    /// The lecture's training: Adam 0.001, batches of 128, early stopping on validation accuracy.
    fn train(&self, model: &'static ModelInfo) -> Result<Trained> {
        let plan = self.plan(model);
        let path = self.out.join("runs").join(model.name);
        let run = RunFolder::reopen(&path, self.resume)?;
        let trained =
            training::train(&plan, &self.splits, &run, self.resume, &self.env.device, &self.env.ctrl_c)?;
        pages::run_report(&plan, &self.splits, &trained, &self.source, &self.env.device)?
            .write(&run.report())?;
        Ok(trained)
    }

    fn plan(&self, model: &'static ModelInfo) -> Plan {
        Plan {
            model,
            input: input(),
            epochs: self.training.epochs,
            patience: self.training.patience,
            optimization: Optimization::Adam,
            record: TrainingRecord {
                seed: self.env.seed,
                split_seed: SPLIT_SEED,
                batch_size: 128,
                learning_rate: 0.001,
                augmentation: Recipe::default(),
            },
        }
    }

    fn lead(&self, report: &mut Report, args: &Args) {
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
        report.facts(&[("images", self.source.clone())]);
        if self.folders.val_is_split_off {
            report.facts(&[("split", format!("80/20, random_state {SPLIT_SEED}"))]);
        }
    }

    fn data(&self) -> DataMetrics {
        DataMetrics {
            source: self.source.clone(),
            split_seed: SPLIT_SEED,
            classes: self.splits.n_classes(),
            train: self.splits.train.len(),
            val: self.splits.val.len(),
            test: self.splits.test.as_ref().map(firstsight_data::Decoded::len),
        }
    }
}

impl Metrics {
    fn add(&mut self, name: &'static str, trained: &Trained) {
        let params = trained.network.summary().total_params();
        self.models.insert(name, ModelMetrics { params, run: trained.metrics(), seconds: trained.seconds });
    }
}

/// Greyscale, 80 high, 60 wide, Lanczos.
fn input() -> InputSpec {
    InputSpec::bytes(1, 80, 60)
}

/// One image in [`QUICK_STRIDE`] of each split.
fn thin_out(mut dataset: DatasetFolder) -> DatasetFolder {
    for folder in
        [Some(&mut dataset.train), dataset.val.as_mut(), dataset.test.as_mut()].into_iter().flatten()
    {
        *folder = folder.subset(&(0..folder.len()).step_by(QUICK_STRIDE).collect::<Vec<_>>());
    }
    dataset
}
