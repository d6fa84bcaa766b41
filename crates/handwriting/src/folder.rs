//! The data set as a folder.

use std::collections::BTreeMap;
use std::fs;
use std::hash::Hasher;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use firstsight_files::DraftFolder;
use fnv::FnvHasher;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Error, Image, Result, Split, Writer, counts, render};

/// Settings of [`generate`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The seed of all writers and samples.
    pub seed: u64,
    /// The share of the lecture's number of images, in (0, 1]; at least two of each character are drawn. A smaller
    /// data set holds the first images of a larger one with the same seed.
    pub scale: f64,
}

impl Settings {
    /// The number of images of each character that [`generate`] writes.
    ///
    /// # Errors
    ///
    /// [`Error::Scale`] for a scale outside (0, 1].
    pub fn counts(&self, split: Split) -> Result<impl Iterator<Item = (char, usize)>> {
        let scale = self.scale;
        if !(scale > 0.0 && scale <= 1.0) {
            return Err(Error::Scale { found: scale });
        }
        Ok(counts(split).map(move |(character, n)| (character, ((n as f64 * scale).round() as usize).max(2))))
    }
}

/// The content of a data set, as recorded in its `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The kind of data set and its version: the same kind and settings mean the same images.
    pub kind: String,
    /// The settings that generated it.
    pub settings: Settings,
    /// The number of images of each character, by the name of the split.
    pub counts: BTreeMap<String, BTreeMap<char, usize>>,
    /// The size of all images.
    pub bytes: u64,
    /// 64-bit FNV-1a in hexadecimal over the hash of every image (8 bytes little endian, over its width and height as 4
    /// bytes little endian each and its pixels): `Train` before `Test`, characters in [`crate::CHARACTERS`]' order,
    /// images by number.
    pub checksum: String,
}

impl Manifest {
    /// The number of images.
    pub fn images(&self) -> usize {
        self.counts.values().flat_map(BTreeMap::values).sum()
    }
}

/// Kind and version: to be changed with every change of the images.
const KIND: &str = "firstsight-handwriting 1";
const MANIFEST: &str = "manifest.json";

/// Writes the data set to the folder `out`: `Train/人/1.png` and so on, and `manifest.json`.
///
/// The images are drawn on rayon's threads into a temporary folder, which is renamed to `out` when complete. If
/// `out` holds the same data set already, nothing is written; another one that this function wrote (or of which
/// images are missing) is replaced. `progress` is called with (images written, total number of images), from any
/// thread.
///
/// # Errors
///
/// [`Error::Scale`]; [`Error::Foreign`] if `out` holds anything else; [`Error::Io`].
///
/// ```
/// use firstsight_handwriting::{Settings, generate};
/// let folder = tempfile::tempdir()?;
/// let out = folder.path().join("characters");
/// let manifest = generate(&out, &Settings { seed: 123, scale: 0.001 }, &|_, _| ())?;
/// assert_eq!(manifest.images(), 2 * 2 * 55);
/// assert!(out.join("Train/虎/1.png").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn generate(
    out: &Path,
    settings: &Settings,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Manifest> {
    let jobs = jobs(settings)?;
    if let Some(Found { manifest, complete: true }) = inspect(out)?
        && manifest.kind == KIND
        && manifest.settings == *settings
    {
        return Ok(manifest);
    }
    // A path of one name, such as "characters", lies in the current folder.
    let parent = match out.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(at(out))?;
    let draft = DraftFolder::create(out).map_err(at(out))?;
    let manifest = write(draft.path(), settings, &jobs, progress)?;
    // What was there goes only now that the new folder is whole.
    draft.commit().map_err(at(out))?;
    Ok(manifest)
}

/// One image to draw; `index` counts from 0.
struct Job {
    split: Split,
    character: char,
    index: usize,
}

impl Job {
    /// The image's path in the data set; files count from 1.
    fn path(&self) -> PathBuf {
        let Job { split, character, index } = self;
        format!("{split}/{character}/{}.png", index + 1).into()
    }

    fn draw(&self, seed: u64) -> Result<Image> {
        let writers = self.split.writers();
        let writer = Writer::new(seed, self.split, (self.index % writers) as u32);
        render(self.character, &writer, (self.index / writers) as u64)
    }
}

