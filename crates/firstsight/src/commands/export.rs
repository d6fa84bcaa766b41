use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use candle_core::Device;
use firstsight_data::{InputSpec, OnError, ResizeMode, Sample};
use firstsight_export::{Onnx, OnnxInput, OnnxOutput, OnnxRunner, OnnxSettings};
use firstsight_report::number;
use firstsight_transfer::{RunConfig, RunFolder, files};

use crate::{context::Context, reading::ReadingArgs, values};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run to export, or a folder with a network's config.json and model.safetensors
    #[arg(value_name = "RUN", required_unless_present = "check")]
    run: Option<PathBuf>,
    /// Write the network as an ONNX file, which is then run on images that it holds
    #[arg(long, value_name = "FILE", required_unless_present = "check")]
    onnx: Option<PathBuf>,
    /// What the file takes
    #[arg(long, value_enum, default_value_t = Input::Uint8Nhwc, value_name = "NAME")]
    input: Input,
    /// What the file gives
    #[arg(long, value_enum, default_value_t = Output::Answers, value_name = "NAME")]
    output: Output,
    /// License of the weights, for the file's metadata [default: that of the weights that were fine-tuned, where it is known]
    #[arg(long, value_name = "TEXT")]
    license: Option<String>,
    /// Photos that are written as inputs of the file to FILE.calibration.npy, for quantization: a folder, a table, Parquet files or tar
    /// shards
    #[arg(long, value_name = "DATA")]
    calibration: Option<PathBuf>,
    /// Most photos for calibration
    #[arg(long, default_value_t = 200, value_parser = values::positive, value_name = "N", requires = "calibration")]
    calibration_images: usize,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Run an ONNX file that was exported on the images that it holds, and say what it is
    #[arg(long, value_name = "FILE", conflicts_with_all = ["run", "onnx", "input", "output", "license", "calibration"])]
    check: Option<PathBuf>,
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
    match (&args.check, &args.run, &args.onnx) {
        (Some(file), ..) => check(file),
        (None, Some(run), Some(file)) => export(run, file, args, context),
        _ => bail!("expected a run and a file: export RUN --onnx FILE"),
    }
}

fn export(run: &Path, file: &Path, args: &Args, context: &Context) -> Result<()> {
    let folder = RunFolder::open(run)?;
    files::check_writable(file)?;
    let photos = args.calibration.as_deref().map(|data| photos(data, context)).transpose()?;
    // Outputs for the check are computed where everybody has them.
    let (network, config) = folder.load(&Device::Cpu)?;
    let settings = args.settings(&folder);
    let onnx = Onnx::new(&network, &config, &settings)?;
    let largest = onnx.save_and_check(file)?;
    let bytes = number::bytes(std::fs::metadata(file)?.len());
    println!("{}: {} of {} outputs, {bytes}", file.display(), config.architecture, config.num_classes);
    println!("takes {}, gives {}", onnx.input(), onnx.output());
    println!("{}", resizing(&config));
    println!("rten, another runtime, gives the same for the images in the file: within {largest:.0e}");
    if let Some(photos) = photos {
        calibrate(&photos, &file.with_extension("calibration.npy"), &config, &settings, args)?;
    }
    Ok(())
}

fn photos(data: &Path, context: &Context) -> Result<Vec<Sample>> {
    let found = firstsight_data::scan_images(&[data.to_path_buf()])?;
    crate::data::say(&found.remarks, &context.runtime);
    Ok(found.samples)
}

/// What is left to do before pixels are an input.
fn resizing(config: &RunConfig) -> String {
    let InputSpec { input_size: (channels, height, width), interpolation, crop_pct, crop_mode, .. } =
        &config.pretrained_cfg;
    let color = if *channels == 1 { "gray" } else { "RGB" };
    match crop_mode {
        ResizeMode::Squash => format!("an image is resized to {height} x {width}, {interpolation}, {color}"),
        ResizeMode::CenterCrop => {
            let (rows, columns) = (*height as f64 / crop_pct, *width as f64 / crop_pct);
            format!(
                "an image is resized to just cover {rows:.0} x {columns:.0}, {interpolation}, and cut to {height} x {width} in its center, {color}"
            )
        }
    }
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
    let skipped = settings.input.save_photos(chosen, &input, args.reading.on_error(OnError::Skip), file)?;
    for error in &skipped {
        tracing::warn!("left out: {error}");
    }
    println!("{}: {} photos as the file takes them", file.display(), n - skipped.len());
    Ok(())
}

fn check(file: &Path) -> Result<()> {
    let runner = OnnxRunner::open(file)?;
    for (key, value) in runner.metadata() {
        println!("{key}: {value}");
    }
    let largest = runner.check()?;
    println!("{}: its own images have the outputs that they had: within {largest:.0e}", file.display());
    Ok(())
}
