//! A folder decoded in parallel, to a mapped file, to memory, or whenever an image is used.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::{ImageDataset, Source, Stored, checksum};
use crate::cache::{self, CachedImages, Outcome, Writer};
use crate::cache_folder::CacheFolder;
use crate::decode::decode_bytes;
use crate::decode_settings::{DecodeSettings, OnError};
use crate::error::{Error, Result};
use crate::sample::{Sample, refuse_special};
use crate::scan::ImageFolder;

/// Bytes of pixels that are decoded before they are written.
const CHUNK: usize = 32 << 20;

/// Optional parts of [`ImageDataset::decode_with`]; the default has no cache and no progress.
#[derive(Clone, Copy)]
pub struct DecodeOptions<'a> {
    /// Where decoded pixels are kept and looked up.
    ///
    /// A cache file is named by a hash of the images' class names, file names, sizes and modification times and of the
    /// settings, so a change to any of these decodes again. A truncated or corrupt file is decoded again, with a
    /// warning. Files are written atomically, so runs at the same time do not disturb each other.
    pub cache: Option<&'a CacheFolder>,
    /// Bytes of pixels that memory may hold where there is no cache.
    pub in_memory: u64,
    /// Called with (images finished, total number of images), from several threads and not always in order.
    pub progress: Option<&'a (dyn Fn(usize, usize) + Sync)>,
}

impl DecodeOptions<'_> {
    /// The default of [`in_memory`](Self::in_memory), 64 MiB.
    pub const IN_MEMORY: u64 = 64 << 20;
}

impl Default for DecodeOptions<'_> {
    fn default() -> Self {
        Self { cache: None, in_memory: Self::IN_MEMORY, progress: None }
    }
}

impl ImageDataset {
    /// Decodes every image of a folder, in parallel. Up to 64 MiB of pixels stay in memory; those of more images are decoded
    /// again whenever they are used.
    ///
    /// The result does not depend on the number of threads.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`] names every file that cannot be decoded, unless `settings.on_error` skips them;
    /// [`Error::Invalid`] for settings that are invalid.
    ///
    /// # Examples
    ///
    /// ```
    /// use firstsight_data::{DecodeSettings, ImageDataset, ImageFolder};
    ///
    /// # let root = tempfile::tempdir().unwrap();
    /// # for (name, gray) in [("ants/1.png", 10), ("ants/2.png", 20), ("bees/1.png", 30)] {
    /// #     let path = root.path().join(name);
    /// #     std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    /// #     image::GrayImage::from_pixel(4, 3, image::Luma([gray])).save(path).unwrap();
    /// # }
    /// # let root = root.path();
    /// let folder = ImageFolder::scan(root)?;
    /// let images = ImageDataset::decode(&folder, &DecodeSettings::gray(8, 6))?;
    /// assert_eq!(images.shape(), (3, 8, 6, 1));
    /// assert_eq!(images.labels(), [0, 0, 1]);
    /// assert_eq!(*images.image(2)?, [30; 8 * 6]);
    /// # Ok::<(), firstsight_data::Error>(())
    /// ```
    pub fn decode(folder: &ImageFolder, settings: &DecodeSettings) -> Result<Self> {
        Self::decode_with(folder, settings, DecodeOptions::default())
    }

