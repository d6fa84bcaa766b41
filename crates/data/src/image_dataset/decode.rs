//! A folder decoded in parallel, with a cache.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::ImageDataset;
use crate::cache::{self, Content};
use crate::cache_folder::CacheFolder;
use crate::decode::{DecodedImage, decode_bytes};
use crate::decode_settings::{DecodeSettings, OnError};
use crate::error::{Error, Result};
use crate::sample::refuse_special;
use crate::scan::ImageFolder;

/// Optional parts of [`ImageDataset::decode_with`]; the default has none.
#[derive(Clone, Copy, Default)]
pub struct DecodeOptions<'a> {
    /// Where decoded pixels are kept and looked up.
    ///
    /// A cache file is named by a hash of the images' class names, file names, sizes and modification times and of the
    /// settings, so a change to any of these decodes again. A truncated or corrupt file is decoded again, with a
    /// warning. Files are written atomically, so runs at the same time do not disturb each other.
    pub cache: Option<&'a CacheFolder>,
    /// Called with (images finished, total number of images), from several threads and not always in order.
    pub progress: Option<&'a (dyn Fn(usize, usize) + Sync)>,
}

impl ImageDataset {
    /// Decodes every image of a folder, in parallel.
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
    /// assert_eq!(images.image(2), [30; 8 * 6]);
    /// # Ok::<(), firstsight_data::Error>(())
    /// ```
    pub fn decode(folder: &ImageFolder, settings: &DecodeSettings) -> Result<Self> {
        Self::decode_with(folder, settings, DecodeOptions::default())
    }

    /// As [`decode`](Self::decode), with a cache on disk or reports of progress.
    ///
    /// # Errors
    ///
    /// Those of [`decode`](Self::decode). A cache that cannot be read or written is none.
    pub fn decode_with(
        folder: &ImageFolder,
        settings: &DecodeSettings,
        options: DecodeOptions<'_>,
    ) -> Result<Self> {
        let size = (settings.height, settings.width, settings.color.channels());
        let progress = options.progress.unwrap_or(&|_, _| ());
        let content = match options.cache {
            None => decode_all(folder, settings, size, progress)?,
            Some(cache) => {
                let key = cache::key(folder, settings);
                let name = format!("{key:016x}.images");
                match cache::read(&cache.find(&name), key, folder.len(), size) {
                    Some(content) => {
                        progress(folder.len(), folder.len());
                        content
                    }
                    None => {
                        let content = decode_all(folder, settings, size, progress)?;
                        // A file that can't be opened now may be opened tomorrow, with the same time.
                        let can_be_opened = |index: &usize| {
                            let path = folder.samples()[*index].container();
                            refuse_special(path).is_ok() && File::open(path).is_ok()
                        };
                        if content.excluded.iter().all(|(index, _)| can_be_opened(index)) {
                            cache::write(cache, &name, key, size, &content);
                        }
                        content
                    }
                }
            }
        };
        Ok(Self::assemble(folder, size, content))
    }

    fn assemble(folder: &ImageFolder, size: (usize, usize, usize), content: Content) -> Self {
        let Content { pixels, excluded, notes } = content;
        let mut is_excluded = vec![false; folder.len()];
        for (index, _) in &excluded {
            is_excluded[*index] = true;
        }
        let indices: Vec<usize> = (0..folder.len()).filter(|&i| !is_excluded[i]).collect();
        let kept = folder.subset(&indices);
        Self {
            pixels: Arc::new(pixels),
            size,
            indices,
            labels: kept.targets().clone(),
            classes: folder.classes().into(),
            paths: kept.samples().iter().map(|sample| sample.path.clone()).collect(),
            excluded: excluded
                .into_iter()
                .map(|(index, reason)| (folder.samples()[index].path.clone(), reason))
                .collect(),
            notes: Arc::new(notes.into_iter().collect()),
        }
    }
}

fn decode_all(
    folder: &ImageFolder,
    settings: &DecodeSettings,
    (height, width, channels): (usize, usize, usize),
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Content> {
    let total = folder.len();
    let bytes = [height, width, channels]
        .into_iter()
        .try_fold(1usize, |product, side| product.checked_mul(side))
        .filter(|&bytes| bytes > 0 && bytes.checked_mul(total).is_some_and(|all| all <= isize::MAX as usize));
    let Some(bytes) = bytes else {
        let found = format!("{total}x{height}x{width}x{channels}");
        return Err(Error::invalid("height and width", "sides of at least 1 that fit into memory", found));
    };
    let all = total * bytes;
    let mut pixels = cache::zeros(all).ok_or(Error::OutOfMemory { images: total, bytes: all as u64 })?;
    let finished = AtomicUsize::new(0);
    let decode = |(target, index): (&mut [u8], usize)| -> Result<Outcome> {
        let sample = &folder.samples()[index];
        let decoded = sample.read().and_then(|bytes| decode_bytes(&sample.path, &bytes, settings));
        let outcome = match decoded {
            Ok(DecodedImage { pixels, note, .. }) => {
                target.copy_from_slice(&pixels);
                Outcome { index, note, error: None }
            }
            Err(
                error @ (Error::Io { .. }
                | Error::NotAnImage { .. }
                | Error::Undecodable { .. }
                | Error::TooManyPixels { .. }),
            ) => Outcome { index, note: None, error: Some(error.to_string()) },
            Err(error) => return Err(error),
        };
        progress(finished.fetch_add(1, Ordering::Relaxed) + 1, total);
        Ok(outcome)
    };
    // Collected by index, whatever the order of the threads.
    let outcomes: Vec<Result<Outcome>> =
        pixels.par_chunks_exact_mut(bytes).zip(0..total).map(decode).collect();
    let (mut excluded, mut notes) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        let Outcome { index, note, error } = outcome?;
        excluded.extend(error.map(|reason| (index, reason)));
        notes.extend(note.map(|note| (index, note)));
    }
    if settings.on_error == OnError::Fail && !excluded.is_empty() {
        let path = |index: usize| folder.samples()[index].path.clone();
        let files = excluded.into_iter().map(|(index, reason)| (path(index), reason)).collect();
        return Err(Error::Unreadable { files, total });
    }
    Ok(Content { pixels, excluded, notes })
}

/// What became of one image.
struct Outcome {
    index: usize,
    note: Option<String>,
    error: Option<String>,
}
