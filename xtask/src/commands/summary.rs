use anyhow::Result;
use firstsight_models::{Dims, ImageClassifier, ModelKind, Params, Scheme};

use crate::env::Env;
use crate::json::SummaryJson;
use crate::values::{self, InputSize};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model
    #[arg(value_parser = values::model)]
    model: ModelKind,
    /// Input size
    #[arg(long, default_value = "80x60x1", value_name = "HxWxC")]
    input: InputSize,
    /// Classes
    #[arg(long, default_value_t = 55, value_parser = values::positive, value_name = "N")]
    classes: usize,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, env: &Env) -> Result<()> {
    let InputSize { height, width, channels } = args.input;
    let params = Params::seeded(env.seed, &env.device);
    let input = Dims::Map { channels, height, width };
    let network = ImageClassifier::new(args.model, input, args.classes, Scheme::Keras, &params)?;
    let summary = network.summary();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&SummaryJson::from(&summary))?);
    } else {
        print!("{summary}");
    }
    Ok(())
}
