//! What a stored study is about, so that its trials are not mixed with those of another search.

use anyhow::{Result, bail};
use firstsight_hpo::{SearchSpace, Storage, Study};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Args,
    space::{Space, plain},
};

/// Attribute of the study that holds them.
const ATTRIBUTE: &str = "firstsight";

/// A search without its sampler and length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) models: Vec<String>,
    input: String,
    epochs: usize,
    patience: usize,
    seed: u64,
    /// The preset, where the trials are fine-tunings. Then 0 epochs are the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fine_tuning: Option<String>,
    #[serde(default = "accuracy", skip_serializing_if = "is_accuracy")]
    objectives: Vec<String>,
    /// Where a file stated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    space: Option<SearchSpace>,
    /// Once the images are decoded.
    data: Option<Data>,
}

/// The decoded images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Data {
    pub(super) classes: usize,
    /// Hash of their pixels and labels, in hexadecimal.
    pub(super) content: String,
}

/// The input size of fine-tunings where none was asked for.
const OF_THE_WEIGHTS: &str = "the weights' own";

/// The models or backbones that a space has.
fn models(space: &Space) -> Vec<String> {
    let of = |name| space.stated.choices(name);
    of("model").or_else(|| of("backbone")).unwrap_or_default().iter().map(plain).collect()
}

/// What searches were for before there were objectives.
fn accuracy() -> Vec<String> {
    vec!["accuracy".to_owned()]
}

fn is_accuracy(objectives: &[String]) -> bool {
    objectives == accuracy()
}

fn epochs(of: &Settings) -> String {
    if of.epochs == 0 { "the preset's".to_owned() } else { of.epochs.to_string() }
}

fn preset(of: &Settings) -> String {
    of.fine_tuning.clone().unwrap_or_default()
}

impl Settings {
    pub(super) fn new(args: &Args, space: &Space, seed: u64, data: Option<Data>) -> Self {
        Self {
            models: models(space),
            input: match (args.is_fine_tuning(), args.input) {
                (true, None) => OF_THE_WEIGHTS.to_owned(),
                _ => args.input().to_string(),
            },
            epochs: if args.is_fine_tuning() { args.epochs.unwrap_or(0) } else { args.epochs() },
            patience: if args.is_fine_tuning() { 0 } else { args.patience() },
            fine_tuning: args.is_fine_tuning().then(|| args.preset().name().to_owned()),
            seed,
            objectives: args.objective.iter().map(ToString::to_string).collect(),
            space: args.space.as_ref().map(|_| space.stated.clone()),
            data,
        }
    }

    /// Those of the study called `name`, if the storage has it and they are known.
    pub(super) fn stored(storage: &dyn Storage, name: &str) -> Result<Option<Self>> {
        let Some(study) = storage.studies()?.into_iter().find(|study| study.name == name) else {
            return Ok(None);
        };
        let Some(value) = study.user_attrs.get(ATTRIBUTE) else { return Ok(None) };
        let settings = match value {
            Value::String(text) => Self::parse(text),
            value => serde_json::from_value(value.clone()).ok(),
        };
        match settings {
            Some(settings) => Ok(Some(settings)),
            None => bail!("the study {name} is about another search: {value}; name another with --study"),
        }
    }

    pub(super) fn store(&self, study: &Study) -> Result<()> {
        Ok(study.set_user_attr(ATTRIBUTE, self)?)
    }

    /// The sentence of version 0.1: `cnn or lenet5 on 80x60x1 (55 classes, content e6b0…), at most 20 epochs, patience 5, seed
    /// 123`.
    fn parse(text: &str) -> Option<Self> {
        let (models, rest) = text.split_once(" on ")?;
        let (input, rest) = rest.split_once(" (")?;
        let (classes, rest) = rest.split_once(" classes, content ")?;
        let (content, rest) = rest.split_once("), at most ")?;
        let (epochs, rest) = rest.split_once(" epochs, patience ")?;
        let (patience, seed) = rest.split_once(", seed ")?;
        Some(Self {
            models: models.split(" or ").map(str::to_owned).collect(),
            input: input.to_owned(),
            epochs: epochs.parse().ok()?,
            patience: patience.parse().ok()?,
            seed: seed.parse().ok()?,
            fine_tuning: None,
            objectives: accuracy(),
            space: None,
            data: Some(Data { classes: classes.parse().ok()?, content: content.to_owned() }),
        })
    }

