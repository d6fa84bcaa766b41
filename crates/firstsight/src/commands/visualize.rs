use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Result, bail};
use candle_core::ModuleT as _;
use firstsight_data::{DecodedImage, Sample, decode_bytes};
use firstsight_insight::{FeatureVisConfig, Layer, layer_for_evidence};
use firstsight_lecture::visualization::{self as show, Evidence, Subject};
use firstsight_models::InputShape;
use firstsight_report::{Figure, Report, Section, Sheet, Tile, number};
use firstsight_transfer::task::TaskAnswer;
use firstsight_transfer::{Classifier, Interrupted, PredictOptions, Target, files};
use serde::Serialize;

use crate::{context::Context, network::NetworkArgs, values};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    network: NetworkArgs,
    /// Name of a layer, as timm has it (may be repeated) [default: some, first to last]
    #[arg(long, value_name = "NAME")]
    layer: Vec<String>,
    /// Index of a channel (may be repeated) [default: six of each layer]
    #[arg(long, value_name = "N")]
    channel: Vec<usize>,
    /// Image to show layer by layer, with the evidence for its most probable classes or labels, or for a high number
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Number of steps of gradient ascent
    #[arg(long, default_value_t = 256, value_parser = values::positive, value_name = "N")]
    steps: usize,
    /// Image parametrization
    #[arg(long, alias = "painting", value_enum, default_value_t = Parametrization::Frequencies, value_name = "NAME")]
    parametrization: Parametrization,
    /// Weight of the total variation penalty
    #[arg(long, default_value_t = 0.0, value_name = "WEIGHT")]
    total_variation: f64,
    /// Height and width of the pictures, for networks that take any size [default: 160, or the network's input if smaller]
    #[arg(long, value_parser = values::positive, value_name = "PIXELS")]
    side: Option<usize>,
    /// Folder for report.html and the pictures
    #[arg(long, default_value = "visualize", value_name = "DIR")]
    out: PathBuf,
    /// Print one JSON document: each picture with its channel's activation before and after
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Parametrization {
    /// Frequencies of the picture
    Frequencies,
    /// Pixels of the picture
    Pixels,
}

/// One picture.
#[derive(Serialize)]
struct Drawn {
    layer: String,
    channel: usize,
    /// The channel's mean activation for noise.
    start: f64,
    /// The same for the picture.
    reached: f64,
    file: PathBuf,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let classifier = args.network.open(context)?;
    let Classifier { network, weights, origin, input, label_names, .. } = &classifier;
    let kind = network.info();
    let source = format!("{kind}, {origin}");
    let (input, names) = (input.clone(), label_names.clone());
    let subject = Subject::load(kind, weights, input, names, source, &context.runtime.device)?;
    let size = args.size(&subject)?;
    let layers = subject.layers(size)?;
    let chosen = args.chosen(&layers)?;
    let settings = subject.input.decode_settings();
    let photo = match args.image.as_deref() {
        Some(path) => Some((path, decode_bytes(path, &Sample::file(path).read()?, &settings)?)),
        None => None,
    };
    files::create_dir(&args.out)?;

    let mut report = Report::new("Firstsight: what a network sees");
    report.facts(&[
        ("network", kind.to_string()),
        ("weights", origin.clone()),
        ("steps", args.steps.to_string()),
        ("seed", context.seed.to_string()),
    ]);
    let section = report.section(None, "What excites its channels");
    section.text(
        "Each picture began as faint noise, and was changed step by step along the gradient of one channel’s mean activation, \
         shifted and zoomed a little before each step. It shows what the channel responds to most, not what it usually sees.",
    );
    show::show_filters(section, &subject)?;
    let (drawn, interrupted) = draw(args, context, &subject, &chosen, size, section)?;
    if let Some(photo) = photo.filter(|_| !interrupted) {
        image(photo, &classifier, &subject, &chosen, report.section(None, "One image layer by layer"))?;
    }
    let page = args.out.join("report.html");
    report.write(&page)?;
    report.write_pictures(&args.out.join("pictures"))?;
    if args.json {
        out!("{}", serde_json::to_string_pretty(&drawn)?)?;
    } else {
        out!("{}", page.display())?;
    }
    if interrupted {
        return Err(Interrupted(format!("{} finished pictures are kept", drawn.len())).into());
    }
    Ok(())
}

