use anyhow::Result;
use candle_core::Device;
use firstsight_models::{ImageClassifier, InputShape, ModelInfo, Params, registry};
use firstsight_report::number;
use serde::Serialize;

use crate::values::InputSize;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Part of a name or family [default: all]
    #[arg(value_name = "PATTERN")]
    pattern: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// A network in the list.
#[derive(Serialize)]
struct ModelJson {
    name: &'static str,
    timm: Option<&'static str>,
    family: &'static str,
    paper: &'static str,
    /// Whether every variable can be trained, and not the last layer alone.
    trains_whole: bool,
    /// Parameters at the usual input and number of classes.
    params: usize,
    /// (H, W, C).
    input: [usize; 3],
    weights: Vec<WeightsJson>,
}

/// Published weights of a network.
#[derive(Serialize)]
struct WeightsJson {
    repository: &'static str,
    license: Option<&'static str>,
    /// Top-1 accuracy on ImageNet in percent.
    top1: Option<f64>,
}

impl ModelJson {
    fn new(info: &'static ModelInfo) -> Result<Self> {
        let (channels, height, width) = info.usual_input;
        let params = Params::zeros(&Device::Cpu);
        let input = InputShape::Map { channels, height, width };
        let network = ImageClassifier::new(info, input, info.usual_classes, info.init, &params)?;
        let weights = info.weights.iter().map(|weights| WeightsJson {
            repository: weights.repository,
            license: weights.license,
            top1: weights.top1,
        });
        Ok(Self {
            name: info.name,
            timm: info.timm,
            family: info.family,
            paper: info.paper,
            trains_whole: true,
            params: network.summary().total_params(),
            input: [height, width, channels],
            weights: weights.collect(),
        })
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let pattern = args.pattern.as_deref().unwrap_or_default().to_lowercase();
    let is_wanted = |info: &&'static ModelInfo| {
        info.names().chain([info.family]).any(|name| name.to_lowercase().contains(&pattern))
    };
    let wanted = registry::all().into_iter().filter(is_wanted);
    let models = wanted.map(ModelJson::new).collect::<Result<Vec<_>>>()?;
    if args.json {
        out!("{}", serde_json::to_string_pretty(&models)?)?;
        return Ok(());
    }
    if models.is_empty() {
        registry::find(&pattern)?;
    }
    let rows: Vec<[String; 6]> = models.iter().map(row).collect();
    let header = ["name", "parameters", "input", "top-1", "license", "published weights"];
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).chain([header[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let [name, params, input, top1, license, weights] = row;
        let [a, b, c, d, e, _] = widths;
        out!("  {name:a$}  {params:>b$}  {input:c$}  {top1:>d$}  {license:e$}  {weights}")
    };
    line(&header.map(str::to_owned))?;
    let mut family = "";
    for (model, row) in models.iter().zip(&rows) {
        if model.family != family {
            family = model.family;
            let paper = if model.paper.is_empty() { String::new() } else { format!(": {}", model.paper) };
            out!("\n{family}{paper}")?;
        }
        line(row)?;
    }
    out!(
        "\nNetworks: {}. Each can be trained whole or in part, and fine-tuned from its weights.",
        models.len()
    )?;
    Ok(())
}

/// Names, parameters, input, top-1, license and repository.
fn row(model: &ModelJson) -> [String; 6] {
    let [height, width, channels] = model.input;
    let weights = model.weights.first();
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let timm = model.timm.filter(|timm| *timm != model.name);
    [
        timm.map_or(model.name.to_owned(), |timm| format!("{}, {timm}", model.name)),
        number::count(model.params as u64),
        InputSize { height, width, channels }.to_string(),
        or_dash(weights.and_then(|weights| weights.top1).map(|top1| format!("{top1:.1}"))),
        or_dash(weights.map(|weights| weights.license.unwrap_or("unknown").to_owned())),
        or_dash(weights.map(|weights| weights.repository.to_owned())),
    ]
}
