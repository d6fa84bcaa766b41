use candle_core::{Result, Tensor};
use firstsight_data::InputSpec;

/// Shape of one example at a layer's input or output, without the batch axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InputShape {
    /// An image or feature maps: (C, H, W) in a batch (B, C, H, W).
    Map {
        /// Channels.
        channels: usize,
        /// Height.
        height: usize,
        /// Width.
        width: usize,
    },
    /// Tokens of a transformer: (N, C) in a batch (B, N, C).
    Tokens {
        /// Number of tokens.
        n_tokens: usize,
        /// Features of a token.
        channels: usize,
    },
    /// Features: (F,) in a batch (B, F).
    Features(usize),
}

impl From<&InputSpec> for InputShape {
    /// Shape of one input image.
    fn from(input: &InputSpec) -> Self {
        let (channels, height, width) = input.input_size;
        Self::Map { channels, height, width }
    }
}

impl InputShape {
    /// Number of values.
    pub fn count(self) -> usize {
        match self {
            Self::Map { channels, height, width } => channels * height * width,
            Self::Tokens { n_tokens, channels } => n_tokens * channels,
            Self::Features(n) => n,
        }
    }

    /// Axes in Keras's order: `[H, W, C]`, `[N, C]` or `[F]`.
    pub fn channels_last(self) -> Vec<usize> {
        match self {
            Self::Map { channels, height, width } => vec![height, width, channels],
            Self::Tokens { n_tokens, channels } => vec![n_tokens, channels],
            Self::Features(n) => vec![n],
        }
    }

    /// Axes in PyTorch's order: `[C, H, W]`, `[N, C]` or `[F]`.
    pub fn channels_first(self) -> Vec<usize> {
        match self {
            Self::Map { channels, height, width } => vec![channels, height, width],
            Self::Tokens { n_tokens, channels } => vec![n_tokens, channels],
            Self::Features(n) => vec![n],
        }
    }

    /// (C, H, W).
    ///
    /// # Errors
    ///
    /// Any other shape.
    pub fn map(self) -> Result<(usize, usize, usize)> {
        match self {
            Self::Map { channels, height, width } => Ok((channels, height, width)),
            Self::Tokens { n_tokens, channels } => {
                candle_core::bail!("expected feature maps (C, H, W), found {n_tokens} tokens of {channels}")
            }
            Self::Features(n) => candle_core::bail!("expected feature maps (C, H, W), found {n} features"),
        }
    }

    /// F.
    ///
    /// # Errors
    ///
    /// Any other shape.
    pub fn features(self) -> Result<usize> {
        match self {
            Self::Features(n) => Ok(n),
            Self::Tokens { n_tokens, channels } => {
                candle_core::bail!(
                    "expected features, found {n_tokens} tokens of {channels}: pool them first"
                )
            }
            Self::Map { channels, height, width } => {
                candle_core::bail!(
                    "expected features, found feature maps ({channels}, {height}, {width}): flatten them first"
                )
            }
        }
    }

    /// Checks that `xs` is a batch of such examples.
    ///
    /// # Errors
    ///
    /// Another shape; a hint if the batch axis is missing.
    pub fn check(self, xs: &Tensor) -> Result<()> {
        let found = xs.dims();
        let expected = self.channels_first();
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

    /// Checks that `xs` is a batch of images with `channels` channels, at least `smallest` pixels high and wide.
    ///
    /// # Errors
    ///
    /// Another shape; a hint if the batch axis is missing.
    pub fn check_maps(xs: &Tensor, channels: usize, smallest: usize) -> Result<()> {
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
