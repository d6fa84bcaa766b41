//! How a run answers, as `predict` and `serve` are told.

use anyhow::{Result, bail};
use firstsight_transfer::{Classifier, Runtime, Target, Thresholds};

use crate::values;

#[derive(Debug, clap::Args)]
pub(crate) struct AnswerArgs {
    /// Number of top labels per image
    #[arg(long, default_value_t = 5, value_parser = values::positive, value_name = "K")]
    pub(crate) top: usize,
    /// Answer 'none of these' for images that are none of the run's classes, such that about this share of images of the
    /// classes is accepted [default: 0.95]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "0.95", value_name = "COVERAGE")]
    pub(crate) reject: Option<f64>,
    /// Temperature of the probabilities; 1 gives the network's own [default: the run's, from its validation images; 1 where
    /// none helps]. Not with --reject, whose thresholds are for the run's temperature
    #[arg(long, conflicts_with = "reject", value_parser = values::rate, value_name = "T")]
    pub(crate) temperature: Option<f64>,
}

impl AnswerArgs {
    /// The thresholds that the run has for a coverage, where it was asked to reject. Says what they promise.
    pub(crate) fn thresholds(
        &self,
        classifier: &Classifier,
        runtime: &Runtime,
    ) -> Result<Option<Thresholds>> {
        let Some(coverage) = self.reject else { return Ok(None) };
        let Some(reject) = &classifier.reject else {
            bail!(
                "--reject needs what a run learned from its validation images, and {} has no reject.safetensors: train it again",
                classifier.origin
            );
        };
        let thresholds = reject.thresholds(coverage)?;
        let Thresholds { coverage: accepted, images, .. } = thresholds;
        let (low, high) = thresholds.interval();
        if accepted < coverage {
            runtime.message(&format!(
                "{images} validation images support a coverage of at most {:.4}, not {coverage}: more of them are needed",
                (accepted * 1e4).floor() / 1e4
            ));
        }
        runtime.message(&format!(
            "of new images of the run's classes, about {:.1} % are accepted: by only {images} validation images, {:.1} to {:.1} % \
             (95 % interval)",
            100.0 * accepted,
            100.0 * low,
            100.0 * high
        ));
        Ok(Some(thresholds))
    }

    /// Refuses flags that are for one class per image where the classifier is for another task.
    pub(crate) fn check_task(&self, classifier: &Classifier) -> Result<()> {
        match self.for_classes().next() {
            Some(flag) if classifier.target != Target::Class => bail!(
                "{flag} is for one class per image, and {} is for {}",
                classifier.origin,
                classifier.target.task()
            ),
            _ => Ok(()),
        }
    }

    /// The flags that are for one class per image alone, of those that were given.
    pub(crate) fn for_classes(&self) -> impl Iterator<Item = &'static str> {
        let flags = [(self.reject.is_some(), "--reject"), (self.temperature.is_some(), "--temperature")];
        flags.into_iter().filter(|(is_given, _)| *is_given).map(|(_, flag)| flag)
    }
}
