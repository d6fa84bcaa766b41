//! Position embeddings for another size of input.

use candle_core::{Result, Tensor};

/// Position embeddings (1, P + h·w, C) for a grid of h × w patches after P other tokens, and the grid that they are for.
///
/// From one grid to another they are resampled as by timm's `resample_abs_pos_embed`: bicubic, antialiased, the P first
/// unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositionGrid {
    /// P, the embeddings of tokens that are no patches.
    pub n_prefix: usize,
    /// Rows and columns of patches that the embeddings are for.
    pub from: (usize, usize),
    /// Rows and columns that they become.
    pub to: (usize, usize),
}

impl PositionGrid {
    /// For embeddings of the shape `found`, which are for a square grid.
    pub(crate) fn of(found: &[usize], n_prefix: usize, to: (usize, usize)) -> Option<Self> {
        let &[1, n, _] = found else { return None };
        let patches = n.checked_sub(n_prefix)?;
        let side = patches.isqrt();
        (side > 0 && side * side == patches).then_some(Self { n_prefix, from: (side, side), to })
    }

    pub(crate) fn resize(&self, embeddings: &Tensor) -> Result<Tensor> {
        let (_, _, channels) = embeddings.dims3()?;
        let ((rows, columns), (height, width)) = (self.from, self.to);
        let prefix = embeddings.narrow(1, 0, self.n_prefix)?;
        let patches = embeddings.narrow(1, self.n_prefix, rows * columns)?;
        let maps = patches.transpose(1, 2)?.reshape((1, channels, rows, columns))?;
        let maps = firstsight_ops::resize_bicubic(&maps, (height, width))?;
        let patches = maps.reshape((1, channels, height * width))?.transpose(1, 2)?;
        Tensor::cat(&[prefix, patches.contiguous()?], 1)
    }
}
