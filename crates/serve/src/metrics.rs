//! Counts of a service, as Prometheus reads them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper ends of the latencies' buckets, in seconds.
const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Upper ends of the batches' buckets, in images.
const IMAGES: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// Counts of a service.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Requests by path and status.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    latency: Mutex<Histogram<12>>,
    batches: Mutex<Histogram<7>>,
    images: AtomicU64,
    unreadable: AtomicU64,
}

#[derive(Debug)]
struct Histogram<const N: usize> {
    ends: [f64; N],
    counts: [u64; N],
    count: u64,
    sum: f64,
}

impl<const N: usize> Histogram<N> {
    fn new(ends: [f64; N]) -> Self {
        Self { ends, counts: [0; N], count: 0, sum: 0.0 }
    }

    fn observe(&mut self, value: f64) {
        for (end, count) in self.ends.iter().zip(&mut self.counts) {
            *count += u64::from(value <= *end);
        }
        self.count += 1;
        self.sum += value;
    }

    fn write(&self, text: &mut String, name: &str, help: &str) {
        head(text, name, "histogram", help);
        for (end, count) in self.ends.iter().zip(&self.counts) {
            let _ = writeln!(text, "{name}_bucket{{le=\"{end}\"}} {count}");
        }
        let (count, sum) = (self.count, self.sum);
        let _ =
            writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            requests: Mutex::default(),
            latency: Mutex::new(Histogram::new(SECONDS)),
            batches: Mutex::new(Histogram::new(IMAGES)),
            images: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
        }
    }

    /// Counts a request. The latency is that of predictions that were answered.
    pub(crate) fn request(&self, path: &'static str, status: u16, taken: Duration) {
        *lock(&self.requests).entry((path, status)).or_default() += 1;
        if path == "/predict" && status == 200 {
            lock(&self.latency).observe(taken.as_secs_f64());
        }
    }

    /// Counts a request's images, and those that could not be read.
    pub(crate) fn images(&self, n: usize, unreadable: usize) {
        self.images.fetch_add(n as u64, Ordering::Relaxed);
        self.unreadable.fetch_add(unreadable as u64, Ordering::Relaxed);
    }

    /// Counts a pass of the network over `n` images.
    pub(crate) fn batch(&self, n: usize) {
        lock(&self.batches).observe(n as f64);
    }

    /// The text, with gauges (name, help, value) of what is measured elsewhere.
    pub(crate) fn text(&self, gauges: &[(&str, &str, usize)]) -> String {
        let mut text = String::new();
        let name = "firstsight_requests_total";
        head(&mut text, name, "counter", "Requests by path and status.");
        for ((path, status), count) in lock(&self.requests).iter() {
            let _ = writeln!(text, "{name}{{path=\"{path}\",status=\"{status}\"}} {count}");
        }
        lock(&self.latency).write(
            &mut text,
            "firstsight_predict_seconds",
            "Seconds from a request for predictions to its answer.",
        );
        lock(&self.batches).write(
            &mut text,
            "firstsight_batch_images",
            "Images that the network saw at once.",
        );
        for (name, help, count) in [
            ("firstsight_images_total", "Images that were sent.", &self.images),
            ("firstsight_unreadable_images_total", "Images that could not be read.", &self.unreadable),
        ] {
            head(&mut text, name, "counter", help);
            let _ = writeln!(text, "{name} {}", count.load(Ordering::Relaxed));
        }
        for (name, help, value) in gauges {
            head(&mut text, name, "gauge", help);
            let _ = writeln!(text, "{name} {value}");
        }
        text
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
