use std::path::PathBuf;

use anyhow::{Result, bail};
use firstsight_data::{AugmentationConfig, AugmentationPreset, DatasetFolder, ImageFolder, ResizeMode};
use firstsight_models::ModelInfo;
use firstsight_transfer::Preset;

use crate::context::Context;
use crate::hub;
use crate::values::{self, InputSize};
use firstsight_transfer::Folders;
use firstsight_transfer::Interrupted;
use firstsight_transfer::RunFolder;
use firstsight_transfer::fine_tuning::{self, LearningRate, Request};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of images: Train/Test or train/val/test of class folders, or one folder of class folders
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The pretrained network: mobilenet-v2, xception
    #[arg(long, value_parser = values::model, value_name = "MODEL")]
    backbone: &'static ModelInfo,
    /// Its weights: a hub repository (owner/name), a folder with model.safetensors and config.json, or a file
    /// [default: the published ones, from the hub]
    #[arg(long, value_name = "HUB_ID, FOLDER or FILE")]
    weights: Option<String>,
    /// quick: the last layer alone; standard: then the upper third; thorough: then nearly all, for longer
    #[arg(long, default_value = "standard", value_name = "PRESET")]
    preset: Preset,
    /// Size that images are brought to [default: the weights' own]
    #[arg(long, value_name = "HxWxC")]
    input: Option<InputSize>,
    /// What becomes of a photo that isn't square
    #[arg(long, default_value = "auto", value_name = "HOW")]
    crop: Crop,
    /// The first block that is trained on after the last layer [default: the preset's]
    #[arg(long, value_name = "BLOCK")]
    unfreeze_from: Option<String>,
    /// The most epochs of that [default: the preset's]
    #[arg(long, value_parser = values::positive, value_name = "N")]
    epochs: Option<usize>,
    /// Its learning rate for the last layer, or `find` for a range test [default: the preset's]
    #[arg(long, value_parser = values::rate_or_find, value_name = "RATE")]
    learning_rate: Option<LearningRate>,
    /// Images a step [default: the preset's]
    #[arg(long, value_parser = values::positive, value_name = "N")]
    batch_size: Option<usize>,
    /// How the photos are changed, anew in each epoch of the second part
    #[arg(long, value_parser = values::augmentation_preset(), default_value = "photos", value_name = "PRESET")]
    augment: AugmentationPreset,
    /// The share of each label that is spread over all classes there
    #[arg(long, default_value_t = 0.1, value_parser = values::share, allow_negative_numbers = true, value_name = "SHARE")]
    label_smoothing: f64,
    /// Let batch norm follow the new images instead of keeping the pretraining's statistics
    #[arg(long)]
    update_statistics: bool,
    /// Show rare classes as often as frequent ones
    #[arg(long)]
    balance: bool,
    /// Go on without files that can't be decoded, naming each
    #[arg(long)]
    skip_unreadable: bool,
    /// Seed of the split where the folder has no validation images
    #[arg(long, default_value_t = 123, value_name = "N")]
    split_seed: u32,
    /// Folder for weights, configuration, history, figures and report
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Go on from RUN's checkpoint
    #[arg(long)]
    resume: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Crop {
    /// Whichever of the two does better in cross-validation on the training photos
    Auto,
    /// The whole photo, stretched
    Squash,
    /// The centre of the photo
    Center,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let folders = Folders::new(scan(args)?, args.split_seed)?;
    check_classes(&folders.train)?;
    let pretrained = hub::locate(args.backbone, args.weights.as_deref(), &context.runtime)?;
    let mut input = pretrained.input.clone();
    if let Some(InputSize { height, width, channels }) = args.input {
        if channels != input.input_size.0 {
            bail!("the weights take {} channels, and --input asks for {channels}", input.input_size.0);
        }
        input.input_size = (channels, height, width);
    }
    let crops = match args.crop {
        Crop::Auto => vec![ResizeMode::CenterCrop, ResizeMode::Squash],
        Crop::Squash => vec![ResizeMode::Squash],
        Crop::Center => vec![ResizeMode::CenterCrop],
    };
    let run = RunFolder::create(&args.out, args.resume)?;
    let request = Request {
        pretrained: &pretrained,
        input,
        crops,
        preset: args.preset,
        unfreeze_from: args.unfreeze_from.clone(),
        epochs: args.epochs,
        lr: args.learning_rate,
        batch_size: args.batch_size,
        update_statistics: args.update_statistics,
        balance: args.balance,
        augmentation: AugmentationConfig {
            preset: args.augment,
            mix: None,
            label_smoothing: args.label_smoothing,
        },
        skip_unreadable: args.skip_unreadable,
        seed: context.seed,
        split_seed: args.split_seed,
        resume: args.resume,
    };
    let tuned = fine_tuning::run(&request, &folders, &run, &context.runtime)
        .inspect_err(|_| run.remove_if_empty())?;
    let source = firstsight_report::escape_markup(&args.data.display().to_string());
    fine_tuning::report(&request, &tuned, &source, &context.runtime)?.write(&run.report())?;
    for (name, measured) in tuned.measured() {
        let f = measured.figures();
        println!("{name:10} loss {:.4}  accuracy {:.4}  ({} images)", f.loss, f.accuracy, f.n);
    }
    println!("{}", run.report().display());
    if tuned.interrupted() {
        return Err(Interrupted(match tuned.history.epochs.is_empty() {
            true => format!("{} holds the last layer alone", args.out.display()),
            false => format!("`--resume` goes on from {}", run.checkpoint().display()),
        })
        .into());
    }
    Ok(())
}

fn scan(args: &Args) -> Result<DatasetFolder> {
    let dataset = DatasetFolder::scan(&args.data)?;
    for skipped in dataset.train.skipped() {
        tracing::info!(path = %skipped.path.display(), reason = skipped.reason, "left out");
    }
    Ok(dataset)
}

/// Classes that no classifier should be made for.
fn check_classes(train: &ImageFolder) -> Result<()> {
    let classes = train.classes();
    for (i, class) in classes.iter().enumerate() {
        if let Some(alike) = classes[..i].iter().find(|other| other.to_lowercase() == class.to_lowercase()) {
            bail!(
                "classes '{alike}' and '{class}' in {} differ in letter case alone: rename or join them",
                train.root().display()
            );
        }
    }
    let counts = train.counts();
    if let Some(empty) = counts.iter().position(|n| *n == 0) {
        bail!(
            "no training image of class '{}' in {} is left after validation images were set aside: expected at \
             least a few images a class",
            classes[empty],
            train.root().display()
        );
    }
    Ok(())
}
