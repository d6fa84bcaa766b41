//! A run for other people: the files that a repository of the hub gets, and its model card.

use firstsight_models::registry;
use serde_json::{Map, Value, json};

use crate::figures::SHOWN;
use crate::run_folder::is_refit;
use crate::{HubContent, HubUpload, Pretrained, Result, RunConfig, RunFolder, Target, files};

/// What a card says that a run does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardSettings<'a> {
    /// The repository, `owner/name`.
    pub repository: &'a str,
    /// The license of the weights. Without it the card says that it is unknown.
    pub license: Option<&'a str>,
    /// Whether the repository has `model.onnx`.
    pub has_onnx: bool,
}

/// The files of a run that timm, Firstsight and people need: `config.json`, the weights, what tells images of no class, and the
/// card.
///
/// Names of photos and folders of this machine stay here: `split.csv`, `predictions.csv`, the report, the checkpoint, and the
/// part of `config.json` that says where the data were.
///
/// # Errors
///
/// [`crate::Error::Io`], [`crate::Error::Config`] for a run that cannot be read.
pub fn published_files(
    run: &RunFolder,
    config: &RunConfig,
    settings: &CardSettings<'_>,
) -> Result<Vec<HubUpload>> {
    let upload = |path: &str, content| HubUpload { path: path.to_owned(), content };
    let mut document = config.document()?;
    document.remove("data");
    let unusable = |e: serde_json::Error| crate::Error::Config { path: run.config(), reason: e.to_string() };
    let mut config_json = files::json(&document).map_err(unusable)?;
    config_json.push('\n');
    let card = model_card(run, config, settings)?;
    let mut uploads = vec![
        upload("README.md", HubContent::Bytes(card.into_bytes())),
        upload("config.json", HubContent::Bytes(config_json.into_bytes())),
        upload("model.safetensors", HubContent::File(run.weights())),
    ];
    if run.reject().is_file() {
        uploads.push(upload("reject.safetensors", HubContent::File(run.reject())));
    }
    Ok(uploads)
}

/// The model card of a run, in Markdown with the metadata that the hub reads.
///
/// # Errors
///
/// [`crate::Error::Io`], [`crate::Error::Config`] for a run without figures.
pub fn model_card(run: &RunFolder, config: &RunConfig, settings: &CardSettings<'_>) -> Result<String> {
    Ok(Card { config, metrics: run.read_metrics()?, settings }.text())
}

struct Card<'a> {
    config: &'a RunConfig,
    metrics: Map<String, Value>,
    settings: &'a CardSettings<'a>,
}

