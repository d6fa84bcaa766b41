//! Sums in two passes.

use crate::cuda::program::{Geometry, Program, REDUCE, Slot, int, long};

/// Partial sums of two values, each (splits, count).
pub(super) struct Sums {
    pub(super) partial: [Slot; 2],
    splits: usize,
    count: usize,
}

impl Sums {
    pub(super) fn new(program: &mut Program, count: usize, splits: usize) -> Self {
        let partial = [(); 2].map(|()| program.scratch(splits * count));
        Self { partial, splits, count }
    }
}

/// Appends the second pass, whose sums are outputs where they are wanted, and returns them.
pub(super) fn sum_splits(program: &mut Program, sums: &Sums, wants: [bool; 2]) -> [Slot; 2] {
    let &Sums { partial: [a, b], splits, count } = sums;
    let totals = wants.map(|wanted| if wanted { program.output(count) } else { program.scratch(count) });
    let [total_a, total_b] = totals.map(Into::into);
    let args = [a.into(), b.into(), total_a, total_b, int(splits), long(count)];
    program.launch(REDUCE, "sum_splits", Geometry::values(count), args);
    totals
}

/// The sums over batch and pixels of `x` (batch, channels, pixels), as an output.
pub(super) fn channel_sums(program: &mut Program, x: Slot, (batch, channels, pixels): (usize, usize, usize)) {
    let geometry = Geometry::sums(channels, batch * pixels);
    let splits = geometry.splits();
    let partial = program.scratch(splits * channels);
    let args = [x.into(), partial.into(), int(batch), int(channels), int(pixels)];
    program.launch(REDUCE, "channel_sums", geometry, args);
    total(program, partial, splits, channels);
}

/// The sums over the first axis of `partial` (splits, count), as an output.
pub(super) fn total(program: &mut Program, partial: Slot, splits: usize, count: usize) {
    let sums = program.output(count);
    let args = [partial.into(), None.into(), sums.into(), None.into(), int(splits), long(count)];
    program.launch(REDUCE, "sum_splits", Geometry::values(count), args);
}
