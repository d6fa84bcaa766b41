//! Maps whose batch normalization and activation are applied when the next op reads them, so that the
//! normalized map is never written.

use crate::config::Activation;
use crate::cpu::batch_norm::Affine;
use crate::cpu::elementwise;
use crate::cpu::simd::Simd;

/// The operations that a stored map lacks: an affine function of each channel, then the activation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    /// One per channel, or empty for the identity.
    affines: &'a [Affine],
    activation: Activation,
}

impl<'a> Epilogue<'a> {
    pub(crate) const NONE: Self = Self { affines: &[], activation: Activation::Identity };

    pub(crate) fn new(affines: &'a [Affine], activation: Activation) -> Self {
        Self { affines, activation }
    }

    pub(crate) fn is_none(&self) -> bool {
        self.affines.is_empty() && self.activation == Activation::Identity
    }

    pub(crate) fn activation(&self) -> Activation {
        self.activation
    }

    /// The epilogue of a range of channels.
    pub(crate) fn of_channels(&self, channels: std::ops::Range<usize>) -> Self {
        Self { affines: if self.affines.is_empty() { &[] } else { &self.affines[channels] }, ..*self }
    }

    /// Writes the epilogue of `from`, values of one channel, to `to`.
    #[inline(always)]
    pub(crate) fn apply_from<S: Simd>(&self, channel: usize, from: &[f32], to: &mut [f32]) {
        match self.affines.get(channel) {
            Some(affine) => affine.apply::<S>(from, to, self.activation),
            None => {
                to.copy_from_slice(from);
                elementwise::activate::<S>(to, self.activation);
            }
        }
    }

    /// Applies the epilogue to values of one channel.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(&self, channel: usize, values: &mut [f32]) {
        match self.affines.get(channel) {
            Some(affine) => affine.apply_in_place::<S>(values, self.activation),
            None => elementwise::activate::<S>(values, self.activation),
        }
    }
}

/// A batch of maps and the epilogue to apply when reading them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LazyMap<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) epilogue: Epilogue<'a>,
}

impl<'a> LazyMap<'a> {
    /// Maps that are complete as stored.
    pub(crate) fn stored(values: &'a [f32]) -> Self {
        Self { values, epilogue: Epilogue::NONE }
    }
}
