//! The environment of a command.

use std::path::PathBuf;

use firstsight_transfer::Runtime;

/// The environment of a command.
#[derive(Debug)]
pub struct Context {
    /// The program's arguments.
    pub(crate) command: clap::Command,
    /// Device, cache, progress and the request to stop.
    pub runtime: Runtime,
    /// Seed of initial weights, shuffling and generated data.
    pub seed: u64,
    /// Threads, where their number was given.
    pub threads: Option<usize>,
    /// Folder for generated and downloaded data sets.
    pub datasets: PathBuf,
}
