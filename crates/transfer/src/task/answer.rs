//! What a network says of an image of which it tells several labels or a number.

use std::path::PathBuf;

use serde::Serialize;

use super::Target;

/// An image file with its answer, or the reason that there is none.
#[derive(Debug)]
pub struct TaskRow {
    /// The file.
    pub image: PathBuf,
    /// The answer, or the error of reading the file.
    pub answer: Result<TaskAnswer, firstsight_data::Error>,
    /// What was done to a file that is not as it should be, in words.
    pub note: Option<String>,
}

/// The labels or the number of an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum TaskAnswer {
    /// Every label, in the order of the network's outputs.
    Labels {
        /// The labels.
        labels: Vec<LabelAnswer>,
    },
    /// A number in the units of the training images' numbers.
    Value {
        /// What the number is.
        label: String,
        /// The number.
        value: f32,
    },
}

/// A label with its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelAnswer {
    /// The label's name.
    pub label: String,
    /// The probability that the image has it, in [0, 1].
    pub probability: f32,
    /// The probability from which it is said to have it.
    pub threshold: f32,
    /// Whether it is said to.
    pub present: bool,
}

impl TaskAnswer {
    /// The answer of a row of outputs, whose names are `names`; `None` for a target of one class per image.
    pub(crate) fn of(target: &Target, names: &[String], row: &[f32]) -> Option<Self> {
        match target {
            Target::Class => None,
            Target::Labels { thresholds } => {
                let answer = |(name, (z, &threshold)): (&String, (&f32, &f32))| {
                    let probability = 1.0 / (1.0 + (-z).exp());
                    LabelAnswer {
                        label: name.clone(),
                        probability,
                        threshold,
                        present: probability >= threshold,
                    }
                };
                let labels = names.iter().zip(row.iter().zip(thresholds)).map(answer).collect();
                Some(Self::Labels { labels })
            }
            Target::Value { .. } => {
                let label = names.first().cloned().unwrap_or_default();
                Some(Self::Value { label, value: target.value(*row.first()?) })
            }
        }
    }
}
