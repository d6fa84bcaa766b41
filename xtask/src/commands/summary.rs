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
    /// Input size [default: the model's usual one]
    #[arg(long, value_name = "HxWxC")]
    input: Option<InputSize>,
    /// Classes [default: as many as in the lecture or the paper]
    #[arg(long, value_parser = values::positive, value_name = "N")]
    classes: Option<usize>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, env: &Env) -> Result<()> {
    let InputSize { height, width, channels } = InputSize::or_usual(args.input, args.model);
    let params = Params::seeded(env.seed, &env.device);
    let input = Dims::Map { channels, height, width };
    let network = ImageClassifier::new(
        args.model,
        input,
        args.classes.unwrap_or(args.model.usual_classes()),
        Scheme::Keras,
        &params,
    )?;
    let summary = network.summary();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&SummaryJson::from(&summary))?);
    } else {
        print!("{summary}");
    }
    Ok(())
}
