//! IDX files, plain or gzip: the format of MNIST.
//!
//! Big-endian: two zero bytes, a type (8 for unsigned bytes), the number of dimensions, each dimension as u32, then
//! the values, the last dimension varying fastest (<http://yann.lecun.com/exdb/mnist/>).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The most values that are read into memory, 18 times those of MNIST: a few megabytes of gzip may claim and hold any number.
const LARGEST: usize = 1 << 30;
/// The most values of an image that is read by itself.
const LARGEST_IMAGE: usize = 1 << 24;

/// Images of an IDX file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxImages {
    /// (N, H, W).
    pub shape: (usize, usize, usize),
    /// N·H·W bytes, one image after the other, rows first.
    pub pixels: Vec<u8>,
}

/// Reads images: unsigned bytes of three dimensions (magic number 2051).
///
/// # Errors
///
/// [`Error::Io`], or [`Error::Format`] for another magic number or length.
///
/// # Examples
///
/// ```
/// use firstsight_data::idx;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("images-idx3-ubyte");
/// # std::fs::write(&path, [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 9, 8, 7, 6]).unwrap();
/// let images = idx::read_images(&path)?;
/// assert_eq!(images.shape, (1, 2, 2));
/// assert_eq!(images.pixels, [9, 8, 7, 6]);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
pub fn read_images(path: &Path) -> Result<IdxImages> {
    let ([n, height, width], pixels) = read(path)?;
    Ok(IdxImages { shape: (n, height, width), pixels })
}

/// Reads labels: unsigned bytes of one dimension (magic number 2049).
///
/// # Errors
///
/// [`Error::Io`], or [`Error::Format`] for another magic number or length.
///
/// # Examples
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("labels-idx1-ubyte");
/// # std::fs::write(&path, [0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]).unwrap();
/// assert_eq!(firstsight_data::idx::read_labels(&path)?, [5, 0, 4]);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
pub fn read_labels(path: &Path) -> Result<Vec<u8>> {
    let ([_], labels) = read(path)?;
    Ok(labels)
}

/// The images of a file, one after the other.
pub(crate) struct Images {
    path: PathBuf,
    shape: [usize; 3],
    reader: Box<dyn Read>,
}

impl Images {
    /// # Errors
    ///
    /// As [`read_images`].
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (shape, reader) = open(path)?;
        check_size(path, shape[1].saturating_mul(shape[2]), LARGEST_IMAGE)?;
        Ok(Self { path: path.to_owned(), shape, reader })
    }

    /// (N, H, W).
    pub(crate) fn shape(&self) -> (usize, usize, usize) {
        self.shape.into()
    }

    /// The next image, H·W bytes.
    pub(crate) fn next(&mut self) -> Result<Vec<u8>> {
        let [_, height, width] = self.shape;
        let mut pixels = Vec::new();
        self.read_to(&mut pixels, height * width)?;
        match pixels.len() == height * width {
            true => Ok(pixels),
            false => Err(self.wrong(format!("images of {height} × {width} bytes"), "the end of the file")),
        }
    }

    /// Checks that nothing comes after the last image.
    pub(crate) fn finish(mut self) -> Result<()> {
        let mut more = Vec::new();
        self.read_to(&mut more, 1)?;
        match more.is_empty() {
            true => Ok(()),
            false => Err(self.wrong(format!("{} images", self.shape[0]), "more")),
        }
    }

    fn read_to(&mut self, bytes: &mut Vec<u8>, n: usize) -> Result<()> {
        let read = self.reader.by_ref().take(n as u64).read_to_end(bytes);
        read.map(|_| ()).map_err(Error::io("read", &self.path))
    }

    fn wrong(&self, expected: String, found: &str) -> Error {
        Error::Format { path: self.path.clone(), expected, found: found.to_owned() }
    }
}

/// Unsigned bytes of `D` dimensions, with the dimensions.
fn read<const D: usize>(path: &Path) -> Result<([usize; D], Vec<u8>)> {
    let (sides, reader) = open(path)?;
    // One byte more than announced detects a longer file. Memory grows with the file, not with the header.
    let expected: usize = sides.iter().product();
    check_size(path, expected, LARGEST)?;
    let mut values = Vec::new();
    reader.take(expected as u64 + 1).read_to_end(&mut values).map_err(Error::io("read", path))?;
    if values.len() != expected {
        let found = if values.len() > expected { "more".to_owned() } else { values.len().to_string() };
        let expected = format!("{expected} values for the dimensions {sides:?}");
        return Err(Error::Format { path: path.to_owned(), expected, found });
    }
    Ok((sides, values))
}

fn check_size(path: &Path, found: usize, most: usize) -> Result<()> {
    if found <= most {
        return Ok(());
    }
    let (expected, found) = (format!("at most {most} values"), format!("{found}, by the header"));
    Err(Error::Format { path: path.to_owned(), expected, found })
}

/// The dimensions, whose product is a length that memory can have, and a reader of what comes after the header.
fn open<const D: usize>(path: &Path) -> Result<([usize; D], Box<dyn Read>)> {
    let wrong = |expected: String, found: String| Error::Format { path: path.to_owned(), expected, found };
    let mut file = BufReader::new(File::open(path).map_err(Error::io("read", path))?);
    let is_gzip = file.fill_buf().map_err(Error::io("read", path))?.starts_with(&[0x1f, 0x8b]);
    let mut reader: Box<dyn Read> =
        if is_gzip { Box::new(flate2::bufread::MultiGzDecoder::new(file)) } else { Box::new(file) };

    let mut header = Vec::new();
    let header_bytes = 4 + 4 * D;
    reader.by_ref().take(header_bytes as u64).read_to_end(&mut header).map_err(Error::io("read", path))?;
    let magic = [0, 0, 8, D as u8];
    if header.get(..4) != Some(&magic) {
        let found = header.get(..4).unwrap_or(&header);
        return Err(wrong(format!("an IDX file with the magic number {magic:?}"), format!("{found:?}")));
    }
    let (sides, _) = header[4..].as_chunks::<4>();
    let sides: [usize; D] =
        sides.iter().map(|&side| u32::from_be_bytes(side) as usize).collect::<Vec<_>>().try_into().map_err(
            |_| wrong(format!("a header of {header_bytes} bytes"), format!("{} bytes", header.len())),
        )?;
    let product = sides.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
    if product.is_none_or(|bytes| bytes >= isize::MAX as usize) {
        return Err(wrong("dimensions that fit into memory".to_owned(), format!("{sides:?}")));
    }
    Ok((sides, reader))
}
