//! Maps that are used without being written: what is still to be done to a stored one is done as it is read.

use super::elementwise;
use super::norm::Affine;
use crate::config::Activation;

/// What is still to be done to each channel of a stored map: an affine map, and the activation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pending<'a> {
    /// Of each channel, or none at all.
    affines: &'a [Affine],
    activation: Activation,
}

impl<'a> Pending<'a> {
    pub(crate) const NOTHING: Self = Self { affines: &[], activation: Activation::Identity };

    pub(crate) fn new(affines: &'a [Affine], activation: Activation) -> Self {
        Self { affines, activation }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.affines.is_empty() && self.activation == Activation::Identity
    }

    pub(crate) fn activation(&self) -> Activation {
        self.activation
    }

    /// Of some channels.
    pub(crate) fn of_channels(&self, channels: std::ops::Range<usize>) -> Self {
        Self { affines: if self.affines.is_empty() { &[] } else { &self.affines[channels] }, ..*self }
    }

    /// Does it to values of one channel on their way to another place.
    #[inline(always)]
    pub(crate) fn apply_from(&self, channel: usize, from: &[f32], to: &mut [f32]) {
        match self.affines.get(channel) {
            Some(affine) => affine.apply(from, to, self.activation),
            None => {
                to.copy_from_slice(from);
                elementwise::activate(to, self.activation);
            }
        }
    }

    /// Does it to values of one channel.
    #[inline(always)]
    pub(crate) fn apply(&self, channel: usize, values: &mut [f32]) {
        match self.affines.get(channel) {
            Some(affine) => affine.apply_in_place(values, self.activation),
            None => elementwise::activate(values, self.activation),
        }
    }
}

/// A batch of maps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) pending: Pending<'a>,
}

impl<'a> Source<'a> {
    /// Of maps that are as they are stored.
    pub(crate) fn plain(values: &'a [f32]) -> Self {
        Self { values, pending: Pending::NOTHING }
    }
}