impl Card<'_> {
    fn text(&self) -> String {
        let sections = [
            self.front(),
            self.title(),
            self.classes(),
            self.results(),
            self.confidence(),
            self.usage(),
            self.training(),
        ];
        sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n")
    }

    fn name(&self) -> &str {
        self.settings.repository.split_once('/').map_or(self.settings.repository, |(_, name)| name)
    }

    /// The repository of the weights that were fine-tuned, where they are one of the hub's.
    fn base_model(&self) -> Option<&str> {
        Pretrained::repository(self.metrics.get("weights")?.as_str()?)
    }

    /// The images that count for the result, with their figures: those of the test, or else the validation images.
    fn held_out(&self) -> Option<(&'static str, &Map<String, Value>)> {
        [("test", "test"), ("val", "validation")]
            .into_iter()
            .find_map(|(key, name)| Some((name, self.metrics.get(key)?.as_object()?)))
    }

    /// The figures that are shown, with their names in words and in the metadata.
    fn figures(&self) -> Vec<(&'static str, &'static str, f64)> {
        let Some((_, figures)) = self.held_out() else { return Vec::new() };
        SHOWN.iter().filter_map(|(key, name)| Some((*key, *name, figures.get(*key)?.as_f64()?))).collect()
    }

    fn has_timm(&self) -> bool {
        registry::find(&self.config.architecture).is_ok_and(|info| info.timm.is_some())
    }

    /// Metadata as YAML, of which JSON is a part: every value is written as JSON, so no name can break out of its place.
    fn front(&self) -> String {
        let mut fields = Map::new();
        let mut tags = vec!["image-classification", "firstsight"];
        if self.has_timm() {
            fields.insert("library_name".into(), "timm".into());
            tags.push("timm");
        }
        if self.settings.has_onnx {
            tags.push("onnx");
        }
        fields.insert("pipeline_tag".into(), "image-classification".into());
        fields.insert("tags".into(), json!(tags));
        if let Some(license) = self.settings.license {
            fields.insert("license".into(), license.to_lowercase().into());
        }
        if let Some(base) = self.base_model() {
            fields.insert("base_model".into(), base.into());
        }
        if let (Some((part, _)), figures) = (self.held_out(), self.figures())
            && !figures.is_empty()
        {
            let metrics: Vec<Value> = figures
                .iter()
                .map(|(key, name, value)| json!({"type": key, "name": name, "value": value}))
                .collect();
            let result = json!({
                "task": {"type": "image-classification"},
                "dataset": {"name": format!("the {part} images"), "type": "imagefolder"},
                "metrics": metrics,
            });
            fields.insert("model-index".into(), json!([{"name": self.name(), "results": [result]}]));
        }
        let lines: String = fields.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
        format!("---\n{lines}---\n")
    }

    fn title(&self) -> String {
        let task = match &self.config.target {
            Target::Class => format!("says which of {} classes an image shows", self.config.num_classes),
            Target::Labels { .. } => format!("says which of {} labels an image has", self.config.num_classes),
            Target::Value { .. } => "estimates a number from an image".to_owned(),
        };
        let from = match (self.base_model(), self.metrics.contains_key("weights")) {
            (Some(base), _) => format!(", fine-tuned from [{base}](https://huggingface.co/{base})"),
            (None, true) => ", fine-tuned from pretrained weights".to_owned(),
            (None, false) => String::new(),
        };
        let license = match self.settings.license {
            Some(license) => format!("License of the weights: {}.", escaped(license)),
            None => "The license of the weights is not known.".to_owned(),
        };
        let title = escaped(self.name());
        format!("# {title}\n\nA {} that {task}{from}. {license}\n", self.config.architecture)
    }

    fn classes(&self) -> String {
        const SHOWN: usize = 200;
        if matches!(self.config.target, Target::Value { .. }) {
            return String::new();
        }
        let names = &self.config.label_names;
        let counts = self.per_class();
        let rows: String = names
            .iter()
            .take(SHOWN)
            .enumerate()
            .map(|(i, name)| {
                let figure = |key: &str| {
                    let row = counts.get(i)?.as_object()?;
                    let value = row.get(key)?.as_f64()?;
                    Some(if key == "n" { format!("{value}") } else { format!("{value:.3}") })
                };
                let cell = |key| figure(key).unwrap_or_else(|| "–".to_owned());
                format!(
                    "| {} | {} | {} | {} |\n",
                    escaped(name),
                    cell("n"),
                    cell("precision"),
                    cell("recall")
                )
            })
            .collect();
        let more = match names.len().saturating_sub(SHOWN) {
            0 => String::new(),
            n => format!("\nAnd {n} more, in `config.json`.\n"),
        };
        let part = self.held_out().map_or("held-out", |(name, _)| name);
        let (title, one) = match self.config.target {
            Target::Labels { .. } => ("Labels", "label"),
            Target::Class | Target::Value { .. } => ("Classes", "class"),
        };
        format!(
            "## {title}\n\n| {one} | {part} images | precision | recall |\n| --- | --- | --- | --- |\n{rows}{more}"
        )
    }

    fn per_class(&self) -> &[Value] {
        let rows = self
            .held_out()
            .and_then(|(_, figures)| figures.get("per_class").or(figures.get("per_label"))?.as_array());
        rows.map_or(&[], Vec::as_slice)
    }

    fn results(&self) -> String {
        let Some((part, figures)) = self.held_out() else { return String::new() };
        let interval = |key: &str| {
            let ends = figures.get(&format!("{key}_interval"))?.as_array()?;
            let [low, high] = &ends[..] else { return None };
            Some(format!("{:.4} to {:.4}", low.as_f64()?, high.as_f64()?))
        };
        let rows: String = self
            .figures()
            .iter()
            .map(|(key, name, value)| {
                format!("| {name} | {value:.4} | {} |\n", interval(key).unwrap_or_else(|| "–".to_owned()))
            })
            .collect();
        let n = figures.get("n").and_then(Value::as_u64).unwrap_or_default();
        // A last layer that was fitted by itself, on features, has no epochs, and its settings are the training images' choice.
        let has_epochs = self.metrics.get("epochs").is_some_and(|epochs| *epochs != json!(0));
        let seen = match part {
            "test" => "which played no part in training",
            _ if is_refit(&self.metrics) => "before the last layer was trained on them too",
            _ if has_epochs => "which chose the epoch that is kept, so new photos can do a little worse",
            _ => match self.config.target {
                Target::Class => "which played no part in training but for the temperature",
                Target::Labels { .. } => "which played no part in training but for the thresholds",
                Target::Value { .. } => "which played no part in training",
            },
        };
        let thresholds = match (&self.config.target, part) {
            (Target::Labels { .. }, "validation") => {
                " They chose the labels' thresholds for the highest F1, so F1 and the share of images with all labels right tend to be \
                 higher here than on new photos. The mean average precision does not depend on thresholds."
            }
            _ => "",
        };
        format!(
            "## Results\n\nMeasured on {n} {part} images, {seen}.{thresholds} Intervals are of 95 %, by Wilson's method.\n\n\
             | figure | value | interval |\n| --- | --- | --- |\n{rows}"
        )
    }

    fn confidence(&self) -> String {
        let mut said = Vec::new();
        if let Some(temperature) = self.config.temperature {
            said.push(format!(
                "Probabilities are softmax(z / {temperature:.4}) of the logits z: this temperature calibrates them. timm does not apply it."
            ));
        }
        if self.config.reject.is_some() {
            said.push(
                "`firstsight predict --reject` answers 'none of these' for an image that is unlike the training images.".to_owned(),
            );
        }
        if said.is_empty() { String::new() } else { format!("## Confidence\n\n{}\n", said.join(" ")) }
    }

    fn usage(&self) -> String {
        let repository = self.settings.repository;
        let does = match self.config.target {
            Target::Class => "crops as in training, calibrates and rejects",
            Target::Labels { .. } => "crops as in training and knows the thresholds",
            Target::Value { .. } => "crops as in training and gives numbers in their units",
        };
        let mut ways = vec![format!(
            "With [Firstsight](https://github.com/firstsight-rs/firstsight), which {does}:\n\n\
             ```sh\nfirstsight predict --pretrained {repository} photo.jpg\n```\n"
        )];
        if self.has_timm() {
            let (json, download, answer) = match &self.config.target {
                Target::Class => (
                    "",
                    "",
                    "probabilities = outputs.softmax(0)\n\
                     print(model.pretrained_cfg[\"label_names\"][probabilities.argmax()])"
                        .to_owned(),
                ),
                Target::Labels { .. } => (
                    "import json\n\n",
                    "from huggingface_hub import hf_hub_download\n",
                    format!(
                        "with open(hf_hub_download(\"{repository}\", \"config.json\")) as file:\n    config = json.load(file)\n\
                         labels = zip(config[\"label_names\"], outputs.sigmoid(), config[\"thresholds\"])\n\
                         print([label for label, probability, threshold in labels if probability >= threshold])"
                    ),
                ),
                Target::Value { mean, std } => ("", "", format!("print(outputs.item() * {std} + {mean})")),
            };
            ways.push(format!(
                "With timm:\n\n```python\n{json}import timm\nimport torch\n{download}from PIL import Image\n\n\
                 model = timm.create_model(\"hf-hub:{repository}\", pretrained=True).eval()\n\
                 transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)\n\
                 image = transform(Image.open(\"photo.jpg\").convert(\"RGB\"))\n\
                 with torch.no_grad():\n    outputs = model(image[None])[0]\n\
                 {answer}\n```\n"
            ));
        }
        if self.settings.has_onnx {
            ways.push(
                "With ONNX Runtime: `model.onnx` takes uint8 images (B, H, W, C) of the right size; its metadata say how to resize, and have the names.\n"
                    .to_owned(),
            );
        }
        format!("## Use\n\n{}", ways.join("\n"))
    }

    fn training(&self) -> String {
        let mut said = Vec::new();
        for (key, name) in [("preset", "preset"), ("epochs", "epochs"), ("kept", "kept")] {
            // A last layer that was fitted by itself has no epochs.
            let found = self.metrics.get(key).filter(|value| !value.is_null() && **value != json!(0));
            if let Some(value) = found {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                said.push(format!("- {name}: {}\n", escaped(&value)));
            }
        }
        if let Some(training) = &self.config.training {
            said.push(format!("- seed: {}\n", training.seed));
        }
        let (channels, height, width) = self.config.pretrained_cfg.input_size;
        said.push(format!("- input: {channels} × {height} × {width}\n"));
        format!("## Training\n\n{}", said.concat())
    }
}

/// Text that Markdown and the hub's page show as it is.
fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '&' => shown.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '!' | '~' => {
                shown.push('\\');
                shown.push(c);
            }
            c if c.is_control() => shown.push(' '),
            c => shown.push(c),
        }
    }
    shown
}
