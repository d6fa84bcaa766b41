//! Images of one size, wherever their pixels are.

#[cfg(feature = "decode")]
mod decode;
#[cfg(feature = "decode")]
mod store;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

#[cfg(feature = "decode")]
pub use decode::DecodeOptions;
#[cfg(feature = "decode")]
pub use store::PixelStore;
use twox_hash::XxHash64;

use crate::error::{Error, Result};
use crate::labels::Labels;
use crate::sampling::balanced;

/// Images with their labels: 8-bit, all of one size, shape (N, H, W, C).
///
/// The pixels are in memory, in a mapped file, or decoded whenever they are asked for: see
/// [`decode_with`](Self::decode_with). They are the same in each case. A clone or a [`subset`](Self::subset) copies indices
/// and labels but no pixels.
///
/// # Examples
///
/// ```
/// use firstsight_data::ImageDataset;
///
/// let classes = vec!["dark".to_owned(), "light".to_owned()];
/// let images = ImageDataset::from_pixels(vec![0, 10, 240, 250], (1, 2, 1), vec![0, 1], classes)?;
/// assert_eq!(images.shape(), (2, 1, 2, 1));
/// assert_eq!(*images.image(1)?, [240, 250]);
/// assert_eq!(images.subset(&[1, 0]).labels(), [1, 0]);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ImageDataset {
    source: Arc<dyn Source>,
    /// Height, width, channels.
    size: (usize, usize, usize),
    /// Index of each image in `source`.
    indices: Arc<[u32]>,
    labels: Arc<Labels>,
    classes: Arc<[String]>,
    excluded: Arc<[(PathBuf, String)]>,
    /// By index in `source`.
    notes: Arc<BTreeMap<usize, String>>,
}

/// The checksum of an image's pixels.
pub(crate) fn checksum(pixels: &[u8]) -> u64 {
    XxHash64::oneshot(0, pixels)
}

/// Where pixels are.
trait Source: fmt::Debug + Send + Sync {
    /// The pixels of an image.
    fn image(&self, index: usize) -> Result<Cow<'_, [u8]>>;

    /// The checksum of its pixels.
    fn checksum(&self, index: usize) -> u64;

    /// Its file.
    fn path(&self, _index: usize) -> Option<PathBuf> {
        None
    }

    /// Whether each use of an image decodes it.
    fn is_decoded_on_use(&self) -> bool {
        false
    }
}

/// Pixels of images one after the other, each of so many bytes, in memory or in a mapped file.
struct Stored<P> {
    pixels: P,
    bytes: usize,
}

impl<P: AsRef<[u8]>> fmt::Debug for Stored<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.pixels.as_ref().len())
    }
}

impl<P: AsRef<[u8]>> Stored<P> {
    fn get(&self, index: usize) -> &[u8] {
        &self.pixels.as_ref()[index * self.bytes..][..self.bytes]
    }
}

impl<P: AsRef<[u8]> + Send + Sync> Source for Stored<P> {
    fn image(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        Ok(self.get(index).into())
    }

    fn checksum(&self, index: usize) -> u64 {
        checksum(self.get(index))
    }
}

impl ImageDataset {
    /// A data set of `pixels` in memory, which holds the images one after the other, each (H, W, C), with one class per
    /// image. [`with_targets`](Self::with_targets) gives them other labels.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the numbers of bytes and labels disagree, a side is 0, or a label has no class.
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
        let labels = Labels::Class(labels);
        labels.check(classes.len())?;
        let source = Arc::new(Stored { pixels, bytes: height * width * channels });
        Ok(Self::of_source(source, (height, width, channels), labels, classes))
    }

    /// All images of a source that has no files.
    fn of_source(
        source: Arc<dyn Source>,
        size: (usize, usize, usize),
        labels: Labels,
        classes: Vec<String>,
    ) -> Self {
        Self {
            source,
            size,
            indices: (0..labels.len() as u32).collect(),
            labels: labels.into(),
            classes: classes.into(),
            excluded: [].into(),
            notes: Arc::default(),
        }
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The shape of the images, (N, H, W, C).
    pub fn shape(&self) -> (usize, usize, usize, usize) {
        let (height, width, channels) = self.size;
        (self.len(), height, width, channels)
    }

    /// The pixels of one image, (H, W, C), rows first, channels last.
    ///
    /// # Errors
    ///
    /// For an image that is decoded now, those of [`decode_image`](crate::decode_image), and [`Error::Changed`].
    ///
    /// # Panics
    ///
    /// If `i` is not less than [`len`](Self::len).
    pub fn image(&self, i: usize) -> Result<Cow<'_, [u8]>> {
        self.source.image(self.indices[i] as usize)
    }

    /// The XXH64 of one image's pixels, equal for equal images.
    ///
    /// # Panics
    ///
    /// If `i` is not less than [`len`](Self::len).
    pub fn checksum(&self, i: usize) -> u64 {
        self.source.checksum(self.indices[i] as usize)
    }

    /// Whether each use of an image decodes its file, since memory and the cache do not hold all of them.
    pub fn is_decoded_on_use(&self) -> bool {
        self.source.is_decoded_on_use()
    }

    /// The class of each image; empty for other tasks than one class per image: see [`targets`](Self::targets).
    pub fn labels(&self) -> &[u32] {
        self.labels.classes()
    }

    /// The labels of the images, of whatever task.
    pub fn targets(&self) -> &Labels {
        &self.labels
    }

    /// The same images with other labels, of the names `classes`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for another number of labels than images, or a label that has no class.
    pub fn with_targets(self, labels: Labels, classes: Vec<String>) -> Result<Self> {
        if labels.len() != self.len() {
            return Err(Error::invalid(
                "labels",
                format!("one for each of {} images", self.len()),
                labels.len(),
            ));
        }
        labels.check(classes.len())?;
        Ok(Self { labels: labels.into(), classes: classes.into(), ..self })
    }

    /// The names of the classes, by label; for numbers, the one name of what they are.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The file of an image; none if the images came from memory.
    ///
    /// # Panics
    ///
    /// If `i` is not less than [`len`](Self::len).
    pub fn path(&self, i: usize) -> Option<PathBuf> {
        self.source.path(self.indices[i] as usize)
    }

    /// The files that could not be decoded, each with the reason.
    pub fn excluded(&self) -> &[(PathBuf, String)] {
        &self.excluded
    }

    /// What was done to image `i` because its file is not as it should be, in words: "repaired: the end is missing".
    ///
    /// # Panics
    ///
    /// If `i` is not less than [`len`](Self::len).
    pub fn note(&self, i: usize) -> Option<&str> {
        self.notes.get(&(self.indices[i] as usize)).map(String::as_str)
    }

    /// The images at `indices`, in this order, with the same classes; the pixels are shared.
    ///
    /// # Panics
    ///
    /// If an index is not less than [`len`](Self::len).
    pub fn subset(&self, indices: &[usize]) -> Self {
        Self {
            indices: indices.iter().map(|&i| self.indices[i]).collect(),
            labels: self.labels.subset(indices).into(),
            ..self.clone()
        }
    }

    /// The images with those of rare classes repeated, so that every class has as many as the largest.
    ///
    /// The images are grouped by class; see [`balanced`](crate::balanced). Images that do not have one class each are
    /// left as they are.
    pub fn balanced(&self) -> Self {
        match &*self.labels {
            Labels::Class(labels) => self.subset(&balanced(labels)),
            Labels::MultiLabel(_) | Labels::Value(_) => self.clone(),
        }
    }
}
