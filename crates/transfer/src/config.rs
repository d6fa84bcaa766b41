//! `config.json` as timm and the Hugging Face Hub have it: read leniently, and written for a run.

use std::path::Path;

use firstsight_data::{AugmentationConfig, InputSpec, Interpolation, Reading, ResizeMode, ScanOptions};
use firstsight_models::registry;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::task::{Target, TargetFields};
use crate::{COVERAGE, Error, Reject, Result, Thresholds, files};

/// The content of a network's `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct HubModelConfig {
    /// timm's name of the network.
    pub architecture: Option<String>,
    /// timm's tag of the training data: `ra_in1k`, `in21k_ft_in1k`.
    pub tag: Option<String>,
    /// Outputs of the last layer.
    pub num_classes: Option<usize>,
    /// Names of the classes in the order of the outputs, where the file has them.
    pub label_names: Option<Vec<String>>,
    /// Preprocessing of an image. Without [`reading`](Self::reading) it is Pillow's.
    pub input: InputSpec,
    /// How the pixels of files were read in training, where the file says.
    pub reading: Option<Reading>,
    /// The temperature of the probabilities of a run of ours.
    pub temperature: Option<f64>,
    /// Whether a run of ours has learned what images of none of its classes are.
    pub rejects: bool,
    /// The meaning of the outputs.
    pub(crate) target: TargetFields,
}

impl HubModelConfig {
    /// Reads a file. Fields stand in `pretrained_cfg` or, as in older files, at the top. What is missing is taken from
    /// `usual`.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Config`] for a file that is not JSON, or a field of another type or an unusable
    /// value.
    pub fn read(path: &Path, usual: &InputSpec) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Self::parse(&text, usual).map_err(|reason| Error::Config { path: path.to_path_buf(), reason })
    }

    fn parse(text: &str, usual: &InputSpec) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let Value::Object(top) = &value else { return Err("expected an object".to_owned()) };
        let inner = match top.get("pretrained_cfg") {
            Some(Value::Object(inner)) => Some(inner),
            _ => None,
        };
        let fields = Fields { inner, top };
        let reading: Option<Reading> = match top.get("reading") {
            Some(value) => Some(
                Reading::deserialize(value)
                    .map_err(|e| format!("reading: {e}, found {}", shortened(value)))?,
            ),
            None => None,
        };
        let input = InputSpec {
            input_size: fields.get("input_size", "[C, H, W]", size)?.unwrap_or(usual.input_size),
            interpolation: fields
                .get("interpolation", "nearest, bilinear, bicubic or lanczos", interpolation)?
                .unwrap_or(usual.interpolation),
            crop_pct: fields.get("crop_pct", "a number", Value::as_f64)?.unwrap_or(usual.crop_pct),
            crop_mode: fields.get("crop_mode", "center or squash", crop_mode)?.unwrap_or(usual.crop_mode),
            mean: fields.get("mean", "a number a channel", channels)?.unwrap_or_else(|| usual.mean.clone()),
            std: fields.get("std", "a number a channel", channels)?.unwrap_or_else(|| usual.std.clone()),
            reading: reading.unwrap_or(Reading::pillow()),
        };
        input.check().map_err(|e| e.to_string())?;
        let target = TargetFields::deserialize(&value).map_err(|e| e.to_string())?;
        let count = |v: &Value| v.as_u64().map(|n| n as usize);
        let text = |v: &Value| v.as_str().map(str::to_owned);
        Ok(Self {
            architecture: fields.get("architecture", "a name", text)?,
            tag: fields.get("tag", "a name", text)?,
            num_classes: fields.get("num_classes", "a number", count)?,
            label_names: fields.get("label_names", "a list of names", names)?,
            input,
            reading,
            temperature: fields
                .get("temperature", "a number", Value::as_f64)?
                .filter(|t| t.is_finite() && *t > 0.0),
            rejects: top.get("reject").is_some_and(|reject| !reject.is_null()),
            target,
        })
    }
}

impl HubModelConfig {
    /// Whether the classes are ImageNet-1k's, by the tag's last part.
    pub fn is_imagenet(&self) -> bool {
        self.tag.as_deref().and_then(|tag| tag.rsplit('_').next()) == Some("in1k")
    }
}

/// The `config.json` of a run.
#[derive(Debug, Clone, Serialize)]
pub struct RunConfig {
    /// timm's name of the network, where timm has it.
    pub architecture: String,
    /// Number of outputs.
    pub num_classes: usize,
    /// Number of features that the last layer takes.
    pub num_features: usize,
    /// Names of the classes in the order of the outputs.
    pub label_names: Vec<String>,
    /// Whether the file names the classes; otherwise they are numbered.
    #[serde(skip)]
    pub named: bool,
    /// The meaning of the outputs.
    #[serde(flatten)]
    pub target: Target,
    /// Preprocessing of an image.
    pub pretrained_cfg: InputSpec,
    /// The training, for a run of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingRecord>,
    /// How the labels and images of the training were found.
    #[serde(rename = "data", skip_serializing_if = "ScanOptions::is_silent")]
    pub options: ScanOptions,
    /// The temperature of the probabilities (see [`Predictions::temperature`](firstsight_train::Predictions::temperature)), from
    /// the validation images; none where it would not help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// When an image is taken for none of the classes, at the usual coverage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reject: Option<Thresholds>,
}

