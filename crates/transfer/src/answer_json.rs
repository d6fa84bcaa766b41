//! Answers as JSON: the rows of `predict --json`, and of a service.

use serde::Serialize;

use crate::task::{TaskAnswer, TaskRow};
use crate::{Classifier, Prediction, Row};

/// An image with its answer.
#[derive(Debug, Clone, Serialize)]
pub struct AnswerJson {
    image: String,
    /// The most probable classes; none for a file that could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    predictions: Option<Vec<GuessJson>>,
    /// Whether the image is none of the classes, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The classes that are probable enough, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<Vec<String>>,
    /// What was done to read a file that is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<String>,
    /// Why the file could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct GuessJson {
    /// Index among the network's outputs.
    index: usize,
    label: String,
    probability: f32,
    /// The network's own probability, where the run has a temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    uncalibrated_probability: Option<f32>,
}

impl AnswerJson {
    /// What is said of a row. `reject` says whether it was asked if the image is none of the classes.
    pub fn new(row: &Row, classifier: &Classifier, reject: bool) -> Self {
        let image = row.image.display().to_string();
        let answer = match &row.answer {
            Ok(answer) => answer,
            Err(error) => {
                let error = Some(error.to_string());
                return Self {
                    image,
                    predictions: None,
                    rejected: None,
                    reason: None,
                    set: None,
                    repaired: None,
                    error,
                };
            }
        };
        let guess = |guess: &Prediction| GuessJson {
            index: guess.index,
            label: guess.label.clone(),
            probability: guess.probability,
            uncalibrated_probability: classifier.temperature.map(|_| guess.uncalibrated),
        };
        let name = |&class: &usize| classifier.label_names[class].clone();
        Self {
            image,
            predictions: Some(answer.predictions.iter().map(guess).collect()),
            rejected: reject.then_some(answer.rejection.is_some()),
            reason: answer.rejection.map(|reason| reason.to_string()),
            set: reject.then(|| answer.set.iter().map(name).collect()),
            repaired: answer.note.clone(),
            error: None,
        }
    }

    /// Leaves the best `top` classes.
    #[must_use]
    pub fn top(mut self, top: usize) -> Self {
        if let Some(predictions) = &mut self.predictions {
            predictions.truncate(top);
        }
        self
    }
}

/// An image with its labels or its number.
#[derive(Debug, Clone, Serialize)]
pub struct TaskAnswerJson<'a> {
    image: String,
    #[serde(flatten)]
    answer: Option<&'a TaskAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl<'a> From<&'a TaskRow> for TaskAnswerJson<'a> {
    fn from(row: &'a TaskRow) -> Self {
        Self {
            image: row.image.display().to_string(),
            answer: row.answer.as_ref().ok(),
            repaired: row.note.as_deref(),
            error: row.answer.as_ref().err().map(ToString::to_string),
        }
    }
}