/// The pictures of each layer; each is a file as soon as its layer is done. Returns whether it was interrupted.
fn draw(
    args: &Args,
    context: &Context,
    subject: &Subject,
    chosen: &[(Layer, Vec<usize>)],
    size: (usize, usize),
    section: &mut Section,
) -> Result<(Vec<Drawn>, bool)> {
    let mut drawn = Vec::new();
    let settings = &args.settings(size, subject.input.input_size.0, context.seed);
    let interrupted = context.runtime.interrupt.with_graceful_interrupt(|pressed| -> Result<bool> {
        for (layer, channels) in chosen {
            let visions = context.runtime.counted(&layer.name, |report| {
                subject.draw(&layer.name, channels, size, settings, &mut |done, total| {
                    report(done + 1, total);
                    !pressed.load(Ordering::Relaxed)
                })
            })?;
            if pressed.load(Ordering::Relaxed) {
                return Ok(true);
            }
            for vision in &visions {
                if !(vision.initial_activation.is_finite() && vision.activation.is_finite()) {
                    bail!(
                        "channel {} of {} has the activation {}: the weights or their normalization overflow",
                        vision.channel,
                        layer.name,
                        vision.activation
                    );
                }
                let file = args.out.join(format!("{}-{}.png", layer.name, vision.channel));
                files::write(&file, show::picture(&vision.image)?.png())?;
                let (layer, channel) = (layer.name.clone(), vision.channel);
                drawn.push(Drawn {
                    layer,
                    channel,
                    start: vision.initial_activation,
                    reached: vision.activation,
                    file,
                });
            }
            show::show_visions(section, subject, &layer.name, &visions)?;
        }
        Ok(false)
    })?;
    Ok((drawn, interrupted))
}

/// One image's maps, and where the evidence for what is said of it is.
fn image(
    (path, decoded): (&Path, DecodedImage),
    classifier: &Classifier,
    subject: &Subject,
    chosen: &[(Layer, Vec<usize>)],
    section: &mut Section,
) -> Result<()> {
    let name = show::named(path);
    let bytes = &decoded.pixels[..];
    let (channels, height, width) = subject.input.input_size;
    let whole = firstsight_report::Image::from_pixels(height, width, channels, bytes)?;
    let layers = subject.layers(subject.size())?;
    for (layer, _) in chosen.iter().filter(|(layer, _)| matches!(layer.output, InputShape::Map { .. })) {
        show::show_maps(section, subject, bytes, &layer.name, 16, &name)?;
    }
    let logits: Vec<f32> =
        subject.network.forward_t(&subject.batch(&[bytes])?, false)?.squeeze(0)?.to_vec1()?;
    if let Some(value) = logits.iter().find(|value| !value.is_finite()) {
        bail!("the network says {value} of {name}: its weights or their normalization overflow");
    }
    let Some(layer) = layer_for_evidence(&subject.network, &layers) else { return Ok(()) };
    let said = said(path, decoded.clone(), classifier)?;
    let cases: Vec<Evidence<'_>> = said.iter().map(|&(class, _)| Evidence { image: bytes, class }).collect();
    let mut tiles = vec![Tile::new(whole, "the image")];
    for (picture, (class, figure)) in show::evidence(subject, &cases, &layer.name)?.into_iter().zip(said) {
        tiles.push(Tile::new(picture, subject.label_names[class].clone()).sublabel(figure));
    }
    let what = match classifier.target {
        Target::Class => "its most probable classes",
        Target::Labels { .. } => "its most probable labels",
        Target::Value { .. } => "a high number",
    };
    let caption = format!(
        "Where in {name} the evidence for {what} is, by Grad-CAM at `{}`: the redder, the more",
        layer.name
    );
    section.figure(Figure::new(Sheet::new(tiles, 4), caption, subject.source.clone()));
    Ok(())
}