    /// As [`decode`](Self::decode), with a cache on disk or reports of progress.
    ///
    /// With a cache, pixels are written to its file while they are decoded, and read from the mapped file. Where there is no
    /// room for it they stay in memory, if they are few enough; if not, each use of an image decodes it, and the first pass
    /// only finds out which files can be decoded.
    ///
    /// # Errors
    ///
    /// Those of [`decode`](Self::decode); [`Error::OutOfMemory`] where memory does not hold a few images at a time. A cache that
    /// cannot be read or written is none.
    pub fn decode_with(
        folder: &ImageFolder,
        settings: &DecodeSettings,
        options: DecodeOptions<'_>,
    ) -> Result<Self> {
        let shape = [folder.len(), settings.height, settings.width, settings.color.channels()];
        let bytes = check_bytes(shape)?;
        let progress = options.progress.unwrap_or(&|_, _| ());
        let mut writer = None;
        if let Some(cache) = options.cache {
            let key = cache::key(folder, settings);
            let name = format!("{key:016x}.images");
            if let Some((images, outcome)) = cache::read(&cache.find(&name), key, shape, progress) {
                return Ok(Self::assemble(folder, shape, outcome, |_| named(folder, images)));
            }
            writer = Writer::begin(cache, &name, key, shape);
        }
        if let Some(mut writer) = writer {
            let outcome = decode_all(folder, settings, bytes, progress, |pixels| writer.pixels(pixels))?;
            // A file that can't be opened now may be opened tomorrow, with the same time. One that is missing has no time.
            let is_lasting = |index: &usize| {
                let path = folder.samples()[*index].container();
                let opened = refuse_special(&path).and_then(|()| File::open(&path));
                opened.map_or_else(|error| error.kind() == ErrorKind::NotFound, |_| true)
            };
            let is_lasting = outcome.excluded.iter().all(|(index, _)| is_lasting(index));
            let images = if is_lasting { writer.finish(&outcome) } else { None };
            return Ok(Self::assemble(folder, shape, outcome, |checksums| match images {
                Some(images) => named(folder, images),
                None => on_use(folder, settings, checksums),
            }));
        }
        let all = bytes * folder.len();
        if all as u64 > options.in_memory {
            let outcome = decode_all(folder, settings, bytes, progress, |_| ())?;
            return Ok(Self::assemble(folder, shape, outcome, |sums| on_use(folder, settings, sums)));
        }
        let mut pixels = Vec::new();
        let refused = |_| Error::OutOfMemory { images: folder.len(), bytes: all as u64 };
        pixels.try_reserve_exact(all).map_err(refused)?;
        let outcome = decode_all(folder, settings, bytes, progress, |some| pixels.extend_from_slice(some))?;
        Ok(Self::assemble(folder, shape, outcome, |_| named(folder, Stored { pixels, bytes })))
    }

    fn assemble(
        folder: &ImageFolder,
        [_, height, width, channels]: [usize; 4],
        outcome: Outcome,
        source: impl FnOnce(Vec<u64>) -> Arc<dyn Source>,
    ) -> Self {
        let Outcome { checksums, excluded, notes } = outcome;
        let left_out: BTreeSet<usize> = excluded.iter().map(|(index, _)| *index).collect();
        let indices = (0..folder.len()).filter(|i| !left_out.contains(i));
        let labels = match excluded.is_empty() {
            true => folder.shared_targets(),
            false => folder.targets().subset(&indices.clone().collect::<Vec<_>>()).into(),
        };
        Self {
            source: source(checksums),
            size: (height, width, channels),
            labels,
            indices: indices.map(|i| i as u32).collect(),
            classes: folder.classes().into(),
            excluded: excluded
                .into_iter()
                .map(|(index, reason)| (folder.samples()[index].path(), reason))
                .collect(),
            notes: Arc::new(notes.into_iter().collect()),
        }
    }
}

/// Pixels that are there, of files.
#[derive(Debug)]
struct Named<P> {
    samples: Arc<[Sample]>,
    pixels: P,
}

fn named(folder: &ImageFolder, pixels: impl Source + 'static) -> Arc<dyn Source> {
    Arc::new(Named { samples: folder.shared_samples(), pixels })
}

impl Source for CachedImages {
    fn image(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        Ok(Self::image(self, index).into())
    }

    fn checksum(&self, index: usize) -> u64 {
        Self::checksum(self, index)
    }
}

impl<P: Source> Source for Named<P> {
    fn image(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        self.pixels.image(index)
    }

    fn checksum(&self, index: usize) -> u64 {
        self.pixels.checksum(index)
    }

    fn path(&self, index: usize) -> Option<PathBuf> {
        Some(self.samples[index].path())
    }
}

/// Files that are decoded whenever they are used.
#[derive(Debug)]
struct OnUse {
    samples: Arc<[Sample]>,
    settings: DecodeSettings,
    /// Of the pixels that were decoded first.
    checksums: Vec<u64>,
}

fn on_use(folder: &ImageFolder, settings: &DecodeSettings, checksums: Vec<u64>) -> Arc<dyn Source> {
    Arc::new(OnUse { samples: folder.shared_samples(), settings: settings.clone(), checksums })
}

