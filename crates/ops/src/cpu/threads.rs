//! Work for all threads, or for the caller's alone where waking the others would cost more than they save.

use rayon::prelude::*;

/// Multiply-adds in about the time that it takes to wake a thread and to wait for it.
const WAKING: usize = 1 << 20;
/// Multiply-adds in about the time that passing over a value takes.
const PASSING: usize = 16;

/// Whether `values` are so many that passing over them pays for waking threads.
pub(crate) fn many(values: usize) -> bool {
    values > WAKING / PASSING
}

/// Runs the tasks 0 to below `count`, together `work` multiply-adds, and gives their results in order.
pub(crate) fn map_tasks<T: Send>(
    count: usize,
    work: usize,
    task: impl Fn(usize) -> T + Sync + Send,
) -> Vec<T> {
    if count > 1 && work > WAKING {
        (0..count).into_par_iter().map(task).collect()
    } else {
        (0..count).map(task).collect()
    }
}

/// Runs `task` for each chunk of `len` values, the last of which may be shorter, with its index.
pub(crate) fn for_each_chunk(values: &mut [f32], len: usize, task: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if values.len() > len && many(values.len()) {
        values.par_chunks_mut(len).enumerate().for_each(|(index, chunk)| task(index, chunk));
    } else {
        values.chunks_mut(len).enumerate().for_each(|(index, chunk)| task(index, chunk));
    }
}
