//! Process-wide settings, made before anything else.

/// Tells glibc's allocator to keep freed memory, large blocks included; does nothing elsewhere. A training step's
/// buffers are then reused by the next: giving them back and touching fresh pages costs a third of the step.
pub(crate) fn tune_glibc_malloc() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const TOP_PAD: libc::c_int = 64 << 20;
        // SAFETY: mallopt takes the allocator's lock, and sets its parameters alone.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
            libc::mallopt(libc::M_TOP_PAD, TOP_PAD);
        }
    }
}

/// Gives freed memory back to the system, which glibc's allocator keeps otherwise. Making the lists of many images takes more memory
/// than the lists themselves.
pub(crate) fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes the allocator's locks, and touches free blocks alone.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Shortens the busy waiting of candle's own threads, which would otherwise occupy a core for a millisecond after each
/// operation. An existing setting of candle's variable wins. Nothing is done where other threads run already.
pub(crate) fn limit_candle_spin() {
    const SPINS: &str = "CANDLE_BARRIER_POOL_SPIN_LIMIT";
    let others = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1);
    if !others && std::env::var_os(SPINS).is_none() {
        // SAFETY: no other thread runs, as Linux says; elsewhere by the contract of `main_with`, which programs call first.
        unsafe { std::env::set_var(SPINS, "100") };
    }
}
