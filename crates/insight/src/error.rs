//! Errors.

/// An error of looking into a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The network has no such layer.
    #[error("the network has no layer '{name}'; its layers are {}", known.join(", "))]
    UnknownLayer {
        /// The name as given.
        name: String,
        /// The names of the network's layers, in order.
        known: Vec<String>,
    },
    /// The layer has no such channel.
    #[error("layer '{layer}' has no channel {channel}: expected 0 to {}", n_channels.saturating_sub(1))]
    Channel {
        /// The layer.
        layer: String,
        /// The channel as given.
        channel: usize,
        /// The number of channels of the layer.
        n_channels: usize,
    },
    /// The layer's output has no height and width.
    #[error("layer '{layer}' has no feature maps: name a layer before it")]
    NoMaps {
        /// The layer.
        layer: String,
    },
    /// A setting is out of range.
    #[error("{setting}: expected {expected}, found {found}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// The values it may have.
        expected: &'static str,
        /// The value it has.
        found: String,
    },
    /// Error of a network.
    #[error(transparent)]
    Models(#[from] firstsight_models::Error),
    /// Error of an optimizer or a gradient.
    #[error(transparent)]
    Train(#[from] firstsight_train::Error),
    /// Error of a tensor operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