    /// What differs from `stored`, each with its value there and here.
    fn differences(&self, stored: &Self) -> Vec<String> {
        let models = if self.fine_tuning.is_some() { "the backbone" } else { "--model" };
        let pairs = [
            (models, stored.models.join(" or "), self.models.join(" or ")),
            ("--epochs", epochs(stored), epochs(self)),
            ("--patience", stored.patience.to_string(), self.patience.to_string()),
            ("--preset", preset(stored), preset(self)),
            ("--seed", stored.seed.to_string(), self.seed.to_string()),
        ];
        let differ = pairs.into_iter().filter(|(_, there, here)| there != here);
        let differ = differ.map(|(flag, there, here)| format!("{flag} was {there} and is {here}"));
        let space = match (&stored.space, &self.space) {
            (None, None) => None,
            (Some(there), Some(here)) => here.check_same_study(there).err().map(|error| error.to_string()),
            (None, Some(_)) => Some("it was begun without --space".to_owned()),
            (Some(_), None) => Some("it was begun with --space".to_owned()),
        };
        differ.chain(space).collect()
    }

    /// Why trials of `stored` cannot be compared with this search's: they saw other images.
    fn incomparable(&self, stored: &Self) -> Option<String> {
        if self.fine_tuning.is_some() != stored.fine_tuning.is_some() {
            let what =
                |of: &Self| if of.fine_tuning.is_some() { "fine-tunings" } else { "trainings from scratch" };
            return Some(format!("its trials are {}, not {}", what(stored), what(self)));
        }
        if self.objectives != stored.objectives {
            let (there, here) = (stored.objectives.join(", "), self.objectives.join(", "));
            return Some(format!("--objective was {there} and is {here}"));
        }
        if self.input != stored.input {
            return Some(format!("--input was {} and is {}", stored.input, self.input));
        }
        match (&self.data, &stored.data) {
            (Some(here), Some(there)) if here.classes != there.classes => {
                Some(format!("the images had {} classes and have {}", there.classes, here.classes))
            }
            (Some(here), Some(there)) if here != there => {
                Some("the images, or their split, were others".to_owned())
            }
            _ => None,
        }
    }

    /// # Errors
    ///
    /// The study of these settings is not the stored one; the message says what differs, and how to go on.
    pub(super) fn check_same(&self, stored: &Self, study: &str) -> Result<()> {
        let mut differences = self.differences(stored);
        if let Some(other) = self.incomparable(stored) {
            differences.push(other);
            bail!(
                "the study {study} is about another search: {}; name another with --study",
                differences.join(", ")
            );
        }
        match differences.is_empty() {
            true => Ok(()),
            false => bail!(
                "the study {study} is about another search: {}; a new study can take over its trials: --study NEW \
                 --from-study {study}",
                differences.join(", ")
            ),
        }
    }

    /// # Errors
    ///
    /// The trials of the study `from` cannot be compared with these.
    pub(super) fn check_comparable(&self, stored: &Self, from: &str) -> Result<()> {
        match self.incomparable(stored) {
            None => Ok(()),
            Some(reason) => {
                bail!("the trials of the study {from} cannot be compared with this search's: {reason}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_versions_sentence_is_read() {
        let text = "logistic or lenet5 on 16x16x1 (2 classes, content 00000000e6b0aa01), at most 1 epochs, patience 5, seed 7";
        let settings = Settings::parse(text).unwrap();
        assert_eq!(settings.models, ["logistic", "lenet5"]);
        assert_eq!((settings.epochs, settings.patience, settings.seed), (1, 5, 7));
        assert_eq!(settings.data, Some(Data { classes: 2, content: "00000000e6b0aa01".to_owned() }));
        assert!(Settings::parse("something else").is_none());
    }
}
