//! The photos of a fine-tuning, decoded before anything is computed from them.

use firstsight_data::{DecodeSettings, InputSpec, ResizeMode};

use super::{FineTuning, Work};
use crate::splits::{check_readable, decode_together};
use crate::{DecodedSplits, Error, Result};

/// All splits, fitted to the input in one way.
pub(super) struct Photos {
    pub(super) input: InputSpec,
    pub(super) splits: DecodedSplits,
}

impl FineTuning {
    /// Decodes every split in each of the ways to fit photos, so that whatever cannot be read is known at once.
    pub(super) fn decode(&self, input: &InputSpec, work: &Work<'_>) -> Result<Vec<Photos>> {
        let (splits, runtime) = (work.splits, work.runtime);
        let inputs: Vec<InputSpec> = self.modes(work).into_iter().map(|mode| fitted(input, mode)).collect();
        let decode = |input: InputSpec| {
            let folders = [
                (Some(&splits.train), "training images"),
                (Some(&splits.val), "validation images"),
                (splits.test.as_ref(), "test images"),
            ];
            let [Some(train), Some(val), test] =
                decode_together(folders, &self.decode_settings(&input), runtime)?
            else {
                let reason = "lacks a split".to_owned();
                return Err(Error::Dataset { path: splits.root.clone(), reason });
            };
            check_readable(&splits.train, &train)?;
            let splits = DecodedSplits {
                root: splits.root.clone(),
                train,
                val,
                test,
                provenance: None,
                crop_source: None,
            };
            Ok(Photos { input, splits })
        };
        inputs.into_iter().map(decode).collect()
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

fn fitted(input: &InputSpec, mode: ResizeMode) -> InputSpec {
    // timm crops after stretching unless the whole is kept.
    let crop_pct = if mode == ResizeMode::Squash { 1.0 } else { input.crop_pct };
    InputSpec { crop_mode: mode, crop_pct, ..input.clone() }
}
