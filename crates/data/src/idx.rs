//! IDX files, plain or gzip: the format of MNIST.
//!
//! Big-endian: two zero bytes, a type (8 for unsigned bytes), the number of dimensions, each dimension as u32, then
//! the values, the last dimension varying fastest (<http://yann.lecun.com/exdb/mnist/>).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::error::{Error, Result};

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
/// [`Error::Io`], or [`Error::Idx`] for another magic number or length.
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
/// [`Error::Io`], or [`Error::Idx`] for another magic number or length.
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

/// Unsigned bytes of `D` dimensions, with the dimensions.
fn read<const D: usize>(path: &Path) -> Result<([usize; D], Vec<u8>)> {
    let wrong = |expected: String, found: String| Error::Idx { path: path.to_owned(), expected, found };
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
    let Some(expected) = product.filter(|&bytes| bytes < isize::MAX as usize) else {
        return Err(wrong("dimensions that fit into memory".to_owned(), format!("{sides:?}")));
    };
    // One byte more than announced detects a longer file. Memory grows with the file, not with the header.
    let mut values = Vec::new();
    reader.take(expected as u64 + 1).read_to_end(&mut values).map_err(Error::io("read", path))?;
    if values.len() != expected {
        let more = if values.len() > expected { "more" } else { &values.len().to_string() };
        return Err(wrong(format!("{expected} values for the dimensions {sides:?}"), more.to_owned()));
    }
    Ok((sides, values))
}
