//! The hashes of earlier runs, so that a large data set is not read again for every command.

use std::hash::Hasher as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use firstsight_data::{CacheFolder, Sample};
use fnv::FnvHasher;

use super::ContentHash;

/// A file that changed less long ago may change again without another time.
const SETTLED: Duration = Duration::from_secs(2);

/// Size, and nanoseconds since 1970 of the last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    bytes: u64,
    changed: u64,
}

impl Stamp {
    pub(super) fn of(file: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(file).ok()?;
        let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos() as u64;
        Some(Self { bytes: metadata.len(), changed })
    }

    fn is_settled(self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_nanos() > u128::from(self.changed) + SETTLED.as_nanos()
    }
}

/// The size and time of an image's file, and the image's hash.
pub(super) type Hashed = (Option<Stamp>, ContentHash);

/// About how many bytes a row has besides its path.
const ROW: usize = 100;

/// A file of the cache, with a row for each image: its path, size, time and hash.
pub(super) struct KnownHashes<'a> {
    cache: &'a CacheFolder,
    name: String,
    /// By the hash of the path.
    known: Vec<(u64, Stamp, ContentHash)>,
}

impl<'a> KnownHashes<'a> {
    /// Those of the data set in `root`; none where the file is missing or damaged.
    pub(super) fn read(cache: &'a CacheFolder, root: &Path) -> Self {
        let root = ContentHash::of(text(root).as_bytes()).to_string();
        let name = format!("{}.hashes", &root[..16]);
        let mut known = Vec::new();
        let path = cache.find(&name);
        if let Ok(mut reader) = csv::ReaderBuilder::new().has_headers(false).from_path(&path) {
            known.reserve(std::fs::metadata(path).map_or(0, |file| file.len() as usize / (ROW + 20)));
            for row in reader.deserialize::<(String, u64, u64, String)>().flatten() {
                let (path, bytes, changed, hash) = row;
                if let Ok(hash) = hash.parse() {
                    known.push((key(&path), Stamp { bytes, changed }, hash));
                }
            }
        }
        known.sort_unstable_by_key(|(path, ..)| *path);
        Self { cache, name, known }
    }

    pub(super) fn get(&self, path: &Path, stamp: Option<Stamp>) -> Option<ContentHash> {
        let path = key(&text(path));
        let (_, known, hash) = self.known[self.known.binary_search_by_key(&path, |(path, ..)| *path).ok()?];
        (Some(known) == stamp).then_some(hash)
    }

    /// Keeps the hashes of images in place of those before, if there is any new one.
    pub(super) fn write(self, images: &[&Sample], hashes: &[Option<Hashed>]) {
        let all = || images.iter().zip(hashes).filter_map(|(image, hashed)| Some((image, (*hashed)?)));
        if all().all(|(image, (stamp, _))| self.get(&image.path(), stamp).is_some()) {
            return;
        }
        let settled = || {
            all().filter_map(|(image, (stamp, hash))| {
                Some((image.path(), stamp.filter(|stamp| stamp.is_settled())?, hash))
            })
        };
        let bytes: usize = settled().map(|(path, ..)| path.as_os_str().len() + ROW).sum();
        if bytes == 0 {
            return;
        }
        self.cache.write(&self.name, bytes as u64, |file| {
            let mut writer = csv::Writer::from_writer(file);
            for (path, stamp, hash) in settled() {
                let row = (text(&path), stamp.bytes, stamp.changed, hash.to_string());
                writer.serialize(row).map_err(std::io::Error::other)?;
            }
            writer.flush()
        });
    }
}

fn key(path: &str) -> u64 {
    let mut hash = FnvHasher::default();
    hash.write(path.as_bytes());
    hash.finish()
}

fn text(path: &Path) -> String {
    std::path::absolute(path).as_deref().unwrap_or(path).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_known_for_its_own_file_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CacheFolder::new(folder.path().join("cache"));
        let hour = SystemTime::now() - Duration::from_secs(3600);
        // Of one size and one time.
        let paths = ["a.png", "b.png", "c.png"].map(|name| folder.path().join(name));
        for (i, path) in paths.iter().enumerate() {
            std::fs::write(path, [i as u8; 10]).unwrap();
            std::fs::File::options().write(true).open(path).unwrap().set_modified(hour).unwrap();
        }
        let hash = |i: u8| ContentHash::of(&[i; 10]);
        let stamp = Stamp::of(&paths[0]);
        assert!(paths.iter().all(|path| Stamp::of(path) == stamp));
        let samples = [Sample::file(&paths[0]), Sample::file(&paths[1])];
        let hashes = [Some((stamp, hash(0))), Some((stamp, hash(1)))];
        KnownHashes::read(&cache, folder.path()).write(&samples.iter().collect::<Vec<_>>(), &hashes);
        let known = KnownHashes::read(&cache, folder.path());
        let found = |path| known.get(path, stamp).map(|hash| hash.to_string());
        assert_eq!(found(&paths[0]), Some(hash(0).to_string()));
        assert_eq!(found(&paths[1]), Some(hash(1).to_string()));
        assert_eq!(found(&paths[2]), None);
        std::fs::write(&paths[0], [7; 11]).unwrap();
        assert!(known.get(&paths[0], Stamp::of(&paths[0])).is_none(), "it has changed");
    }
}
