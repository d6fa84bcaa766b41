//! What a search's trials train, on what.

use std::path::Path;

use anyhow::Result;
use firstsight_data::OnError;
use firstsight_transfer::{DecodedSplits, Provenance, Runtime, Splits, Target};

use super::Args;
use super::fine_tuning::{Backbones, FineTunings};
use super::settings::Data;

/// Trainings on decoded images, or fine-tunings.
pub(super) enum Subject {
    Trainings(Box<DecodedSplits>),
    FineTunings(Box<FineTunings>),
}

impl Subject {
    /// Decoded images for trainings. Each fine-tuning decodes them for its own input.
    pub(super) fn new(
        splits: Splits,
        backbones: Option<Backbones>,
        args: &Args,
        runtime: &Runtime,
    ) -> Result<Self> {
        let Some(backbones) = backbones else {
            let on_error = args.on_error.policy(OnError::Fail);
            let decoded = DecodedSplits::decode(&splits, &args.decoded(), on_error, runtime)?;
            return Ok(Self::Trainings(Box::new(decoded)));
        };
        let provenance = splits.announce(runtime)?;
        Ok(Self::FineTunings(Box::new(FineTunings { splits, provenance, backbones })))
    }

    pub(super) fn target(&self) -> Target {
        match self {
            Self::Trainings(splits) => splits.target(),
            Self::FineTunings(tunings) => tunings.splits.target(),
        }
    }

    /// What identifies the images.
    pub(super) fn data(&self) -> Data {
        match self {
            Self::Trainings(splits) => {
                Data { classes: splits.n_classes(), content: format!("{:016x}", splits.fingerprint()) }
            }
            Self::FineTunings(tunings) => {
                Data { classes: tunings.splits.train.classes().len(), content: tunings.splits.fingerprint() }
            }
        }
    }

    pub(super) fn provenance(&self) -> Option<&Provenance> {
        match self {
            Self::Trainings(splits) => splits.provenance.as_ref(),
            Self::FineTunings(tunings) => Some(&tunings.provenance),
        }
    }

    pub(super) fn root(&self) -> &Path {
        match self {
            Self::Trainings(splits) => &splits.root,
            Self::FineTunings(tunings) => &tunings.splits.root,
        }
    }

    pub(super) fn classes(&self) -> &[String] {
        match self {
            Self::Trainings(splits) => splits.train.classes(),
            Self::FineTunings(tunings) => tunings.splits.train.classes(),
        }
    }

    /// The numbers of training and of validation images.
    pub(super) fn counts(&self) -> (usize, usize) {
        match self {
            Self::Trainings(splits) => (splits.train.len(), splits.val.len()),
            Self::FineTunings(tunings) => (tunings.splits.train.len(), tunings.splits.val.len()),
        }
    }
}
