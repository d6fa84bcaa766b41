//! Work on all threads, or on the caller's alone where waking the others would cost more than they
//! save.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rayon::prelude::*;

/// Cost of waking a thread and waiting for it, in multiply-adds.
const WAKE_COST: usize = 1 << 20;
/// Cost of handing a task to a thread that is awake, in multiply-adds.
const HAND_OVER_COST: usize = 1 << 16;
/// Cost of reading and writing a value, in multiply-adds.
const VALUE_COST: usize = 16;

/// Whether a pass keeps the threads awake: one at a time does so.
static AWAKE: AtomicBool = AtomicBool::new(false);
/// Whether a thread shares tasks: one at a time does so, until its helpers have done theirs.
static SHARES: AtomicBool = AtomicBool::new(false);
/// The tasks that are shared with the threads that are awake; null if none are left.
static SHARED: AtomicPtr<Tasks<'static>> = AtomicPtr::new(ptr::null_mut());
/// Number of threads that may be looking at [`SHARED`].
static HELPERS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread does one of the shared tasks.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// Cost of work on another thread, in multiply-adds.
fn thread_cost() -> usize {
    match (IN_TASK.get(), AWAKE.load(Ordering::Relaxed)) {
        // The other threads do tasks as well.
        (true, _) => usize::MAX,
        (_, true) => HAND_OVER_COST,
        _ => WAKE_COST,
    }
}

/// Whether one pass over `values` values is worth waking threads.
pub(crate) fn worth_threads(values: usize) -> bool {
    values > thread_cost() / VALUE_COST
}

/// Tasks, each of which is done once.
struct Tasks<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    count: usize,
    next: AtomicUsize,
    /// What a task panicked with on another thread.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Tasks<'_> {
    /// Does tasks until none is left.
    fn run(&self) {
        /// Sets the flag back, also when a task panics.
        struct Outside;

        impl Drop for Outside {
            fn drop(&mut self) {
                IN_TASK.set(false);
            }
        }

        IN_TASK.set(true);
        let _outside = Outside;
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.count {
                return;
            }
            (self.task)(index);
        }
    }
}

/// Does the tasks 0 to `count` − 1 together with the threads that are awake. `false`, and nothing done, if these have other tasks.
fn share(count: usize, task: &(dyn Fn(usize) + Sync)) -> bool {
    /// Ends the helpers' access to the tasks, also when a task panics.
    struct Withdrawn;

    impl Drop for Withdrawn {
        fn drop(&mut self) {
            SHARED.store(ptr::null_mut(), Ordering::SeqCst);
            let mut rounds = 0;
            while HELPERS.load(Ordering::SeqCst) > 0 {
                wait(&mut rounds);
            }
            SHARES.store(false, Ordering::Release);
        }
    }

    if SHARES.swap(true, Ordering::Acquire) {
        return false;
    }
    let tasks = Tasks { task, count, next: AtomicUsize::new(0), panic: Mutex::new(None) };
    let withdrawn = Withdrawn;
    SHARED.store(ptr::from_ref(&tasks).cast_mut().cast(), Ordering::SeqCst);
    tasks.run();
    drop(withdrawn);
    if let Some(panic) = tasks.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(panic);
    }
    true
}

/// Does tasks of another thread, if it shares any.
fn help() {
    if SHARED.load(Ordering::Relaxed).is_null() {
        return;
    }
    HELPERS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the tasks live until their thread has withdrawn them and then seen no helper. This thread has been one since before
    // it read the pointer, so either the pointer is null or that thread waits.
    if let Some(tasks) = unsafe { SHARED.load(Ordering::SeqCst).as_ref() }
        && let Err(panic) = catch_unwind(AssertUnwindSafe(|| tasks.run()))
    {
        tasks.next.store(tasks.count, Ordering::Relaxed);
        tasks.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
    }
    HELPERS.fetch_sub(1, Ordering::SeqCst);
}

/// Waits for a moment: with more threads than processors, the one that is waited for needs this one's.
fn wait(rounds: &mut usize) {
    /// Some ten microseconds.
    const SPINS: usize = 1 << 9;
    *rounds += 1;
    if *rounds < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
}

