//! Grids and blocks, as the kernels' loops expect them.

use super::program::Geometry;

/// Threads of a block, where a kernel does not say otherwise.
const THREADS: u32 = 256;

/// Blocks that fill the largest GPUs several times over.
const MANY_BLOCKS: usize = 2048;

/// Rows up to this size are a warp's work, larger ones a block's.
const WARP_ROW: usize = 512;

impl Geometry {
    /// Four values a thread, by `first_of_four`.
    pub(crate) fn fours(count: usize) -> Self {
        let blocks = count.div_ceil(4 * THREADS as usize).min(4 * MANY_BLOCKS);
        Self { grid: (blocks as u32, 1), block: (THREADS, 1) }
    }

    /// One value a thread.
    pub(crate) fn values(count: usize) -> Self {
        Self { grid: (count.div_ceil(THREADS as usize) as u32, 1), block: (THREADS, 1) }
    }

    /// A warp or a block a row, for `row_sum` and `row_max`.
    pub(crate) fn rows(rows: usize, size: usize) -> Self {
        let (blocks, block) = if size <= WARP_ROW {
            (rows.div_ceil(8), (32, 8))
        } else {
            (rows, (if size <= 8 * WARP_ROW { THREADS } else { 4 * THREADS }, 1))
        };
        Self { grid: (blocks.min(1 << 20) as u32, 1), block }
    }

    /// One thread a pixel, several planes a block where they are small, for `place_in_planes`.
    pub(crate) fn planes(planes: usize, pixels: usize) -> Self {
        let across = pixels.next_multiple_of(32).min(THREADS as usize);
        let down = THREADS as usize / across;
        let blocks = planes.div_ceil(down) * pixels.div_ceil(across);
        Self { grid: (blocks as u32, 1), block: (across as u32, down as u32) }
    }

    /// One block a sum and a share of its `values`, in the grid's x and y, for `ChannelWalk`. A thread has four values or more.
    pub(crate) fn sums(sums: usize, values: usize) -> Self {
        let threads = (values / 4).next_multiple_of(32).clamp(32, THREADS as usize);
        let splits = splits(sums, values, 4 * THREADS as usize);
        Self { grid: (sums as u32, splits), block: (threads as u32, 1) }
    }

    /// Blocks of 32 columns and 8 rows at a time, and shares of the rows.
    pub(crate) fn columns(columns: usize, rows: usize) -> Self {
        let across = columns.div_ceil(32);
        Self { grid: (across as u32, splits(across, rows, 32)), block: (32, 8) }
    }

    /// Blocks of 32 places and 8 channels at a time.
    pub(crate) fn places(places: usize) -> Self {
        Self { grid: (places.div_ceil(32) as u32, 1), block: (32, 8) }
    }

    /// One block for each of `chunks`.
    pub(crate) fn chunks(chunks: usize) -> Self {
        Self { grid: (chunks as u32, 1), block: (THREADS, 1) }
    }

    /// One block.
    pub(crate) fn one_block() -> Self {
        Self { grid: (1, 1), block: (4 * THREADS, 1) }
    }

    /// Number of shares in the grid's y.
    pub(crate) fn splits(&self) -> usize {
        self.grid.1 as usize
    }
}

/// The number of shares, of at least `least` values each, by which blocks for `sums` sums fill a GPU.
fn splits(sums: usize, values: usize, least: usize) -> u32 {
    MANY_BLOCKS.div_ceil(sums).min(values.div_ceil(least)).clamp(1, 65_535) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Warps must be whole, and a block has at most 1024 threads.
    #[test]
    fn blocks_are_whole_warps() {
        for size in (1..600).chain([4096, 5000, 1_000_000]) {
            for geometry in [
                Geometry::fours(size),
                Geometry::values(size),
                Geometry::rows(3, size),
                Geometry::planes(7, size),
                Geometry::planes(size, 49),
                Geometry::sums(size, 100),
                Geometry::sums(3, size),
                Geometry::columns(size, 1000),
                Geometry::places(size),
            ] {
                let threads = geometry.block.0 * geometry.block.1;
                assert!(geometry.block.0 % 32 == 0 && threads <= 1024, "{geometry:?}");
                assert!(geometry.grid.0 >= 1 && (1..=65_535).contains(&geometry.grid.1), "{geometry:?}");
            }
        }
    }
}
