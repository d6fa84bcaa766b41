//! What a service takes at most.

use std::time::Duration;

/// What a service takes at most. What is more is refused with a status that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body; more is 413.
    pub body: usize,
    /// Images of a request; more is 413.
    pub images: usize,
    /// Bytes of memory that images take while they are decoded, all together; an image that needs more by itself is 413. Others wait
    /// for their turn.
    pub decoding_memory: u64,
    /// Requests that are read, decoded or answered at the same time; the next is 503.
    pub queue: usize,
    /// Connections; those above it get 503.
    pub connections: usize,
    /// Time that a request may take: to arrive (408), and to be answered (503).
    pub time: Duration,
    /// Images that the network sees at once.
    pub batch: usize,
}

impl Limits {
    /// Limits for a service on one machine: 32 MB and 64 images a request, 1 GB for decoding, 64 requests at a time over 256
    /// connections, 30 seconds, batches of 16.
    pub fn usual() -> Self {
        Self {
            body: 32_000_000,
            images: 64,
            decoding_memory: 1_000_000_000,
            queue: 64,
            connections: 256,
            time: Duration::from_secs(30),
            batch: 16,
        }
    }
}
