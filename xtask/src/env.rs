//! What every command runs with.

use std::path::PathBuf;

use crate::interrupt::CtrlC;

/// What every command runs with.
pub(crate) struct Env {
    pub(crate) device: candle_core::Device,
    pub(crate) seed: u64,
    /// Generated and downloaded data sets.
    pub(crate) datasets: PathBuf,
    /// Decoded images.
    pub(crate) cache: PathBuf,
    pub(crate) ctrl_c: CtrlC,
}
