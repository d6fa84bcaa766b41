use anyhow::Result;
use candle_core::Device;
use firstsight_models::{ImageClassifier, InputShape, ModelInfo, Params, registry};
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
        println!("{}", serde_json::to_string_pretty(&models)?);
        return Ok(());
    }
    println!(
        "{:14}{:20}{:>12}  {:12}{:>7}  published weights",
        "name", "family", "parameters", "input", "top-1"
    );
    for model in &models {
        let [height, width, channels] = model.input;
        let weights = model.weights.first();
        println!(
            "{:14}{:20}{:>12}  {:12}{:>7}  {}",
            model.name,
            model.family,
            model.params,
            InputSize { height, width, channels }.to_string(),
            weights
                .and_then(|weights| weights.top1)
                .map_or_else(|| "-".to_owned(), |top1| format!("{top1:.1}")),
            weights.map_or_else(
                || "-".to_owned(),
                |w| format!("{} ({})", w.repository, w.license.unwrap_or("license unknown"))
            ),
        );
    }
    Ok(())
}
