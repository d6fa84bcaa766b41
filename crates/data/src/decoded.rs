use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::cache::{self, Content};
use crate::decode::{DecodeSettings, Unreadable, decode_image};
use crate::error::{Error, Result};
use crate::folder::ImageFolder;

/// Images in memory: 8-bit, all of one size, shape (N, H, W, C), with their labels.
///
/// The pixels are shared: a clone or a [`subset`](Self::subset) copies indices and names, no pixels.
///
/// # Examples
///
/// ```
/// use firstsight_data::{ColorMode, DecodeSettings, Decoded, Filter, Fit, ImageFolder, Unreadable};
///
/// # let root = tempfile::tempdir().unwrap();
/// # for (name, grey) in [("ants/1.png", 10), ("ants/2.png", 20), ("bees/1.png", 30)] {
/// #     let path = root.path().join(name);
/// #     std::fs::create_dir_all(path.parent().unwrap()).unwrap();
/// #     image::GrayImage::from_pixel(4, 3, image::Luma([grey])).save(path).unwrap();
/// # }
/// # let root = root.path();
/// let settings = DecodeSettings {
///     height: 8,
///     width: 6,
///     color: ColorMode::Grey,
///     filter: Filter::Lanczos,
///     fit: Fit::Stretch,
///     unreadable: Unreadable::Fail,
///     max_pixels: 100_000_000,
/// };
/// let folder = ImageFolder::scan(root)?;
/// let images = Decoded::decode(&folder, &settings, Some(&root.join("cache")), &|_done, _of| ())?;
/// assert_eq!(images.shape(), (3, 8, 6, 1));
/// assert_eq!(images.labels(), [0, 0, 1]);
/// assert_eq!(images.image(2), [30; 8 * 6]);
/// assert_eq!(images.subset(&[2, 0]).labels(), [1, 0]);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Decoded {
    pixels: Arc<Vec<u8>>,
    /// Height, width, channels.
    size: (usize, usize, usize),
    /// The place of each image in `pixels`.
    indices: Vec<usize>,
    labels: Vec<u32>,
    classes: Arc<[String]>,
    /// Empty, or one for each image.
    paths: Vec<PathBuf>,
    excluded: Arc<[(PathBuf, String)]>,
}

