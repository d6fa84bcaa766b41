//! Decoded images in memory.

#[cfg(feature = "decode")]
mod decode;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

#[cfg(feature = "decode")]
pub use decode::DecodeOptions;

use crate::error::{Error, Result};
use crate::labels::Labels;
use crate::sampling::balanced;

/// Images in memory with their labels: 8-bit, all of one size, shape (N, H, W, C).
///
/// The pixels are shared: a clone or a [`subset`](Self::subset) copies indices and names but no pixels.
///
/// # Examples
///
/// ```
/// use firstsight_data::ImageDataset;
///
/// let classes = vec!["dark".to_owned(), "light".to_owned()];
/// let images = ImageDataset::from_pixels(vec![0, 10, 240, 250], (1, 2, 1), vec![0, 1], classes)?;
/// assert_eq!(images.shape(), (2, 1, 2, 1));
/// assert_eq!(images.image(1), [240, 250]);
/// assert_eq!(images.subset(&[1, 0]).labels(), [1, 0]);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ImageDataset {
    pixels: Arc<Vec<u8>>,
    /// Height, width, channels.
    size: (usize, usize, usize),
    /// Index of each image in `pixels`.
    indices: Vec<usize>,
    labels: Labels,
    classes: Arc<[String]>,
    /// One path for each image, or none.
    paths: Vec<PathBuf>,
    excluded: Arc<[(PathBuf, String)]>,
    /// By index in `pixels`.
    notes: Arc<BTreeMap<usize, String>>,
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
        Ok(Self {
            pixels: Arc::new(pixels),
            size: (height, width, channels),
            indices: (0..labels.len()).collect(),
            labels,
            classes: classes.into(),
            paths: Vec::new(),
            excluded: [].into(),
            notes: Arc::default(),
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

    /// The shape of the images, (N, H, W, C).
    pub fn shape(&self) -> (usize, usize, usize, usize) {
        let (height, width, channels) = self.size;
        (self.len(), height, width, channels)
    }

    /// The pixels of one image, (H, W, C), rows first, channels last.
    ///
    /// # Panics
    ///
    /// If `i` is not less than [`len`](Self::len).
    pub fn image(&self, i: usize) -> &[u8] {
        let (height, width, channels) = self.size;
        let bytes = height * width * channels;
        &self.pixels[self.indices[i] * bytes..][..bytes]
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
        Ok(Self { labels, classes: classes.into(), ..self })
    }

    /// The names of the classes, by label; for numbers, the one name of what they are.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The file of each image; empty if the images came from memory.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
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
        self.notes.get(&self.indices[i]).map(String::as_str)
    }

    /// The images at `indices`, in this order, with the same classes; the pixels are shared.
    ///
    /// # Panics
    ///
    /// If an index is not less than [`len`](Self::len).
    pub fn subset(&self, indices: &[usize]) -> Self {
        Self {
            indices: indices.iter().map(|&i| self.indices[i]).collect(),
            labels: self.labels.subset(indices),
            paths: if self.paths.is_empty() {
                Vec::new()
            } else {
                indices.iter().map(|&i| self.paths[i].clone()).collect()
            },
            ..self.clone()
        }
    }

    /// The images with those of rare classes repeated, so that every class has as many as the largest.
    ///
    /// The images are grouped by class; see [`balanced`](crate::balanced). Images that do not have one class each are
    /// left as they are.
    pub fn balanced(&self) -> Self {
        match &self.labels {
            Labels::Class(labels) => self.subset(&balanced(labels)),
            Labels::MultiLabel(_) | Labels::Value(_) => self.clone(),
        }
    }
}
