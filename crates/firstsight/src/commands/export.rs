use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use candle_core::Device;
use firstsight_data::{InputSpec, OnError, ResizeMode, Sample};
use firstsight_export::{Onnx, OnnxInput, OnnxOutput, OnnxRunner, OnnxSettings};
use firstsight_models::ImageClassifier;
use firstsight_report::number;
use firstsight_transfer::{
    CardSettings, Event, Hub, HubContent, HubPush, HubUpload, RunConfig, RunFolder, files, is_repository,
    published_files,
};

use crate::{
    context::Context,
    hub, output,
    reading::{OnErrorArgs, ReadingArgs},
    values,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run to export, or a folder with a network's config.json and model.safetensors
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,
    /// Write the network as an ONNX file, which is then run on images that it holds
    #[arg(long, value_name = "FILE")]
    onnx: Option<PathBuf>,
    /// Write the run to a repository of the Hugging Face hub, which is created where there is none, with a model card; HF_TOKEN must be
    /// allowed to. With --onnx, the file is there as model.onnx
    #[arg(long, value_parser = repository, value_name = "OWNER/NAME")]
    hub: Option<String>,
    /// A repository that is created can be seen by everybody
    #[arg(long, requires = "hub")]
    public: bool,
    /// Write what the repository would get to a folder instead
    #[arg(long, value_name = "DIR", requires = "hub")]
    dry_run: Option<PathBuf>,
    /// What the file takes
    #[arg(long, value_enum, default_value_t = Input::Uint8Nhwc, value_name = "NAME", requires = "onnx")]
    input: Input,
    /// What the file gives
    #[arg(long, value_enum, default_value_t = Output::Answers, value_name = "NAME", requires = "onnx")]
    output: Output,
    /// License of the weights, for the file's metadata [default: that of the weights that were fine-tuned, where it is known]
    #[arg(long, value_name = "TEXT")]
    license: Option<String>,
    /// Photos that are written as inputs of the file, for quantization, to mine.calibration.npy beside mine.onnx: a folder, a table,
    /// Parquet files or tar shards
    #[arg(long, value_name = "DATA", requires = "onnx")]
    calibration: Option<PathBuf>,
    /// Most photos for calibration
    #[arg(long, default_value_t = 200, value_parser = values::positive, value_name = "N", requires = "calibration")]
    calibration_images: usize,
    /// Run an ONNX file that was exported on the images that it holds, and say what it is
    #[arg(long, value_name = "FILE", conflicts_with_all = ["run", "onnx", "hub", "dry_run", "input", "output", "license", "calibration"])]
    check: Option<PathBuf>,
    #[command(flatten)]
    on_error: OnErrorArgs,
    #[command(flatten)]
    reading: ReadingArgs,
}