impl Source for OnUse {
    fn image(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let sample = &self.samples[index];
        let path = sample.path();
        let pixels = decode_bytes(&path, &sample.read()?, &self.settings)?.pixels;
        match checksum(&pixels) == self.checksums[index] {
            true => Ok(pixels.into()),
            false => Err(Error::Changed { path }),
        }
    }

    fn checksum(&self, index: usize) -> u64 {
        self.checksums[index]
    }

    fn path(&self, index: usize) -> Option<PathBuf> {
        Some(self.samples[index].path())
    }

    fn is_decoded_on_use(&self) -> bool {
        true
    }
}

/// Bytes of an image, of which so many are no more than an address space holds.
pub(super) fn check_bytes(shape: [usize; 4]) -> Result<usize> {
    let [n, height, width, channels] = shape;
    let bytes = [height, width, channels]
        .into_iter()
        .try_fold(1usize, |product, side| product.checked_mul(side))
        .filter(|&bytes| bytes > 0 && bytes.checked_mul(n).is_some_and(|all| all <= isize::MAX as usize / 2));
    bytes.ok_or_else(|| {
        let found = format!("{n}x{height}x{width}x{channels}");
        Error::invalid("height and width", "sides of at least 1 that fit into memory", found)
    })
}

/// Decodes all images, of so many `bytes` each, and gives the pixels to `keep`, many images at a time, in order.
fn decode_all(
    folder: &ImageFolder,
    settings: &DecodeSettings,
    bytes: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
    mut keep: impl FnMut(&[u8]),
) -> Result<Outcome> {
    let total = folder.len();
    let at_a_time = (CHUNK / bytes).max(rayon::current_num_threads()).min(total.max(1));
    let refused = || Error::OutOfMemory { images: at_a_time, bytes: (at_a_time * bytes) as u64 };
    let mut pixels = cache::zeros(at_a_time * bytes).ok_or_else(refused)?;
    let finished = AtomicUsize::new(0);
    let decode = |(target, index): (&mut [u8], usize)| -> Result<Decoded> {
        let sample = &folder.samples()[index];
        let decoded = sample.read().and_then(|bytes| decode_bytes(&sample.path(), &bytes, settings));
        let (mut note, mut error, mut denied) = (None, None, None);
        match decoded {
            Ok(image) => {
                target.copy_from_slice(&image.pixels);
                note = image.note;
            }
            Err(
                reason @ (Error::Io { .. }
                | Error::NotAnImage { .. }
                | Error::Undecodable { .. }
                | Error::TooManyPixels { .. }),
            ) => {
                target.fill(0);
                error = Some(reason.to_string());
                if let Error::Io { source, .. } = reason {
                    denied = Some(source);
                }
            }
            Err(error) => return Err(error),
        }
        progress(finished.fetch_add(1, Ordering::Relaxed) + 1, total);
        Ok(Decoded { checksum: checksum(target), note, error, denied })
    };
    let (mut outcome, mut denied) = (Outcome::default(), None);
    outcome.checksums.reserve_exact(total);
    for start in (0..total).step_by(at_a_time) {
        let end = total.min(start + at_a_time);
        let pixels = &mut pixels[..(end - start) * bytes];
        // Collected by index, whatever the order of the threads.
        let decoded: Vec<Result<Decoded>> =
            pixels.par_chunks_exact_mut(bytes).zip(start..end).map(decode).collect();
        for (index, decoded) in (start..).zip(decoded) {
            let Decoded { checksum, note, error, denied: cause } = decoded?;
            denied = denied.or(cause);
            outcome.checksums.push(checksum);
            outcome.excluded.extend(error.map(|reason| (index, reason)));
            outcome.notes.extend(note.map(|note| (index, note)));
        }
        keep(pixels);
    }
    if settings.on_error == OnError::Fail && !outcome.excluded.is_empty() {
        let path = |index: usize| folder.samples()[index].path();
        let files = outcome.excluded.into_iter().map(|(index, reason)| (path(index), reason)).collect();
        return Err(Error::Unreadable { files, total, source: denied });
    }
    Ok(outcome)
}

/// What became of one image.
struct Decoded {
    checksum: u64,
    note: Option<String>,
    error: Option<String>,
    /// The operating system's error, where it is the reason.
    denied: Option<std::io::Error>,
}
