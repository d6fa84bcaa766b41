//! Values of arguments, parsed from text once.

use std::fmt::Display;
use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use firstsight_data::{Alpha, AugmentationPreset, Crops, Damaged, Exif, OnError, Reading, SixteenBit, Task};
use firstsight_lecture::SectionName;
use firstsight_models::{ModelInfo, registry};
use firstsight_transfer::{LearningRate, Measured, Split};

/// Height, width and channels, typed as `HxWxC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InputSize {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
}

impl InputSize {
    /// The size given, or the model's usual one.
    pub(crate) fn or_usual(typed: Option<Self>, model: &'static ModelInfo) -> Self {
        typed.unwrap_or_else(|| {
            let (channels, height, width) = model.usual_input;
            Self { height, width, channels }
        })
    }
}

impl FromStr for InputSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = || format!("'{text}' is not HxWxC, such as 80x60x1");
        let numbers: Vec<usize> =
            text.split('x').map(|n| n.parse().map_err(|_| rule())).collect::<Result<_, _>>()?;
        let [height, width, channels] = numbers[..] else { return Err(rule()) };
        if !(1..=2048).contains(&height) || !(1..=2048).contains(&width) {
            return Err(format!("height and width must lie in 1..=2048, found {height} and {width}"));
        }
        if channels != 1 && channels != 3 {
            return Err(format!("channels must be 1 (gray) or 3 (RGB), found {channels}"));
        }
        Ok(Self { height, width, channels })
    }
}

impl Display for InputSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}

/// A whole number within bounds, both included; most values have no upper one.
fn whole<T: FromStr + PartialOrd + Display>(text: &str, least: T, most: Option<T>) -> Result<T, String> {
    let is_within = |n: &T| *n >= least && most.as_ref().is_none_or(|most| n <= most);
    text.parse().ok().filter(is_within).ok_or_else(|| match &most {
        Some(most) => format!("'{text}' is not a whole number from {least} to {most}"),
        None => format!("'{text}' is not a whole number of at least {least}"),
    })
}

/// A whole number of at least 1.
///
/// # Errors
///
/// Any other text.
pub fn positive(text: &str) -> Result<usize, String> {
    whole(text, 1, None)
}

/// A number of threads. Processors have fewer than the most; a system ends a program that starts many more.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    whole(text, 1, Some(1024))
}

/// A seed.
pub(crate) fn seed(text: &str) -> Result<u64, String> {
    whole(text, 0, Some(u64::MAX))
}

/// A seed of NumPy's generator.
pub(crate) fn seed32(text: &str) -> Result<u32, String> {
    whole(text, 0, Some(u32::MAX))
}

/// A number of folds.
pub(crate) fn folds(text: &str) -> Result<usize, String> {
    whole(text, 2, None)
}

/// A finite number above 0.
///
/// # Errors
///
/// Any other text.
pub fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        _ => Err(format!("'{text}' is not a number above 0")),
    }
}

/// The name of a host, without a scheme and a port.
pub(crate) fn host_name(text: &str) -> Result<String, String> {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    {
        true => Ok(text.to_owned()),
        false => Err(format!("'{text}' is not the name of a host, such as photos.example")),
    }
}

/// A number of bytes, typed as 20GB, 1.5TB, 500MB, 10KB or 1000.
///
/// # Errors
///
/// Any other text.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let rule = || format!("'{text}' is not a size such as 20GB or 500MB");
    let upper = text.trim().to_uppercase();
    let number = upper.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match upper[number.len()..].trim_end_matches('B') {
        "" => 1.0,
        "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        _ => return Err(rule()),
    };
    let bytes = number.trim_end().parse::<f64>().map_err(|_| rule())? * factor;
    if bytes.is_finite() && bytes >= 0.0 { Ok(bytes as u64) } else { Err(rule()) }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "KB")];
    let fitting = units.into_iter().find(|(factor, _)| bytes >= *factor);
    fitting.map_or_else(|| format!("{bytes} B"), |(factor, unit)| format!("{:.1} {unit}", bytes / factor))
}

/// A share in [0, 1).
pub(crate) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err(format!("'{text}' is not a number of at least 0 and below 1")),
    }
}

/// A share in (0, 1).
pub(crate) fn inner_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err(format!("'{text}' is not a number above 0 and below 1")),
    }
}

/// A number of pixels of at least 1.
pub(crate) fn pixels(text: &str) -> Result<u64, String> {
    whole(text, 1, None)
}

/// A learning rate, or the wish to have one found.
pub(crate) fn rate_or_find(text: &str) -> Result<LearningRate, String> {
    if text == "find" { Ok(LearningRate::Find) } else { rate(text).map(LearningRate::Value) }
}