fn jobs(settings: &Settings) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for split in Split::ALL {
        for (character, n) in settings.counts(split)? {
            jobs.extend((0..n).map(|index| Job { split, character, index }));
        }
    }
    Ok(jobs)
}

fn write(
    folder: &Path,
    settings: &Settings,
    jobs: &[Job],
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Manifest> {
    let mut by_split = BTreeMap::new();
    for split in Split::ALL {
        let by_character: BTreeMap<char, usize> = settings.counts(split)?.collect();
        for character in by_character.keys() {
            let class = folder.join(format!("{split}/{character}"));
            fs::create_dir_all(&class).map_err(at(&class))?;
        }
        by_split.insert(split.to_string(), by_character);
    }
    let written = AtomicUsize::new(0);
    let files: Vec<(usize, u64)> = jobs
        .par_iter()
        .map(|job| {
            let image = job.draw(settings.seed)?;
            let path = folder.join(job.path());
            let mut png = Vec::new();
            image.write_png(&mut png).and_then(|()| fs::write(&path, &png)).map_err(at(&path))?;
            progress(written.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
            let mut hash = FnvHasher::default();
            hash.write(&image.width.to_le_bytes());
            hash.write(&image.height.to_le_bytes());
            hash.write(&image.pixels);
            Ok((png.len(), hash.finish()))
        })
        .collect::<Result<_>>()?;

    let mut hash = FnvHasher::default();
    files.iter().for_each(|(_, file)| hash.write(&file.to_le_bytes()));
    let manifest = Manifest {
        kind: KIND.to_owned(),
        settings: *settings,
        counts: by_split,
        bytes: files.iter().map(|(len, _)| *len as u64).sum(),
        checksum: format!("{:016x}", hash.finish()),
    };
    let path = folder.join(MANIFEST);
    let mut file = fs::File::create(&path).map_err(at(&path))?;
    serde_json::to_writer_pretty(&mut file, &manifest).map_err(|error| at(&path)(error.into()))?;
    file.write_all(b"\n").and_then(|()| file.sync_all()).map_err(at(&path))?;
    Ok(manifest)
}

/// An earlier data set.
struct Found {
    manifest: Manifest,
    /// Whether all images are there, judged by their number and total size.
    complete: bool,
}

/// Inspects `out`: nothing (`None`), an earlier data set and nothing else, or an error.
fn inspect(out: &Path) -> Result<Option<Found>> {
    let foreign = |found: &Path| Error::Foreign { folder: out.to_owned(), found: found.to_owned() };
    if !out.exists() {
        return Ok(None);
    }
    if !out.is_dir() {
        return Err(foreign(out));
    }
    let entries = list(out)?;
    let Some(first) = entries.first() else { return Ok(None) };
    let path = out.join(MANIFEST);
    let manifest: Manifest = match fs::read(&path) {
        Ok(json) => serde_json::from_slice(&json).map_err(|_| foreign(&path))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(foreign(first)),
        Err(error) => return Err(at(&path)(error)),
    };

    let (mut images, mut bytes) = (0, 0);
    for split in entries {
        if split == path {
            continue;
        }
        let Some(by_character) = name(&split).and_then(|name| manifest.counts.get(name)) else {
            return Err(foreign(&split));
        };
        for class in list(&split)? {
            let Some(&count) = single(name(&class)).and_then(|character| by_character.get(&character)) else {
                return Err(foreign(&class));
            };
            for file in list(&class)? {
                let number =
                    name(&file).and_then(|name| name.strip_suffix(".png")).and_then(|n| n.parse().ok());
                if !number.is_some_and(|number: usize| (1..=count).contains(&number)) {
                    return Err(foreign(&file));
                }
                images += 1;
                bytes += fs::metadata(&file).map_err(at(&file))?.len();
            }
        }
    }
    let complete = images == manifest.images() && bytes == manifest.bytes;
    Ok(Some(Found { manifest, complete }))
}

/// The paths in a folder, sorted.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(at(folder))?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// The character of a name that has just one.
fn single(name: Option<&str>) -> Option<char> {
    let mut characters = name?.chars();
    characters.next().filter(|_| characters.next().is_none())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}
