//! Decoding of images side by side, within a memory.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use firstsight_data::{DecodeSettings, Error, decode_bytes, decoding_memory};
use firstsight_transfer::DecodedFile;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Memory is shared out in units of so many bytes.
const UNIT: u64 = 1 << 16;

/// Decodes images side by side, one for each thread, within a memory.
#[derive(Debug, Clone)]
pub(crate) struct Decoding {
    settings: DecodeSettings,
    available: u64,
    units: Arc<Semaphore>,
    threads: Arc<Semaphore>,
}

impl Decoding {
    pub(crate) fn new(settings: DecodeSettings, available: u64) -> Self {
        let units = usize::try_from(available / UNIT).unwrap_or(usize::MAX).clamp(1, u32::MAX as usize / 2);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            settings,
            available: units as u64 * UNIT,
            units: Arc::new(Semaphore::new(units)),
            threads: Arc::new(Semaphore::new(threads)),
        }
    }

    pub(crate) fn settings(&self) -> &DecodeSettings {
        &self.settings
    }

    /// Images in their order. What isn't begun when this future is dropped never begins.
    pub(crate) async fn decode(&self, images: Vec<(String, Bytes)>) -> Vec<DecodedFile> {
        let mut tasks = JoinSet::new();
        let names: Vec<PathBuf> = images.iter().map(|(name, _)| PathBuf::from(name)).collect();
        for (i, (name, bytes)) in images.into_iter().enumerate() {
            let decoding = self.clone();
            tasks.spawn(async move { (i, decoding.one(PathBuf::from(name), bytes).await) });
        }
        let lost = |path: PathBuf| (path, Err(Error::Said("the image's decoder failed".to_owned())));
        let mut decoded: Vec<DecodedFile> = names.into_iter().map(lost).collect();
        while let Some(done) = tasks.join_next().await {
            if let Ok((i, Some(image))) = done {
                decoded[i] = image;
            }
        }
        decoded
    }

    async fn one(self, path: PathBuf, bytes: Bytes) -> Option<DecodedFile> {
        // What isn't known to be too large is decoded: that tells what is wrong with it.
        let needed = decoding_memory(&path, &bytes, &self.settings).unwrap_or(0);
        if needed > self.available {
            let available = self.available;
            return Some((path.clone(), Err(Error::DecodingMemory { path, needed, available })));
        }
        let units = u32::try_from(needed.div_ceil(UNIT)).ok()?;
        let memory = self.units.acquire_many_owned(units).await.ok()?;
        let thread = self.threads.acquire_owned().await.ok()?;
        let settings = self.settings;
        let decode = move || {
            let image = decode_bytes(&path, &bytes, &settings);
            drop((memory, thread));
            (path, image)
        };
        tokio::task::spawn_blocking(decode).await.ok()
    }
}
