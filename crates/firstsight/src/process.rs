//! What the process asks of the system before anything else.

/// Tells glibc's allocator to keep freed memory, large blocks included; does nothing elsewhere. A training step's
/// buffers are then reused by the next: giving them back and touching fresh pages costs a third of the step.
pub(crate) fn tune_glibc_malloc() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const TOP_PAD: libc::c_int = 64 << 20;
        // SAFETY: mallopt only sets the allocator's parameters; no other thread runs yet.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
            libc::mallopt(libc::M_TOP_PAD, TOP_PAD);
        }
    }
}

/// Lets candle's own threads, where two or three of its sums on the tape still run, rest soon after each: they would
/// otherwise keep a processor from ours for a millisecond, waiting for the next. Who has set candle's variable decides.
pub(crate) fn limit_candle_spin() {
    const SPINS: &str = "CANDLE_BARRIER_POOL_SPIN_LIMIT";
    if std::env::var_os(SPINS).is_none() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var(SPINS, "100") };
    }
}

/// Lets a closed pipe end the process without a word, as it ends other Unix programs (`… --json | head`).
pub(crate) fn reset_sigpipe() {
    #[cfg(unix)]
    // SAFETY: the default action is sound for any signal; no other thread runs yet.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}