impl RunConfig {
    /// With what the validation images say about confidence.
    pub(crate) fn calibrated(self, temperature: Option<f64>, reject: Option<&Reject>) -> Result<Self> {
        let reject = reject.map(|reject| reject.thresholds(COVERAGE)).transpose()?;
        Ok(Self { temperature, reject, ..self })
    }

    /// Writes the file, with the fields that timm reads from `pretrained_cfg` for networks that it has. How files are read
    /// stands at the top, as `reading`.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] for a file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        files::write_json(path, &Value::Object(self.document()?))
    }

    /// The content of the file.
    ///
    /// # Errors
    ///
    /// [`Error::Models`] for an architecture that the registry lacks.
    pub fn document(&self) -> Result<Map<String, Value>> {
        let unusable =
            |e: serde_json::Error| Error::Config { path: "config.json".into(), reason: e.to_string() };
        let mut document = serde_json::to_value(self).map_err(unusable)?;
        let numbers = &mut document["pretrained_cfg"];
        numbers["mean"] = shortest(&self.pretrained_cfg.mean);
        numbers["std"] = shortest(&self.pretrained_cfg.std);
        document["reading"] = serde_json::to_value(self.pretrained_cfg.reading).map_err(unusable)?;
        let kind = registry::find(&self.architecture)?;
        if let (Some(_), Some(first)) = (kind.timm, kind.first_conv) {
            let fields = &mut document["pretrained_cfg"];
            fields["num_classes"] = self.num_classes.into();
            fields["first_conv"] = first.into();
            fields["classifier"] = kind.head_name().into();
        }
        match document {
            Value::Object(document) => Ok(document),
            _ => Ok(Map::new()),
        }
    }
}

/// Numbers with no more digits than float32 has.
fn shortest(values: &[f32]) -> Value {
    values.iter().map(|value| value.to_string().parse::<f64>().unwrap_or(f64::from(*value))).collect()
}

/// The settings of a training that evaluation and resumption need.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// Seed of initial weights, shuffling and augmentation.
    pub seed: u64,
    /// Seed of the split of a folder without validation images.
    pub split_seed: u32,
    /// Batch size.
    pub batch_size: usize,
    /// Number of shards of a batch; see [`FitConfig::shards`](firstsight_train::FitConfig::shards).
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub shards: usize,
    /// Learning rate.
    pub learning_rate: f64,
    /// Random changes of the training images.
    #[serde(default)]
    pub augmentation: AugmentationConfig,
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(shards: &usize) -> bool {
    *shards == 1
}

/// The batch size as a setting, with the number of shards where there are several.
pub(crate) fn batch_setting(batch_size: usize, shards: usize) -> String {
    match shards {
        1 => batch_size.to_string(),
        _ => format!("{batch_size} in {shards} shards"),
    }
}

/// The fields of a run's `config.json` that a pretrained network's need not have.
#[derive(Deserialize)]
pub(crate) struct StatedConfig {
    pub(crate) architecture: String,
    pub(crate) label_names: Option<Vec<String>>,
    pub(crate) training: Option<TrainingRecord>,
    #[serde(default, rename = "data")]
    pub(crate) options: ScanOptions,
    pub(crate) reject: Option<Thresholds>,
}

impl StatedConfig {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let unusable =
            |e: serde_json::Error| Error::Config { path: path.to_path_buf(), reason: e.to_string() };
        serde_json::from_str(&text).map_err(unusable)
    }
}

/// Fields that timm takes from the outer object before the inner one, which has them as they were in pretraining.
const OF_THE_NETWORK: [&str; 3] = ["architecture", "num_classes", "label_names"];

/// The fields of the inner object, else of the outer; [`OF_THE_NETWORK`] the other way round.
struct Fields<'a> {
    inner: Option<&'a Map<String, Value>>,
    top: &'a Map<String, Value>,
}

impl Fields<'_> {
    fn get<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let top = self.top.get(name).filter(|value| !value.is_null());
        let inner = self.inner.and_then(|inner| inner.get(name)).filter(|value| !value.is_null());
        let value = if OF_THE_NETWORK.contains(&name) { top.or(inner) } else { inner.or(top) };
        match value {
            None => Ok(None),
            Some(value) => {
                let wrong = || format!("{name} should be {expected}, found {}", shortened(value));
                read(value).map(Some).ok_or_else(wrong)
            }
        }
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn size(value: &Value) -> Option<(usize, usize, usize)> {
    let numbers: Vec<usize> =
        value.as_array()?.iter().map(|v| v.as_u64().map(|n| n as usize)).collect::<Option<_>>()?;
    let &[c, h, w] = numbers.as_slice() else { return None };
    [c, h, w].iter().all(|side| (1..=4096).contains(side)).then_some((c, h, w))
}