/// Runs the tasks 0 to `count` − 1, of `work` multiply-adds together, and returns their results in
/// order.
pub(crate) fn map_tasks<T: Send + Sync>(
    count: usize,
    work: usize,
    task: impl Fn(usize) -> T + Sync + Send,
) -> Vec<T> {
    if count <= 1 || work <= thread_cost() {
        return (0..count).map(task).collect();
    }
    if AWAKE.load(Ordering::Relaxed) {
        let results: Vec<OnceLock<T>> = (0..count).map(|_| OnceLock::new()).collect();
        let done = share(count, &|index| {
            let _ = results[index].set(task(index));
        });
        if done {
            return results.into_iter().filter_map(OnceLock::into_inner).collect();
        }
    }
    (0..count).into_par_iter().map(task).collect()
}

/// Calls `task` with each chunk of `len` values, the last of which may be shorter, and its index.
pub(crate) fn for_each_chunk<T: Send>(
    values: &mut [T],
    len: usize,
    task: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    if values.len() > len && worth_threads(values.len()) {
        if AWAKE.load(Ordering::Relaxed) {
            let chunks: Vec<_> = values.chunks_mut(len).map(Mutex::new).collect();
            let chunk = |index: usize| {
                task(index, &mut chunks[index].lock().unwrap_or_else(PoisonError::into_inner));
            };
            if share(chunks.len(), &chunk) {
                return;
            }
        }
        values.par_chunks_mut(len).enumerate().for_each(|(index, chunk)| task(index, chunk));
    } else {
        values.chunks_mut(len).enumerate().for_each(|(index, chunk)| task(index, chunk));
    }
}

/// Runs `work` on a thread of the pool, while the other threads look for its tasks without going to sleep in between.
///
/// A thread that sleeps takes some 50 µs to wake, as long as one op takes of a network on one image.
pub(crate) fn with_threads_awake<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    /// Looks for shared tasks before one for others of the pool, which costs more.
    const LOOKS: usize = 16;
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
                    for _ in 0..LOOKS {
                        help();
                        std::hint::spin_loop();
                    }
                    rayon::yield_now();
                }
            });
        }
        work()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `work` where four threads wait for tasks.
    fn on_four_threads<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        pool.install(|| with_threads_awake(work))
    }

    #[test]
    fn shared_tasks_are_done_once_and_tasks_within_them_on_their_thread() {
        let done: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
        for round in 1..=200 {
            let sums = on_four_threads(|| {
                map_tasks(done.len(), usize::MAX, |task| {
                    done[task].fetch_add(1, Ordering::Relaxed);
                    let own = std::thread::current().id();
                    let within = map_tasks(3, usize::MAX - 1, |i| (std::thread::current().id(), task * i));
                    assert!(within.iter().all(|(thread, _)| *thread == own || !IN_TASK.get()));
                    within.iter().map(|(_, product)| product).sum::<usize>()
                })
            });
            assert_eq!(sums, (0..done.len()).map(|task| 3 * task).collect::<Vec<_>>());
            assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == round));
        }
    }

    #[test]
    fn chunks_are_done_once() {
        let mut values = vec![0; 100_001];
        for round in 1..=20 {
            on_four_threads(|| {
                for_each_chunk(&mut values, 1000, |index, chunk| {
                    assert_eq!(chunk.len(), if index == 100 { 1 } else { 1000 });
                    chunk.iter_mut().for_each(|value| *value += 1);
                });
            });
            assert!(values.iter().all(|&value| value == round));
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_later_tasks_run() {
        for at in [0, 7, 49] {
            let caught = catch_unwind(|| {
                on_four_threads(|| map_tasks(50, usize::MAX, |task| assert!(task != at, "task {task}")))
            });
            let panic = caught.expect_err("the task panics");
            assert_eq!(panic.downcast_ref::<String>(), Some(&format!("task {at}")));
            assert!(!IN_TASK.get());
            let tasks = on_four_threads(|| map_tasks(50, usize::MAX, |task| task));
            assert_eq!(tasks, (0..50).collect::<Vec<_>>());
        }
    }
}