impl Decoded {
    /// Decodes every image of a folder, in parallel; or reads what an earlier run with the same files and settings
    /// left in the folder `cache`.
    ///
    /// The cache is one file, named by a hash of the images' class and file names, sizes, times of modification
    /// and of `settings`, so that a change to any of these decodes anew. A cache file that is truncated or corrupt
    /// is decoded anew with a warning. It is written under a temporary name and renamed: runs at the same time
    /// don't disturb each other.
    ///
    /// `progress` is called with (images finished, images in all), from several threads and not always in order.
    /// The result does not depend on the number of threads.
    ///
    /// # Errors
    ///
    /// The first file's error of [`decode_image`] unless `settings.unreadable` excludes such files;
    /// [`Error::EmptyClass`] if a class has none left; [`Error::Io`] if the cache cannot be written.
    pub fn decode(
        folder: &ImageFolder,
        settings: &DecodeSettings,
        cache: Option<&Path>,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self> {
        let size = (settings.height, settings.width, settings.color.channels());
        let content = match cache {
            None => decode_all(folder, settings, size, progress)?,
            Some(cache) => {
                let key = cache::key(folder, settings)?;
                let path = cache.join(format!("{key:016x}.images"));
                match cache::read(&path, key, folder.len(), size) {
                    Some(content) => {
                        progress(folder.len(), folder.len());
                        content
                    }
                    None => {
                        let content = decode_all(folder, settings, size, progress)?;
                        cache::write(&path, key, size, &content)?;
                        content
                    }
                }
            }
        };
        Self::assemble(folder, size, content)
    }

    /// Images that are in memory already: `pixels` holds them one after the other, each (H, W, C).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the number of bytes, labels and images disagree, a side is 0, or a label has no class.
    ///
    /// # Examples
    ///
    /// ```
    /// use firstsight_data::Decoded;
    ///
    /// let classes = vec!["dark".to_owned(), "light".to_owned()];
    /// let images = Decoded::from_pixels(vec![0, 10, 240, 250], (1, 2, 1), vec![0, 1], classes)?;
    /// assert_eq!(images.shape(), (2, 1, 2, 1));
    /// # Ok::<(), firstsight_data::Error>(())
    /// ```
    pub fn from_pixels(
        pixels: Vec<u8>,
        (height, width, channels): (usize, usize, usize),
        labels: Vec<u32>,
        classes: Vec<String>,
    ) -> Result<Self> {
        if height == 0 || width == 0 || channels == 0 {
            return Err(Error::invalid(
                "pixels",
                "sides of at least 1",
                format!("{height}x{width}x{channels}"),
            ));
        }
        let expected = height.saturating_mul(width).saturating_mul(channels).saturating_mul(labels.len());
        if pixels.len() != expected {
            let rule = format!("{} images of {height}x{width}x{channels}: {expected} bytes", labels.len());
            return Err(Error::invalid("pixels", rule, format!("{} bytes", pixels.len())));
        }
        if let Some(label) = labels.iter().find(|&&label| label as usize >= classes.len()) {
            return Err(Error::invalid("labels", format!("labels less than {}", classes.len()), label));
        }
        Ok(Self {
            pixels: Arc::new(pixels),
            size: (height, width, channels),
            indices: (0..labels.len()).collect(),
            labels,
            classes: classes.into(),
            paths: Vec::new(),
            excluded: [].into(),
        })
    }

    fn assemble(folder: &ImageFolder, size: (usize, usize, usize), content: Content) -> Result<Self> {
        let Content { pixels, excluded } = content;
        let mut is_excluded = vec![false; folder.len()];
        for (place, _) in &excluded {
            is_excluded[*place] = true;
        }
        let indices: Vec<usize> = (0..folder.len()).filter(|&i| !is_excluded[i]).collect();
        let kept = folder.subset(&indices);
        let lost =
            folder.counts().iter().zip(kept.counts()).position(|(&before, after)| before > 0 && after == 0);
        if let Some(label) = lost {
            let class = folder.classes()[label].clone();
            let path = folder.root().join(&class);
            return Err(Error::EmptyClass { class, path });
        }
        Ok(Self {
            pixels: Arc::new(pixels),
            size,
            indices,
            labels: kept.labels(),
            classes: folder.classes().into(),
            paths: kept.samples().iter().map(|sample| sample.path.clone()).collect(),
            excluded: excluded
                .into_iter()
                .map(|(place, reason)| (folder.samples()[place].path.clone(), reason))
                .collect(),
        })
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// (N, H, W, C).
    pub fn shape(&self) -> (usize, usize, usize, usize) {
        let (height, width, channels) = self.size;
        (self.len(), height, width, channels)
    }

    /// The pixels of one image, (H, W, C), rows first, channels last.
    ///
    /// # Panics
    ///
    /// As a slice does, if `i` is not less than [`len`](Self::len).
    pub fn image(&self, i: usize) -> &[u8] {
        let (height, width, channels) = self.size;
        let bytes = height * width * channels;
        &self.pixels[self.indices[i] * bytes..][..bytes]
    }

    /// The label of each image.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The class names, by label.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The file of each image; empty if the images came from memory.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The files that could not be decoded, with the reason.
    pub fn excluded(&self) -> &[(PathBuf, String)] {
        &self.excluded
    }

    /// The images at these places, in this order, with the same classes and sharing the same pixels.
    ///
    /// # Panics
    ///
    /// As a slice does, if an index is not less than [`len`](Self::len).
    pub fn subset(&self, indices: &[usize]) -> Self {
        Self {
            indices: indices.iter().map(|&i| self.indices[i]).collect(),
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
            paths: if self.paths.is_empty() {
                Vec::new()
            } else {
                indices.iter().map(|&i| self.paths[i].clone()).collect()
            },
            ..self.clone()
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
    let mut pixels = vec![0; total * bytes];
    let finished = AtomicUsize::new(0);
    let decode = |(target, place): (&mut [u8], usize)| -> Result<Option<(usize, String)>> {
        let result = decode_image(&folder.samples()[place].path, settings);
        let outcome = match result {
            Ok(image) => {
                target.copy_from_slice(&image);
                None
            }
            Err(
                error @ (Error::Io { .. }
                | Error::NotAnImage { .. }
                | Error::Undecodable { .. }
                | Error::TooManyPixels { .. }),
            ) if settings.unreadable == Unreadable::Exclude => Some((place, error.to_string())),
            Err(error) => return Err(error),
        };
        progress(finished.fetch_add(1, Ordering::Relaxed) + 1, total);
        Ok(outcome)
    };
    // `find_first` rather than `collect`: of several errors the first by place, whatever the threads do.
    let excluded = std::sync::Mutex::new(Vec::new());
    let failed =
        pixels.par_chunks_exact_mut(bytes).zip(0..total).map(decode).find_map_first(
            |outcome| match outcome {
                Ok(None) => None,
                Ok(Some(unreadable)) => {
                    if let Ok(mut excluded) = excluded.lock() {
                        excluded.push(unreadable);
                    }
                    None
                }
                Err(error) => Some(error),
            },
        );
    if let Some(error) = failed {
        return Err(error);
    }
    let mut excluded = excluded.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    excluded.sort();
    Ok(Content { pixels, excluded })
}
