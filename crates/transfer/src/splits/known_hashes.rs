//! The hashes of earlier runs, so that a large data set is not read again for every command.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use firstsight_data::CacheFolder;

use super::ContentHash;

/// A file that changed less long ago may change again without another time.
const SETTLED: Duration = Duration::from_secs(2);

/// Size, and nanoseconds since 1970 of the last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    bytes: u64,
    changed: u128,
}

impl Stamp {
    pub(super) fn of(file: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(file).ok()?;
        let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        Some(Self { bytes: metadata.len(), changed })
    }

    fn is_settled(self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_nanos() > self.changed + SETTLED.as_nanos()
    }
}

/// A file of the cache, with a row for each image: its path, size, time and hash.
pub(super) struct KnownHashes<'a> {
    cache: &'a CacheFolder,
    name: String,
    known: HashMap<String, (Stamp, ContentHash)>,
}

impl<'a> KnownHashes<'a> {
    /// Those of the data set in `root`; none where the file is missing or damaged.
    pub(super) fn read(cache: &'a CacheFolder, root: &Path) -> Self {
        let root = ContentHash::of(text(root).as_bytes()).to_string();
        let name = format!("{}.hashes", &root[..16]);
        let mut known = HashMap::new();
        if let Ok(mut reader) = csv::ReaderBuilder::new().has_headers(false).from_path(cache.find(&name)) {
            for row in reader.deserialize::<(String, u64, u128, String)>().flatten() {
                let (path, bytes, changed, hash) = row;
                if let Ok(hash) = hash.parse() {
                    known.insert(path, (Stamp { bytes, changed }, hash));
                }
            }
        }
        Self { cache, name, known }
    }

    pub(super) fn get(&self, path: &Path, stamp: Option<Stamp>) -> Option<ContentHash> {
        let (known, hash) = self.known.get(&text(path))?;
        (Some(*known) == stamp).then_some(*hash)
    }

    /// Keeps the hashes in place of those before, if there is any new one.
    pub(super) fn write(self, hashes: &[(PathBuf, Option<Stamp>, ContentHash)]) {
        if hashes.iter().all(|(path, stamp, _)| self.get(path, *stamp).is_some()) {
            return;
        }
        let mut writer = csv::Writer::from_writer(Vec::new());
        for (path, stamp, hash) in hashes {
            let Some(stamp) = stamp.filter(|stamp| stamp.is_settled()) else { continue };
            // Writing to memory does not fail.
            let _ = writer.serialize((text(path), stamp.bytes, stamp.changed, hash.to_string()));
        }
        if let Ok(bytes) = writer.into_inner()
            && !bytes.is_empty()
        {
            self.cache.write(&self.name, bytes.len() as u64, |file| file.write_all(&bytes));
        }
    }
}

fn text(path: &Path) -> String {
    std::path::absolute(path).as_deref().unwrap_or(path).to_string_lossy().into_owned()
}
