use anyhow::Result;
use firstsight_models::summary::Style;
use firstsight_models::{Framework, ImageClassifier, Init, InputShape, ModelInfo, Params};

use crate::{
    context::Context,
    json::SummaryJson,
    stdio,
    values::{self, InputSize},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model to describe
    #[arg(value_parser = values::model, value_name = "MODEL")]
    model: &'static ModelInfo,
    /// Input size [default: the model's usual one]
    #[arg(long, value_name = "HxWxC")]
    input: Option<InputSize>,
    /// Number of classes [default: as many as in the lecture or the paper]
    #[arg(long, value_parser = values::positive, value_name = "N")]
    classes: Option<usize>,
    /// Style of the table
    #[arg(long, default_value = "firstsight", value_name = "STYLE")]
    style: StyleName,
    /// Leave out the layers after the last feature maps, as Keras's include_top=False
    #[arg(long)]
    no_head: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum StyleName {
    /// Modules that have tensors or change the shape, with multiply-adds and memory
    Firstsight,
    /// Every layer by Keras's name; running statistics counted as parameters
    Keras,
    /// timm's modules and PyTorch's classes, channels first
    Timm,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let InputSize { height, width, channels } = InputSize::or_usual(args.input, args.model);
    let params = Params::zeros(&context.runtime.device);
    let input = InputShape::Map { channels, height, width };
    let classes = args.classes.unwrap_or(args.model.usual_classes);
    let (style, framework) = match args.style {
        StyleName::Firstsight => (Style::Firstsight, Framework::Torch),
        StyleName::Keras => (Style::Keras, Framework::Keras),
        StyleName::Timm => (Style::Timm, Framework::Torch),
    };
    let network =
        ImageClassifier::with_framework(args.model, framework, input, classes, Init::Keras, &params)?;
    let mut summary = network.summary_as(style);
    if args.no_head {
        summary = summary.without_head();
    }
    if args.json {
        out!("{}", serde_json::to_string_pretty(&SummaryJson::from(&summary))?)?;
    } else {
        stdio::write(summary.to_string().as_bytes())?;
    }
    Ok(())
}
