//! Pixels that come image by image, from whatever makes them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::{DecodeOptions, ImageDataset, Source, Stored, checksum};
use crate::cache_folder::{CacheFolder, Draft};
use crate::error::{Error, Result};
use crate::labels::Labels;

/// Images of one size whose pixels are added one after the other.
///
/// Up to 64 MiB of pixels stay in memory. More are written to a file in the cache that has no name, and is gone once it is no longer
/// used; without a cache an image is made again whenever it is used.
///
/// # Examples
///
/// ```
/// use firstsight_data::{Labels, PixelStore};
///
/// let make = |i: usize| vec![10 * i as u8; 2 * 3];
/// let mut store = PixelStore::begin(4, (2, 3, 1), None)?;
/// (0..4).for_each(|i| store.push(&make(i)));
/// let images = store.finish(Labels::Class(vec![0; 4]), vec!["any".to_owned()], move |i| Ok(make(i)))?;
/// assert_eq!(*images.image(3)?, [30; 6]);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
pub struct PixelStore {
    size: (usize, usize, usize),
    n: usize,
    checksums: Vec<u64>,
    kept: Kept,
}

enum Kept {
    Memory(Vec<u8>),
    File(Draft),
    Nothing,
}

impl PixelStore {
    /// Room for `n` images of (H, W, C) `size`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for more bytes than there are addresses.
    pub fn begin(n: usize, size: (usize, usize, usize), cache: Option<&CacheFolder>) -> Result<Self> {
        let all = super::decode::check_bytes([n, size.0, size.1, size.2])? * n;
        let kept = if all as u64 <= DecodeOptions::IN_MEMORY {
            Kept::Memory(Vec::new())
        } else {
            let file = cache.and_then(|cache| cache.begin("unnamed.images", all as u64));
            file.map_or(Kept::Nothing, Kept::File)
        };
        Ok(Self { size, n, checksums: Vec::new(), kept })
    }

    /// Adds the pixels of the next image, (H, W, C).
    pub fn push(&mut self, pixels: &[u8]) {
        match &mut self.kept {
            Kept::Memory(all) => all.extend_from_slice(pixels),
            Kept::File(draft) => draft.write(pixels),
            Kept::Nothing => {}
        }
        self.checksums.push(checksum(pixels));
    }

    /// The images with their labels. `again` makes the pixels of an image, by its number, that were not kept.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for another number of images or labels than was announced, or a label without a class.
    pub fn finish(
        self,
        labels: Labels,
        classes: Vec<String>,
        again: impl Fn(usize) -> Result<Vec<u8>> + Send + Sync + 'static,
    ) -> Result<ImageDataset> {
        let Self { size, n, checksums, kept } = self;
        let bytes = size.0 * size.1 * size.2;
        if checksums.len() != n || labels.len() != n {
            let found = format!("{} and {} labels", checksums.len(), labels.len());
            return Err(Error::invalid("images", format!("{n} images and as many labels"), found));
        }
        labels.check(classes.len())?;
        let map = match kept {
            Kept::Memory(pixels) => {
                let source = Arc::new(Stored { pixels, bytes });
                return Ok(ImageDataset::of_source(source, size, labels, classes));
            }
            Kept::File(draft) => draft.unnamed().filter(|map| map.len() == n * bytes),
            Kept::Nothing => None,
        };
        let source: Arc<dyn Source> = match map {
            Some(map) => Arc::new(Stored { pixels: map, bytes }),
            None => Arc::new(Again { make: Box::new(again), checksums }),
        };
        Ok(ImageDataset::of_source(source, size, labels, classes))
    }
}

type Make = dyn Fn(usize) -> Result<Vec<u8>> + Send + Sync;

/// Images that are made whenever they are used.
struct Again {
    make: Box<Make>,
    checksums: Vec<u64>,
}

impl fmt::Debug for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} images, made when they are used", self.checksums.len())
    }
}

impl Source for Again {
    fn image(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        Ok((self.make)(index)?.into())
    }

    fn checksum(&self, index: usize) -> u64 {
        self.checksums[index]
    }

    fn is_decoded_on_use(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_are_not_kept_are_made_again() {
        let make = |i: usize| vec![10 * i as u8; 6];
        let mut store = PixelStore { size: (2, 3, 1), n: 3, checksums: Vec::new(), kept: Kept::Nothing };
        (0..3).for_each(|i| store.push(&make(i)));
        let labels = Labels::Class(vec![0; 3]);
        let images = store.finish(labels, vec!["any".to_owned()], move |i| Ok(make(i))).unwrap();
        for i in 0..3 {
            assert_eq!(*images.image(i).unwrap(), make(i));
        }
    }

    #[test]
    fn images_have_pixels_on_both_sides() {
        for size in [(0, 3, 1), (3, 0, 1), (3, 3, 0)] {
            assert!(matches!(PixelStore::begin(4, size, None), Err(Error::Invalid { .. })), "{size:?}");
        }
    }
}
