/// What can go wrong while a network is looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The network has no such layer.
    #[error("the network has no layer called '{name}'; its layers are {}", known.join(", "))]
    UnknownLayer {
        /// The name as given.
        name: String,
        /// The names of its layers, in order.
        known: Vec<String>,
    },
    /// The layer has no such channel.
    #[error("{layer} has no channel {channel}: it has channels 0 to {}", n_channels.saturating_sub(1))]
    Channel {
        /// The layer.
        layer: String,
        /// The channel as given.
        channel: usize,
        /// How many it has.
        n_channels: usize,
    },
    /// The layer makes features, where maps are needed.
    #[error("{layer} makes no maps: a layer before it does")]
    NoMaps {
        /// The layer.
        layer: String,
    },
    /// A setting that makes no sense.
    #[error("{setting}: expected {expected}, found {found}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// From networks.
    #[error(transparent)]
    Models(#[from] firstsight_models::Error),
    /// From gradients.
    #[error(transparent)]
    Train(#[from] firstsight_train::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