fn channels(value: &Value) -> Option<Vec<f32>> {
    value.as_array()?.iter().map(|v| v.as_f64().map(|x| x as f32)).collect()
}

fn names(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect()
}

fn interpolation(value: &Value) -> Option<Interpolation> {
    match value.as_str()? {
        "nearest" => Some(Interpolation::Nearest),
        "bilinear" => Some(Interpolation::Bilinear),
        // timm's transforms take an unnamed filter as bicubic's.
        "bicubic" | "" => Some(Interpolation::Bicubic),
        "lanczos" => Some(Interpolation::Lanczos),
        _ => None,
    }
}

fn crop_mode(value: &Value) -> Option<ResizeMode> {
    match value.as_str()? {
        "center" => Some(ResizeMode::CenterCrop),
        "squash" => Some(ResizeMode::Squash),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> InputSpec {
        InputSpec::imagenet(3, 224, 224)
    }

    #[test]
    fn preprocessing_is_that_of_the_inner_object_and_classes_those_of_the_outer() {
        let text = r#"{"num_classes": 5, "mean": [0.1, 0.1, 0.1], "std": null, "crop_pct": 0.5,
            "pretrained_cfg": {"num_classes": 1000, "mean": [0.485, 0.456, 0.406], "std": [0.2, 0.2, 0.2]}}"#;
        let config = HubModelConfig::parse(text, &usual()).unwrap();
        assert_eq!((config.num_classes, config.input.crop_pct), (Some(5), 0.5));
        assert_eq!((config.input.mean, config.input.std), (vec![0.485, 0.456, 0.406], vec![0.2; 3]));
        assert_eq!(shortest(&[0.485, 1.0]).to_string(), "[0.485,1.0]");
    }

    #[test]
    fn fields_are_found_inside_and_at_the_top() {
        let nested = r#"{"architecture": "mobilenetv2_100", "num_classes": 2, "label_names": ["a", "b"],
            "pretrained_cfg": {"input_size": [3, 160, 160], "interpolation": "bilinear", "crop_pct": 0.9,
            "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "num_classes": 1000}}"#;
        let found = HubModelConfig::parse(nested, &usual()).unwrap();
        assert_eq!((found.num_classes, found.input.input_size), (Some(2), (3, 160, 160)));
        assert_eq!((found.input.interpolation, found.input.crop_pct), (Interpolation::Bilinear, 0.9));
        assert!(!found.is_imagenet());
        assert_eq!(found.label_names.unwrap(), ["a", "b"]);
        let flat = r#"{"architecture": "legacy_xception", "crop_mode": "squash", "mean": [0.5, 0.5, 0.5],
            "tag": "a_in21k_ft_in1k"}"#;
        let found = HubModelConfig::parse(flat, &usual()).unwrap();
        assert!(found.is_imagenet());
        assert_eq!((found.input.crop_mode, found.input.crop_pct), (ResizeMode::Squash, 0.875));
        assert_eq!((found.num_classes, found.input.mean[0]), (None, 0.5));
    }

    #[test]
    fn files_are_read_as_in_training_or_else_as_by_pillow() {
        let found = HubModelConfig::parse("{}", &usual()).unwrap();
        assert_eq!((found.reading, found.input.reading), (None, Reading::pillow()));
        let reading = Reading { max_pixels: 7, ..Reading::viewer() };
        let text = serde_json::json!({ "reading": reading }).to_string();
        let found = HubModelConfig::parse(&text, &usual()).unwrap();
        assert_eq!((found.reading, found.input.reading), (Some(reading), reading));
    }

    #[test]
    fn unsound_fields_are_named() {
        for (text, word) in [
            ("[1]", "object"),
            ("{", "EOF"),
            (r#"{"num_classes": "two"}"#, "num_classes"),
            (r#"{"pretrained_cfg": {"input_size": [3, 0, 224]}}"#, "input_size"),
            (r#"{"pretrained_cfg": {"interpolation": "magic"}}"#, "magic"),
            (r#"{"pretrained_cfg": {"std": [0.0, 1.0, 1.0]}}"#, "std"),
            (r#"{"pretrained_cfg": {"mean": [0.5]}}"#, "mean"),
            (r#"{"pretrained_cfg": {"crop_pct": 1.5}}"#, "crop_pct"),
            (r#"{"crop_mode": "border"}"#, "crop_mode should be center or squash, found \"border\""),
            (r#"{"reading": {"exif": "maybe"}}"#, "maybe"),
            (r#"{"reading": {"exif": "apply"}}"#, "sixteen_bit"),
        ] {
            let error = HubModelConfig::parse(text, &usual()).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
