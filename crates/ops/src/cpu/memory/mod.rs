//! Buffers that are reused, shared mutable views of them, and work for threads.

pub(crate) mod buffer;
pub(crate) mod planes;
pub(crate) mod scratch;
pub(crate) mod threads;