/// A model's name.
pub(crate) fn model(name: &str) -> Result<&'static ModelInfo, firstsight_models::Error> {
    registry::find(name)
}

/// A pretrained network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Backbone {
    /// By its name.
    Model(&'static ModelInfo),
    /// The one in a repository of the hub.
    Repository(String),
}

impl Display for Backbone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Model(model) => model.name,
            Self::Repository(id) => id,
        })
    }
}

/// A model's name, timm's name of weights (`resnet50.a1_in1k`), which is that of their repository, or a repository.
pub(crate) fn backbone(text: &str) -> Result<Backbone, firstsight_models::Error> {
    if text.contains('/') {
        return Ok(Backbone::Repository(text.to_owned()));
    }
    match (model(text), text.split_once('.')) {
        (Ok(info), _) => Ok(Backbone::Model(info)),
        (Err(_), Some((name, _))) => model(name).map(|_| Backbone::Repository(format!("timm/{text}"))),
        (Err(error), None) => Err(error),
    }
}

/// The model, if it is named by itself, and the weights, if they are, of `--backbone` and `--weights`.
pub(crate) fn model_and_weights<'a>(
    backbone: Option<&'a Backbone>,
    weights: Option<&'a str>,
) -> Result<(Option<&'static ModelInfo>, Option<&'a str>), String> {
    match (backbone, weights) {
        (Some(Backbone::Model(model)), weights) => Ok((Some(*model), weights)),
        (Some(Backbone::Repository(id)), None) => Ok((None, Some(id))),
        (Some(Backbone::Repository(id)), Some(weights)) => Err(format!(
            "{id} and --weights {weights} both name weights: beside --weights a network goes by its name"
        )),
        (None, weights) => Ok((None, weights)),
    }
}