fn repository(text: &str) -> Result<String, String> {
    match is_repository(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("'{text}' should be owner/name, of letters, digits, '-', '_' and '.'")),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Input {
    /// Bytes (B, H, W, C), as image libraries decode them
    #[value(name = "uint8-nhwc")]
    Uint8Nhwc,
    /// Bytes (B, C, H, W)
    #[value(name = "uint8-nchw")]
    Uint8Nchw,
    /// Normalized numbers (B, C, H, W), as PyTorch's networks take them
    #[value(name = "float32")]
    Float32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Probabilities of the classes, calibrated where the run is, or of each label; or a number
    Answers,
    /// What the network gives
    Logits,
}

impl Args {
    fn settings(&self, run: &RunFolder) -> OnnxSettings {
        OnnxSettings {
            input: match self.input {
                Input::Uint8Nhwc => OnnxInput::BytesLast,
                Input::Uint8Nchw => OnnxInput::BytesFirst,
                Input::Float32 => OnnxInput::Normalized,
            },
            output: match self.output {
                Output::Answers => OnnxOutput::Answers,
                Output::Logits => OnnxOutput::Logits,
            },
            license: self.license.clone().or_else(|| run.license()),
        }
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let reading = args.on_error.typed() + &args.reading.typed();
    if args.calibration.is_none() && !reading.is_empty() {
        bail!("{} is for the photos of --calibration", reading.trim());
    }
    if let Some(file) = &args.check {
        return check(file);
    }
    let Some(run) = args.run.as_ref().filter(|_| args.onnx.is_some() || args.hub.is_some()) else {
        bail!("expected export RUN --onnx FILE, export RUN --hub OWNER/NAME or export --check FILE");
    };
    let folder = RunFolder::open(run)?;
    if let Some(file) = &args.onnx {
        let mut inputs = vec![folder.config(), folder.weights(), folder.reject(), folder.metrics()];
        inputs.extend(args.calibration.clone());
        let calibration = args.calibration.as_ref().map(|_| calibration_file(file));
        for written in std::iter::once(file).chain(&calibration) {
            output::check_apart(written, &inputs)?;
            files::check_writable(written)?;
        }
    }
    let photos = args.calibration.as_deref().map(|data| photos(data, context)).transpose()?;
    // Outputs for the check are computed where everybody has them.
    let (network, config) = folder.load(&Device::Cpu)?;
    let settings = args.settings(&folder);
    if let Some(file) = &args.onnx {
        export(&network, &config, &settings, file)?;
        if let Some(photos) = photos {
            calibrate(&photos, &calibration_file(file), &config, &settings, args)?;
        }
    }
    match &args.hub {
        Some(repository) => {
            let license = settings.license.as_deref();
            let card = CardSettings { repository, license, has_onnx: args.onnx.is_some() };
            publish(published_files(&folder, &config, &card)?, repository, args, context)
        }
        None => Ok(()),
    }
}

fn export(network: &ImageClassifier, config: &RunConfig, settings: &OnnxSettings, file: &Path) -> Result<()> {
    let onnx = Onnx::new(network, config, settings)?;
    let largest = onnx.save_and_check(file)?;
    let bytes = number::bytes(std::fs::metadata(file)?.len());
    out!("{}: {} of {} outputs, {bytes}", file.display(), config.architecture, config.num_classes)?;
    out!("takes {}, gives {}", onnx.input(), onnx.output())?;
    out!("{}", resizing(config))?;
    out!("rten, another runtime, gives the same for the images in the file: within {largest:.0e}")?;
    Ok(())
}

/// Writes files of a run to the hub, or to a folder.
fn publish(mut uploads: Vec<HubUpload>, repository: &str, args: &Args, context: &Context) -> Result<()> {
    if let Some(onnx) = &args.onnx {
        uploads.push(HubUpload { path: "model.onnx".to_owned(), content: HubContent::File(onnx.clone()) });
    }
    if let Some(out) = &args.dry_run {
        files::create_dir(out)?;
        for HubUpload { path, content } in &uploads {
            let bytes = match content {
                HubContent::Bytes(bytes) => bytes.clone(),
                HubContent::File(file) => {
                    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?
                }
            };
            files::write(&out.join(path), &bytes)?;
        }
        let names: Vec<&str> = uploads.iter().map(|upload| upload.path.as_str()).collect();
        out!("{} has what {repository} would get: {}", out.display(), names.join(", "))?;
        return Ok(());
    }
    let hub = Hub::new(hub::config()?)?;
    let push =
        HubPush { repository, private: !args.public, files: &uploads, message: "Upload a run of Firstsight" };
    let runtime = &context.runtime;
    let done = hub.push(&push, &mut |progress| runtime.report(&Event::Upload(progress)))?;
    out!("{} has the run in commit {}; {} were sent", done.url, done.commit, number::bytes(done.sent))?;
    Ok(())
}

fn photos(data: &Path, context: &Context) -> Result<Vec<Sample>> {
    if !data.exists() {
        bail!("cannot read {}: there is no such file or folder", data.display());
    }
    let found = firstsight_data::scan_images(&[data.to_path_buf()])?;
    crate::data::say(&found.remarks, &context.runtime);
    Ok(found.samples)
}

/// What is left to do before pixels are an input.
fn resizing(config: &RunConfig) -> String {
    let InputSpec { input_size: (channels, height, width), interpolation, crop_pct, crop_mode, .. } =
        &config.pretrained_cfg;
    let color = if *channels == 1 { "gray" } else { "RGB" };
    let (rows, columns) = config.pretrained_cfg.decode_settings().scale_size();
    let (cover, cut) = match crop_mode {
        ResizeMode::Squash if *crop_pct == 1.0 => ("", String::new()),
        ResizeMode::Squash => ("", format!(", and cut to {height} x {width} in its center")),
        ResizeMode::CenterCrop => ("just cover ", format!(", and cut to {height} x {width} in its center")),
    };
    format!("an image is resized to {cover}{rows} x {columns}, {interpolation}{cut}, {color}")
}

/// Where the photos for calibration of an ONNX file are written.
fn calibration_file(onnx: &Path) -> PathBuf {
    onnx.with_extension("calibration.npy")
}

/// Writes photos, evenly chosen, as inputs of the file.
fn calibrate(
    photos: &[Sample],
    file: &Path,
    config: &RunConfig,
    settings: &OnnxSettings,
    args: &Args,
) -> Result<()> {
    let reading = args.reading.over(config.pretrained_cfg.reading);
    let input = InputSpec { reading, ..config.pretrained_cfg.clone() };
    let n = photos.len().min(args.calibration_images);
    let chosen = (0..n).map(|i| &photos[i * photos.len() / n]);
    let skipped = settings.input.save_photos(chosen, &input, args.on_error.policy(OnError::Skip), file)?;
    for error in &skipped {
        tracing::warn!("left out: {error}");
    }
    out!("{}: {} photos as the file takes them", file.display(), n - skipped.len())?;
    Ok(())
}

fn check(file: &Path) -> Result<()> {
    let runner = OnnxRunner::open(file)?;
    for (key, value) in runner.metadata() {
        out!("{key}: {value}")?;
    }
    let largest = runner.check()?;
    out!("{}: its own images have the outputs that they had: within {largest:.0e}", file.display())?;
    Ok(())
}
