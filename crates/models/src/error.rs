use std::path::PathBuf;

use crate::weights::{ForeignFile, Mismatch, NotFinite, SaveDtype};

/// Errors of networks and their weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A file is not a sound safetensors file.
    #[error("{path} is not a readable safetensors file: {source}", path = path.display())]
    Safetensors {
        /// File.
        path: PathBuf,
        /// Error of the parser.
        source: safetensors::SafeTensorError,
    },
    /// The header of a safetensors file is inconsistent.
    #[error("{path} is not a sound safetensors file: {reason}", path = path.display())]
    WeightsHeader {
        /// File.
        path: PathBuf,
        /// Expected and found.
        reason: String,
    },
    /// A file of another format.
    #[error("{0}")]
    Foreign(Box<ForeignFile>),
    /// Weights beyond the range of the type that they are to be saved in.
    #[error(
        "{tensor} holds {largest:e}, and {dtype} holds numbers up to {}: save the weights in another type",
        if *dtype == SaveDtype::Float16 { "65504" } else { "3.39e38" }
    )]
    Overflow {
        /// Tensor.
        tensor: String,
        /// The largest of its values, without the sign.
        largest: f64,
        /// The type.
        dtype: SaveDtype,
    },
    /// A file with weights that are not numbers, or infinite.
    #[error("{0}")]
    NotFinite(Box<NotFinite>),
    /// A file has other tensors than the network.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
    /// No network has this name.
    #[error(
        "no model is called '{name}'; {}the models are {}; and by timm's names those of {}",
        nearest.map(|n| format!("did you mean '{n}'? ")).unwrap_or_default(), known.join(", "), families.join(", ")
    )]
    UnknownModel {
        /// Unknown name.
        name: String,
        /// Most similar known name, if one is similar.
        nearest: Option<&'static str>,
        /// Names of the networks that have one of our own.
        known: Vec<&'static str>,
        /// Families of those that have timm's.
        families: Vec<&'static str>,
    },
    /// A network has a name that is taken.
    #[error("cannot register the model '{model}': the name '{name}' is taken by '{by}'")]
    NameTaken {
        /// Network that is new.
        model: &'static str,
        /// Name that is taken.
        name: &'static str,
        /// Network that has the name.
        by: &'static str,
    },
    /// An input is too small for a network.
    #[error("{model} cannot take an input of {height}x{width}: the smallest is {smallest}x{smallest}")]
    InputTooSmall {
        /// Network.
        model: &'static str,
        /// Height of the input.
        height: usize,
        /// Width of the input.
        width: usize,
        /// Side of the smallest square input.
        smallest: usize,
    },
    /// A side of an input is no multiple of a network's patch.
    #[error("{model} cannot take an input of {height}x{width}: {divisor} must divide both sides")]
    InputMultiple {
        /// Network.
        model: &'static str,
        /// Height of the input.
        height: usize,
        /// Width of the input.
        width: usize,
        /// Number that must divide both.
        divisor: usize,
    },
    /// A setting of a network is out of range.
    #[error("{model}: {rule}, found {found}")]
    Setting {
        /// Network.
        model: &'static str,
        /// Rule for the setting.
        rule: &'static str,
        /// Its value.
        found: String,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