/// A value by its name, each with what `--help` says of it.
fn one_of<T: Copy + Send + Sync + 'static>(
    values: &'static [(T, &'static str, &'static str)],
) -> impl TypedValueParser<Value = T> {
    let possible = values.iter().map(|(_, name, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(possible).try_map(move |typed| {
        let found = values.iter().find(|(_, name, _)| *name == typed);
        found.map(|(value, ..)| *value).ok_or_else(|| format!("'{typed}' is not expected"))
    })
}

/// Values with their names and what `--help` says of them.
type Named<T, const N: usize> = [(T, &'static str, &'static str); N];

/// The name of a value.
pub(crate) fn name<T: PartialEq>(value: T, of: &[(T, &'static str, &'static str)]) -> String {
    of.iter().find(|(known, ..)| *known == value).map_or(String::new(), |(_, name, _)| (*name).to_owned())
}

pub(crate) static ON_ERROR: Named<OnError, 2> = [
    (OnError::Skip, "skip", "Leave each out and give the reason"),
    (OnError::Fail, "fail", "Stop before the first step and name them all"),
];
pub(crate) static READING: Named<Reading, 2> = [
    (Reading::viewer(), "viewer", "As people see them: upright, 16-bit gray scaled, over white, repaired"),
    (Reading::pillow(), "pillow", "As Pillow's `convert` gives them, on which timm and torchvision train"),
];
pub(crate) static EXIF: Named<Exif, 2> = [
    (Exif::Apply, "apply", "Turn photos upright, as viewers do"),
    (Exif::Ignore, "ignore", "Leave them as stored, as Pillow does"),
];
pub(crate) static SIXTEEN_BIT: Named<SixteenBit, 2> = [
    (SixteenBit::Scale, "scale", "The upper byte, as OpenCV does"),
    (SixteenBit::Clip, "clip", "All above 255 is white, as in Pillow"),
];
pub(crate) static ALPHA: Named<Alpha, 2> = [
    (Alpha::Blend, "blend", "Over white, as viewers show it"),
    (Alpha::Drop, "drop", "The hidden colors, as in Pillow"),
];
pub(crate) static DAMAGED: Named<Damaged, 2> = [
    (Damaged::Accept, "accept", "Read what viewers show, and say so"),
    (Damaged::Refuse, "refuse", "As Pillow does"),
];

/// The policy for files that cannot be read.
pub(crate) fn on_error() -> impl TypedValueParser<Value = OnError> {
    one_of(&ON_ERROR)
}

/// A way of reading image files.
pub(crate) fn reading() -> impl TypedValueParser<Value = Reading> {
    one_of(&READING)
}

/// The treatment of EXIF orientations.
pub(crate) fn exif() -> impl TypedValueParser<Value = Exif> {
    one_of(&EXIF)
}

/// The treatment of 16-bit gray.
pub(crate) fn sixteen_bit() -> impl TypedValueParser<Value = SixteenBit> {
    one_of(&SIXTEEN_BIT)
}

/// The treatment of transparency.
pub(crate) fn alpha() -> impl TypedValueParser<Value = Alpha> {
    one_of(&ALPHA)
}

/// The treatment of damaged files.
pub(crate) fn damaged() -> impl TypedValueParser<Value = Damaged> {
    one_of(&DAMAGED)
}

/// A section of the lecture, by name or number.
pub(crate) fn section() -> impl TypedValueParser<Value = SectionName> {
    let possible = SectionName::ALL.map(|section| {
        let help = format!("{}. {}", section.number(), section.title());
        PossibleValue::new(section.name()).alias(section.number()).help(help)
    });
    PossibleValuesParser::new(possible).try_map(|typed| {
        let mut all = SectionName::ALL.into_iter();
        let found = all.find(|section| section.name() == typed || section.number() == typed);
        found.ok_or_else(|| format!("'{typed}' is no section"))
    })
}

/// What to measure of a data set.
pub(crate) fn measured() -> impl TypedValueParser<Value = Measured> {
    one_of(&[
        (Measured::Split(Split::Train), "train", "Training images"),
        (Measured::Split(Split::Val), "val", "Validation images"),
        (Measured::Split(Split::Test), "test", "Test images"),
        (Measured::New, "new", "Images that the run has not seen"),
        (Measured::All, "all", "All images"),
    ])
}

/// What labels are.
pub(crate) fn task() -> impl TypedValueParser<Value = Task> {
    one_of(&[
        (Task::SingleLabel, "single-label", "One class for each image"),
        (Task::MultiLabel, "multi-label", "Any number of labels for each image"),
        (Task::Regression, "regression", "A number for each image"),
    ])
}

/// What an augmentation's crops are cut from.
pub(crate) fn crops() -> impl TypedValueParser<Value = Crops> {
    one_of(&[
        (Crops::Reduced, "reduced", "The image at the input's size"),
        (Crops::Full, "full", "The image at twice the input's height and width, with four times the memory"),
    ])
}

/// An augmentation preset, by name.
pub(crate) fn augmentation_preset() -> impl TypedValueParser<Value = AugmentationPreset> {
    one_of(&[
        (AugmentationPreset::None, "none", "No augmentation"),
        (
            AugmentationPreset::Characters,
            "characters",
            "Small rotations, zooms and translations of dark writing on paper",
        ),
        (
            AugmentationPreset::Digits,
            "digits",
            "Small rotations, zooms and translations of light digits on black",
        ),
        (AugmentationPreset::Photos, "photos", "Crops, flips, color jitter and erasing, for photos"),
    ])
}

#[cfg(test)]
mod tests {
    use super::{Backbone, backbone, folds, positive, seed32, threads};

    #[test]
    fn threads_are_few() {
        assert_eq!((threads("1"), threads("1024")), (Ok(1), Ok(1024)));
        for text in ["0", "1025", "100000", "-1", "many"] {
            assert!(threads(text).unwrap_err().contains("1 to 1024"), "{text}");
        }
    }

    #[test]
    fn whole_numbers_lie_within_their_bounds() {
        assert_eq!((positive("1"), folds("2"), seed32("4294967295")), (Ok(1), Ok(2), Ok(u32::MAX)));
        assert_eq!(positive("0").unwrap_err(), "'0' is not a whole number of at least 1");
        assert_eq!(folds("1").unwrap_err(), "'1' is not a whole number of at least 2");
        assert_eq!(
            seed32("4294967296").unwrap_err(),
            "'4294967296' is not a whole number from 0 to 4294967295"
        );
    }

    #[test]
    fn a_backbone_is_a_network_or_a_repository() {
        let name = |text: &str| match backbone(text) {
            Ok(Backbone::Model(info)) => info.name.to_owned(),
            Ok(Backbone::Repository(id)) => id,
            Err(error) => error.to_string(),
        };
        assert_eq!(name("resnet50"), "resnet50");
        assert_eq!(name("mobilenetv2_100"), "mobilenet-v2");
        assert_eq!(name("resnet50.tv_in1k"), "timm/resnet50.tv_in1k");
        assert_eq!(name("microsoft/resnet-50@v1"), "microsoft/resnet-50@v1");
        assert!(name("resnet51").contains("did you mean 'resnet"), "{}", name("resnet51"));
        let unknown = name("vgg16.tv_in1k");
        assert!(unknown.contains("'vgg16'") && unknown.contains("ResNet-D, ConvNeXt"), "{unknown}");
    }
}