/// The outputs that an image has evidence for, with what `predict` says of them: the most probable classes or labels, or the number.
fn said(path: &Path, image: DecodedImage, classifier: &Classifier) -> Result<Vec<(usize, String)>> {
    const SHOWN: usize = 3;
    let percent = |probability: f32| number::percent(f64::from(probability), 1);
    let images = vec![(path.to_path_buf(), Ok(image))];
    let mut said = Vec::new();
    if classifier.target == Target::Class {
        for row in classifier.predict_decoded(images, &PredictOptions { top: SHOWN, reject: None })? {
            said.extend(row.answer?.predictions.iter().map(|said| (said.index, percent(said.probability))));
        }
        return Ok(said);
    }
    for row in classifier.predict_decoded_task(images)? {
        match row.answer? {
            TaskAnswer::Value { value, .. } => said.push((0, value.to_string())),
            TaskAnswer::Labels { labels } => {
                let mut labels: Vec<_> = labels.into_iter().enumerate().collect();
                labels.sort_by(|(_, a), (_, b)| b.probability.total_cmp(&a.probability));
                labels.truncate(SHOWN);
                said.extend(labels.into_iter().map(|(i, label)| (i, percent(label.probability))));
            }
        }
    }
    Ok(said)
}

impl Args {
    /// Height and width of the pictures.
    fn size(&self, subject: &Subject) -> Result<(usize, usize)> {
        const USUAL: usize = 160;
        let (height, width) = subject.size();
        let network = &subject.network;
        let any = network.backbone().takes_any_size();
        let smallest = network.info().smallest_input;
        match self.side {
            Some(side) if !any && (side, side) != (height, width) => {
                bail!("{} takes images of {height}x{width} alone: leave --side out", network.info())
            }
            Some(side) if side < smallest || side > 1024 => {
                bail!("--side must lie in {smallest}..=1024 for {}, found {side}", network.info())
            }
            Some(side) => Ok((side, side)),
            None if any => Ok((height.min(USUAL), width.min(USUAL))),
            None => Ok((height, width)),
        }
    }

    /// The layers and their channels; what does not exist is an error.
    fn chosen(&self, layers: &[Layer]) -> Result<Vec<(Layer, Vec<usize>)>> {
        const LAYERS: usize = 5;
        const CHANNELS: usize = 6;
        let known = || layers.iter().map(|layer| layer.name.as_str()).collect::<Vec<_>>().join(", ");
        let named: Vec<&Layer> = if self.layer.is_empty() {
            let maps: Vec<&Layer> = layers
                .iter()
                .filter(|layer| {
                    matches!(layer.output, InputShape::Map { .. })
                        && layer.name.starts_with(['b', 'c', 'l', 's'])
                })
                .collect();
            let spread = show::spread(maps.len(), LAYERS);
            spread.into_iter().map(|i| maps[i]).chain(layers.last()).collect()
        } else {
            let find = |name: &String| match layers.iter().find(|layer| layer.name == *name) {
                Some(layer) => Ok(layer),
                None => bail!("the network has no layer called '{name}'; its layers are {}", known()),
            };
            self.layer.iter().map(find).collect::<Result<_>>()?
        };
        let with_channels = |layer: &Layer| -> Result<(Layer, Vec<usize>)> {
            let n = layer.n_channels();
            if let Some(channel) = self.channel.iter().find(|&&channel| channel >= n) {
                bail!("{} has no channel {channel}: it has channels 0 to {}", layer.name, n - 1);
            }
            let channels = match self.channel.is_empty() {
                true => show::spread(n, CHANNELS),
                false => self.channel.clone(),
            };
            Ok((layer.clone(), channels))
        };
        named.into_iter().map(with_channels).collect()
    }

    fn settings(&self, (height, width): (usize, usize), channels: usize, seed: u64) -> FeatureVisConfig {
        FeatureVisConfig {
            steps: self.steps,
            lr: 0.05,
            parametrization: match self.parametrization {
                Parametrization::Frequencies => firstsight_insight::Parametrization::Fourier { decay: 1.0 },
                Parametrization::Pixels => firstsight_insight::Parametrization::Pixels,
            },
            jitter: height.min(width) as f64 / 20.0,
            zoom: (0.9, 1.1),
            total_variation: self.total_variation,
            noise: if channels == 1 { show::STROKES } else { show::COLORS },
            seed,
        }
    }
}
