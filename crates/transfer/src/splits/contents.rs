//! What is in the files: hashes, by which equal images are found wherever they lie.

use std::fmt;
use std::hash::Hasher as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firstsight_data::{DatasetFolder, Groups, ImageFolder, Sample};
use fnv::FnvHasher;
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::known_hashes::{Hashed, KnownHashes, Stamp};
use super::{Split, label, relative};
use crate::Runtime;

/// The SHA-256 of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl ContentHash {
    /// Its first 16 bytes.
    pub(super) fn prefix(&self) -> u128 {
        self.0.first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ContentHash {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.len() != 64 || !text.is_ascii() {
            return Err(());
        }
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = str::from_utf8(digits).map_err(|_| ())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| ())?;
        }
        Ok(Self(hash))
    }
}

/// The content hashes of images. A file that cannot be read has none; decoding says why.
#[derive(Debug, Clone, Default)]
pub struct Contents(
    /// By the hash of the path.
    Arc<Vec<(u64, ContentHash)>>,
);

impl Contents {
    /// Reads the files of folders, in parallel. With the runtime's cache, files of the same size and time as in an earlier
    /// run are not read again.
    pub fn read(folders: &[&ImageFolder], runtime: &Runtime) -> Self {
        let samples: Vec<&Sample> = folders.iter().flat_map(|folder| folder.samples()).collect();
        let root = folders.first().map_or(Path::new(""), |folder| folder.root());
        let known = runtime.cache.as_ref().map(|cache| KnownHashes::read(cache, root));
        let finished = AtomicUsize::new(0);
        let hashed = runtime.counted("reading files", |report| {
            let hash = |sample: &&Sample| {
                let stamp = Stamp::of(&sample.container());
                let hash = known.as_ref().and_then(|known| known.get(&sample.path(), stamp));
                let hash = hash.or_else(|| Some(ContentHash::of(&sample.read().ok()?)));
                report(finished.fetch_add(1, Ordering::Relaxed) + 1, samples.len());
                hash.map(|hash| (stamp, hash))
            };
            Ok::<_, std::convert::Infallible>(samples.par_iter().map(hash).collect())
        });
        let hashed: Vec<Option<Hashed>> = hashed.unwrap_or_default();
        if let Some(known) = known {
            known.write(&samples, &hashed);
        }
        let mut contents = Vec::with_capacity(hashed.len());
        let pairs = samples.iter().zip(hashed);
        contents.extend(pairs.filter_map(|(sample, hashed)| Some((key(sample), hashed?.1))));
        contents.sort_unstable();
        Self(Arc::new(contents))
    }

    /// The hash of an image.
    pub fn get(&self, sample: &Sample) -> Option<ContentHash> {
        self.find(sample).map(|at| self.at(at))
    }

    /// Images of equal content are a group. Files that cannot be read are like no other.
    pub(super) fn groups(&self, folder: &ImageFolder) -> Groups {
        let key = |(i, sample)| self.get(sample).map_or(i, |hash| hash.prefix());
        Groups::new((0..).zip(folder.samples()).map(key))
    }

    /// Where the hash of an image is.
    pub(super) fn find(&self, sample: &Sample) -> Option<u32> {
        let path = key(sample);
        self.0.binary_search_by_key(&path, |(path, _)| *path).ok().map(|at| at as u32)
    }

    pub(super) fn at(&self, at: u32) -> ContentHash {
        self.0[at as usize].1
    }
}

/// The hash of an image's path.
fn key(sample: &Sample) -> u64 {
    let mut hash = FnvHasher::default();
    hash.write(sample.path().as_os_str().as_encoded_bytes());
    hash.finish()
}

/// Images of equal content where there should be none.
#[derive(Debug, Clone, Default)]
pub struct Duplicates {
    /// Images of one split that are in another as well: what is measured there was trained on.
    pub across: Vec<Across>,
    /// Images that are there with two labels, each once: two of their files.
    pub conflicting: Vec<(PathBuf, PathBuf)>,
}

/// A part and an image's index in it.
type Place = (u32, u32);

