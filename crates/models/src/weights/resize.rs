//! Positions for another size of input.

use candle_core::{Result, Tensor};

/// Rows and columns.
type Grid = (usize, usize);

/// How a file's tensor of positions, which is for another grid, becomes a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resizing {
    /// Position embeddings (1, P + h·w, C) for h × w patches after P other tokens, resampled as by timm's
    /// `resample_abs_pos_embed`: bicubic, antialiased, the P first unchanged.
    Positions {
        /// P, the embeddings of tokens that are no patches.
        n_prefix: usize,
        /// Rows and columns of patches that the embeddings are for.
        from: (usize, usize),
        /// Rows and columns that they become.
        to: (usize, usize),
    },
    /// A table (h·w, heads) of biases for the h × w distances between two tokens of a window, as by timm's
    /// `resize_rel_pos_bias_table`: linear, between distances that grow by one factor from the middle on.
    RelativePositions {
        /// Distances down and across that the table is for.
        from: (usize, usize),
        /// Distances down and across that it becomes.
        to: (usize, usize),
    },
}

impl Resizing {
    /// From position embeddings of the shape `found` to a grid `to`; `None` if they are for it already. `stated` is the grid that
    /// follows from the file's size of input, where that is known.
    pub(crate) fn positions(
        found: &[usize],
        n_prefix: usize,
        stated: Option<Grid>,
        to: Grid,
    ) -> Option<Self> {
        let &[1, n, _] = found else { return None };
        let from = other_grid(n.checked_sub(n_prefix)?, stated, to)?;
        Some(Self::Positions { n_prefix, from, to })
    }

    /// From a table of the shape `found` to distances `to`, as for [`Self::positions`].
    pub(crate) fn relative_positions(found: &[usize], stated: Option<Grid>, to: Grid) -> Option<Self> {
        let &[n, _] = found else { return None };
        Some(Self::RelativePositions { from: other_grid(n, stated, to)?, to })
    }

    pub(crate) fn resize(&self, value: &Tensor) -> Result<Tensor> {
        match *self {
            Self::Positions { n_prefix, from: (rows, columns), to: (height, width) } => {
                let (_, _, channels) = value.dims3()?;
                let prefix = value.narrow(1, 0, n_prefix)?;
                let patches = value.narrow(1, n_prefix, rows * columns)?;
                let maps = patches.transpose(1, 2)?.reshape((1, channels, rows, columns))?;
                let maps = firstsight_ops::resize_bicubic(&maps, (height, width))?;
                let patches = maps.reshape((1, channels, height * width))?.transpose(1, 2)?;
                Tensor::cat(&[prefix, patches.contiguous()?], 1)
            }
            Self::RelativePositions { from: (rows, columns), to: (height, width) } => {
                let (_, heads) = value.dims2()?;
                let of = |from, to| {
                    let matrix = Tensor::from_vec(between(from, to), (to, from), value.device())?;
                    matrix.to_dtype(value.dtype())
                };
                let maps = value.t()?.reshape((heads * rows, columns))?;
                let maps = maps.matmul(&of(columns, width)?.t()?)?.reshape((heads, rows, width))?;
                let maps = of(rows, height)?.broadcast_matmul(&maps)?;
                maps.reshape((heads, height * width))?.t()?.contiguous()
            }
        }
    }
}

/// The grid of a file's `count` positions, if it isn't `own`: the stated one if it has so many, or else our own, or a square.
fn other_grid(count: usize, stated: Option<Grid>, own: Grid) -> Option<Grid> {
    let side = count.isqrt();
    let grids = [stated, Some(own), (side > 0).then_some((side, side))];
    grids.into_iter().flatten().find(|(rows, columns)| rows * columns == count).filter(|grid| *grid != own)
}

/// The (`to`, `from`) matrix that takes values at `from` distances to those at `to`, both odd. The former lie apart by powers of
/// the factor by which the last of them is that of the latter.
fn between(from: usize, to: usize) -> Vec<f64> {
    let (mut least, mut most, mut factor) = (1.01f64, 1.5, 1.25);
    while most - least > 1e-6 {
        factor = f64::midpoint(least, most);
        let last = (1.0 - factor.powi((from / 2) as i32)) / (1.0 - factor);
        if last > (to / 2) as f64 { most = factor } else { least = factor }
    }
    let mut places = vec![0.0];
    let mut place = 1.0;
    for i in 0..from / 2 {
        places.push(place);
        places.insert(0, -place);
        place += factor.powi(i as i32 + 1);
    }
    let mut matrix = vec![0.0; to * from];
    for (i, row) in matrix.chunks_exact_mut(from).enumerate() {
        let at = i as f64 - (to / 2) as f64;
        let right = places.partition_point(|place| *place < at).min(from - 1);
        let left = right.saturating_sub(1);
        let share = if left == right { 1.0 } else { (at - places[left]) / (places[right] - places[left]) };
        row[left] = 1.0 - share.clamp(0.0, 1.0);
        row[right] = share.clamp(0.0, 1.0);
    }
    matrix
}
