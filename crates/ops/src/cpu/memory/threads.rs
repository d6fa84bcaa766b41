//! Work on all threads, or on the caller's alone where waking the others would cost more than they
//! save.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::Yield;
use rayon::prelude::*;

/// Cost of waking a thread and waiting for it, in multiply-adds.
const WAKE_COST: usize = 1 << 20;
/// Cost of handing a task to a thread that is awake, in multiply-adds.
const HAND_OVER_COST: usize = 1 << 17;
/// Cost of reading and writing a value, in multiply-adds.
const VALUE_COST: usize = 16;

/// Whether a pass keeps the threads awake: one at a time does so.
static AWAKE: AtomicBool = AtomicBool::new(false);

/// Cost of work on another thread, in multiply-adds.
fn thread_cost() -> usize {
    if AWAKE.load(Ordering::Relaxed) { HAND_OVER_COST } else { WAKE_COST }
}

/// Whether one pass over `values` values is worth waking threads.
pub(crate) fn worth_threads(values: usize) -> bool {
    values > thread_cost() / VALUE_COST
}

/// Runs the tasks 0 to `count` − 1, of `work` multiply-adds together, and returns their results in
/// order.
pub(crate) fn map_tasks<T: Send>(
    count: usize,
    work: usize,
    task: impl Fn(usize) -> T + Sync + Send,
) -> Vec<T> {
    if count > 1 && work > thread_cost() {
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

/// Runs `work` on a thread of the pool, while the other threads look for its tasks without going to sleep in between.
///
/// A thread that sleeps takes some 50 µs to wake, as long as one op takes of a network on one image.
pub(crate) fn with_threads_awake<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    /// Lets the threads sleep again, also when `work` panics.
    struct Sleep<'a>(&'a AtomicBool);

    impl Drop for Sleep<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
            AWAKE.store(false, Ordering::Relaxed);
        }
    }

    if AWAKE.swap(true, Ordering::Relaxed) {
        return rayon::scope(|_| work());
    }
    let done = &AtomicBool::new(false);
    rayon::scope(|scope| {
        let _sleep = Sleep(done);
        let own = rayon::current_thread_index();
        for _ in 1..rayon::current_num_threads() {
            scope.spawn(move |_| {
                while !done.load(Ordering::Relaxed) && rayon::current_thread_index() != own {
                    if rayon::yield_now() != Some(Yield::Executed) {
                        std::hint::spin_loop();
                    }
                }
            });
        }
        work()
    })
}
