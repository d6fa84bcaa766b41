//! The photos of a fine-tuning, decoded before anything is computed from them, or at first a sample of them.

use firstsight_data::{DecodeSettings, ImageDataset, ImageFolder, InputSpec, ResizeMode};

use super::{FineTuning, Work};
use crate::head::by_class;
use crate::splits::{check_readable, decode_silently, decode_together};
use crate::{DecodedSplits, Error, Result};

/// Training images that the ways to fit photos are compared on, where there are more.
const COMPARED: usize = 500;
/// The same for each class, where that is more.
const COMPARED_PER_CLASS: usize = 10;

/// All splits, fitted to the input in one way.
pub(super) struct Photos {
    pub(super) input: InputSpec,
    pub(super) splits: DecodedSplits,
}

/// A way to fit photos to the input, with the training images that it is compared on.
pub(super) struct Fitted {
    pub(super) input: InputSpec,
    /// All training images or a sample.
    pub(super) train: ImageDataset,
    /// All splits; none for a sample.
    pub(super) splits: Option<DecodedSplits>,
}

impl FineTuning {
    /// The photos, fitted in each of the ways that are tried: all of them, so that whatever cannot be read is known at once, or,
    /// of many, a sample, since all are needed only in the way that is chosen.
    pub(super) fn fitted(&self, input: &InputSpec, work: &Work<'_>) -> Result<Vec<Fitted>> {
        let inputs: Vec<InputSpec> = self.modes(work).into_iter().map(|mode| fitted(input, mode)).collect();
        let sample = if inputs.len() > 1 { sample(work) } else { None };
        let Some(sample) = sample else {
            let whole = |input| {
                let Photos { input, splits } = self.decode(input, work)?;
                Ok(Fitted { input, train: splits.train.clone(), splits: Some(splits) })
            };
            return inputs.into_iter().map(whole).collect();
        };
        let part = |input: &InputSpec| {
            let settings = self.decode_settings(input);
            let train = decode_silently(&sample, "a sample of the training images", &settings, work.runtime)?;
            Ok(Fitted { input: input.clone(), train, splits: None })
        };
        let parts = inputs.iter().map(part).collect::<Result<_>>();
        if let Err(Error::Data(error)) = &parts
            && matches!(**error, firstsight_data::Error::Unreadable { .. })
        {
            // The error that names all files that cannot be read.
            self.decode(inputs[0].clone(), work)?;
        }
        parts
    }

    /// Decodes every split.
    pub(super) fn decode(&self, input: InputSpec, work: &Work<'_>) -> Result<Photos> {
        let splits = work.splits;
        let folders = [
            (Some(&splits.train), "training images"),
            (Some(&splits.val), "validation images"),
            (splits.test.as_ref(), "test images"),
        ];
        let [Some(train), Some(val), test] =
            decode_together(folders, &self.decode_settings(&input), work.runtime)?
        else {
            let reason = "lacks a split".to_owned();
            return Err(Error::Dataset { path: splits.root.clone(), reason });
        };
        check_readable(&splits.train, &train)?;
        let (root, provenance, crop_source) = (splits.root.clone(), None, None);
        Ok(Photos { input, splits: DecodedSplits { root, train, val, test, provenance, crop_source } })
    }

    /// The ways to fit photos that are tried. Weights of the same classes have been trained on one of them.
    pub(super) fn modes(&self, work: &Work<'_>) -> Vec<ResizeMode> {
        let own = work.pretrained.input.crop_mode;
        match work.has_same_classes() && self.resize_modes.contains(&own) {
            true => vec![own],
            false => self.resize_modes.clone(),
        }
    }

    fn decode_settings(&self, input: &InputSpec) -> DecodeSettings {
        DecodeSettings { on_error: self.on_error, ..input.decode_settings() }
    }
}

/// A sample of the training images that has of each class its share, if there are more than are compared. It follows from
/// the seed of the split, so that fine-tunings with other seeds find its features in the cache.
fn sample(work: &Work<'_>) -> Option<ImageFolder> {
    let (train, seed) = (&work.splits.train, work.splits.config.seed);
    let n_classes = train.classes().len();
    let n = COMPARED.max(COMPARED_PER_CLASS * n_classes);
    if train.len() <= n {
        return None;
    }
    let order = by_class(train.targets(), n_classes, seed.into());
    let mut indices: Vec<usize> = (0..n).map(|i| order[i * order.len() / n]).collect();
    indices.sort_unstable();
    Some(train.subset(&indices))
}

fn fitted(input: &InputSpec, mode: ResizeMode) -> InputSpec {
    // timm crops after stretching unless the whole is kept.
    let crop_pct = if mode == ResizeMode::Squash { 1.0 } else { input.crop_pct };
    InputSpec { crop_mode: mode, crop_pct, ..input.clone() }
}
