use candle_core::{Result, Tensor};
use firstsight_data::InputSpec;

/// The shape of one example, without the batch axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dims {
    /// Maps: (C, H, W) in a batch (B, C, H, W).
    Map {
        /// Channels.
        channels: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// Features: (F,) in a batch (B, F).
    Features(usize),
}

/// The shape of one input image.
impl From<&InputSpec> for Dims {
    fn from(input: &InputSpec) -> Self {
        let (channels, height, width) = input.input_size;
        Self::Map { channels, height, width }
    }
}

impl Dims {
    /// How many numbers one example holds.
    pub fn count(self) -> usize {
        match self {
            Self::Map { channels, height, width } => channels * height * width,
            Self::Features(n) => n,
        }
    }

    /// The axes as Keras prints them: `[H, W, C]`, or `[F]`.
    pub fn channels_last(self) -> Vec<usize> {
        match self {
            Self::Map { channels, height, width } => vec![height, width, channels],
            Self::Features(n) => vec![n],
        }
    }

    /// The axes as PyTorch prints them: `[C, H, W]`, or `[F]`.
    pub fn channels_first(self) -> Vec<usize> {
        match self {
            Self::Map { channels, height, width } => vec![channels, height, width],
            Self::Features(n) => vec![n],
        }
    }

    /// (C, H, W), or an error where the example is features.
    pub(crate) fn map(self) -> Result<(usize, usize, usize)> {
        match self {
            Self::Map { channels, height, width } => Ok((channels, height, width)),
            Self::Features(n) => candle_core::bail!("expected maps (C, H, W), found {n} features"),
        }
    }

    /// F, or an error where the example is maps.
    pub(crate) fn features(self) -> Result<usize> {
        match self {
            Self::Features(n) => Ok(n),
            Self::Map { channels, height, width } => {
                candle_core::bail!(
                    "expected features, found maps ({channels}, {height}, {width}): flatten them first"
                )
            }
        }
    }

    /// Whether `xs` is a batch of such examples.
    pub(crate) fn check(self, xs: &Tensor) -> Result<()> {
        let found = xs.dims();
        let expected = match self {
            Self::Map { channels, height, width } => vec![channels, height, width],
            Self::Features(n) => vec![n],
        };
        if found.len() == expected.len() + 1 && found[1..] == expected {
            return Ok(());
        }
        let missing =
            if found == expected { "; the batch axis is missing: unsqueeze(0) adds it" } else { "" };
        let expected: Vec<String> = expected.iter().map(usize::to_string).collect();
        candle_core::bail!(
            "expected an input of shape (B, {}), found {found:?}{missing}",
            expected.join(", ")
        )
    }

    /// Whether `xs` is a batch of maps of `channels` channels, at least `smallest` pixels high and wide.
    pub(crate) fn check_maps(xs: &Tensor, channels: usize, smallest: usize) -> Result<()> {
        match *xs.dims() {
            [_, c, height, width] if c == channels && height >= smallest && width >= smallest => Ok(()),
            [_, c, height, width] if c == channels => candle_core::bail!(
                "an input of {height}x{width} is too small: the smallest is {smallest}x{smallest}"
            ),
            ref found => {
                let missing = match *found {
                    [c, _, _] if c == channels => "; the batch axis is missing: unsqueeze(0) adds it",
                    _ => "",
                };
                candle_core::bail!(
                    "expected an input of shape (B, {channels}, H, W), found {found:?}{missing}"
                )
            }
        }
    }
}
