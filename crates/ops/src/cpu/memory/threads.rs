//! Work on all threads, or on the caller's alone where waking the others would cost more than they
//! save.

use rayon::prelude::*;

/// Cost of waking a thread and waiting for it, in multiply-adds.
const WAKE_COST: usize = 1 << 20;
/// Cost of reading and writing a value, in multiply-adds.
const VALUE_COST: usize = 16;

/// Whether one pass over `values` values is worth waking threads.
pub(crate) fn worth_threads(values: usize) -> bool {
    values > WAKE_COST / VALUE_COST
}

/// Runs the tasks 0 to `count` − 1, of `work` multiply-adds together, and returns their results in
/// order.
pub(crate) fn map_tasks<T: Send>(
    count: usize,
    work: usize,
    task: impl Fn(usize) -> T + Sync + Send,
) -> Vec<T> {
    if count > 1 && work > WAKE_COST {
        (0..count).into_par_iter().map(task).collect()
    } else {
        (0..count).map(task).collect()
    }
}

/// Calls `task` with each chunk of `len` values, the last of which may be shorter, and its index.
pub(crate) fn for_each_chunk(values: &mut [f32], len: usize, task: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if values.len() > len && worth_threads(values.len()) {
        values.par_chunks_mut(len).enumerate().for_each(|(index, chunk)| task(index, chunk));
    } else {
        values.chunks_mut(len).enumerate().for_each(|(index, chunk)| task(index, chunk));
    }
}