/// An image of one split that is in another as well.
#[derive(Debug, Clone)]
pub struct Across {
    /// The split.
    pub split: Split,
    /// Its file.
    pub file: PathBuf,
    /// The other split: training before validation.
    pub other: Split,
    /// The file there.
    pub other_file: PathBuf,
}

impl Duplicates {
    /// Reads the files of a data set and finds its duplicates.
    pub fn of(dataset: &DatasetFolder, runtime: &Runtime) -> Self {
        let splits =
            [(Split::Train, &dataset.train), (Split::Val, &dataset.val), (Split::Test, &dataset.test)];
        let parts: Vec<(Split, &ImageFolder)> =
            splits.into_iter().filter_map(|(split, folder)| Some((split, folder.as_ref()?))).collect();
        let folders: Vec<&ImageFolder> = parts.iter().map(|(_, folder)| *folder).collect();
        Self::find(&parts, &Contents::read(&folders, runtime))
    }

    /// Finds the duplicates of splits, which share their classes and are in the order train, val, test.
    pub fn find(parts: &[(Split, &ImageFolder)], contents: &Contents) -> Self {
        // Images with their places, those of one content side by side.
        let total = parts.iter().map(|(_, folder)| folder.len()).sum();
        let mut images: Vec<(ContentHash, Place)> = Vec::with_capacity(total);
        for (part, (_, folder)) in parts.iter().enumerate() {
            let hashes = folder.samples().iter().map(|sample| contents.get(sample)).enumerate();
            images.extend(hashes.filter_map(|(i, hash)| Some((hash?, (part as u32, i as u32)))));
        }
        images.sort_unstable();
        let (mut across, mut conflicting) = (Vec::new(), Vec::new());
        for same in images.chunk_by(|a, b| a.0 == b.0) {
            let (first, others) = (same[0].1, same[1..].iter().map(|image| image.1));
            let label = |(part, i): Place| label(parts[part as usize].1, i as usize);
            let first_label = if same.len() > 1 { label(first) } else { String::new() };
            across.extend(others.clone().filter(|other| other.0 != first.0).map(|other| (other, first)));
            conflicting.extend(others.clone().find(|&other| label(other) != first_label).map(|o| (o, first)));
        }
        // By the image that comes later.
        across.sort_unstable();
        conflicting.sort_unstable();
        let split = |(part, _): Place| parts[part as usize].0;
        let file = |(part, i): Place| parts[part as usize].1.samples()[i as usize].path();
        let across = across.into_iter().map(|(image, first)| Across {
            split: split(image),
            file: file(image),
            other: split(first),
            other_file: file(first),
        });
        let conflicting = conflicting.into_iter().map(|(image, first)| (file(first), file(image)));
        Self { across: across.collect(), conflicting: conflicting.collect() }
    }

    /// What there is to say, with paths below `root`.
    pub fn sentences(&self, root: &Path) -> Vec<String> {
        let mut sentences = Vec::new();
        for (split, other) in
            [(Split::Val, Split::Train), (Split::Test, Split::Train), (Split::Test, Split::Val)]
        {
            let here: Vec<_> = self.across.iter().filter(|a| (a.split, a.other) == (split, other)).collect();
            if let Some(first) = here.first() {
                sentences.push(format!(
                    "{} of {} {} also in {} (first: {} is {})",
                    images(here.len()),
                    split.name(),
                    if here.len() == 1 { "is" } else { "are" },
                    other.name(),
                    relative(root, &first.file),
                    relative(root, &first.other_file),
                ));
            }
        }
        if let Some((a, b)) = self.conflicting.first() {
            sentences.push(format!(
                "{} {} two labels (first: {} is {})",
                images(self.conflicting.len()),
                if self.conflicting.len() == 1 { "has" } else { "have" },
                relative(root, a),
                relative(root, b),
            ));
        }
        sentences
    }
}

/// `1 image`, `2 images`.
pub(crate) fn images(n: usize) -> String {
    format!("{n} {}", if n == 1 { "image" } else { "images" })
}
