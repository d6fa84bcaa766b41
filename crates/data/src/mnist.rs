//! MNIST: 60,000 and 10,000 handwritten digits of 28×28 bytes, light on black, as four IDX files (LeCun, Cortes and
//! Burges, <http://yann.lecun.com/exdb/mnist/>).

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::idx;
use crate::image_dataset::ImageDataset;

/// The number of digits.
const CLASSES: usize = 10;

/// MNIST, or another data set in its format (Fashion-MNIST, KMNIST): ten classes, named "0" to "9".
///
/// # Examples
///
/// ```no_run
/// use firstsight_data::Mnist;
///
/// // 28×28, padded by two zeros on each side, as LeNet-5 takes it.
/// let mnist = Mnist::read("datasets/mnist".as_ref(), 32)?;
/// assert_eq!(mnist.train.shape(), (60_000, 32, 32, 1));
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Mnist {
    /// Training images, from `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`.
    pub train: ImageDataset,
    /// Test images, from `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`.
    pub test: ImageDataset,
}

impl Mnist {
    /// Reads the four files in `folder`, each plain or gzip (`.gz`), and pads the images with zeros to `side` × `side`.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] names the file or folder: a missing file, a file of another format, different numbers of
    /// images and labels, images larger than `side`, labels above 9. [`Error::Io`] for a file that cannot be read.
    pub fn read(folder: &Path, side: usize) -> Result<Self> {
        Ok(Self { train: part(folder, "train", side)?, test: part(folder, "t10k", side)? })
    }

    /// Whether `folder` holds the four files.
    pub fn is_in(folder: &Path) -> bool {
        check_files(folder).is_ok()
    }
}

/// The parts in the names of files.
const PARTS: [&str; 2] = ["train", "t10k"];

/// The names of a part's image and label files.
fn names(part: &str) -> [String; 2] {
    ["images-idx3", "labels-idx1"].map(|kind| format!("{part}-{kind}-ubyte"))
}

/// Whether `folder` holds one of the four files.
pub(crate) fn is_begun(folder: &Path) -> bool {
    PARTS.into_iter().flat_map(names).any(|name| find(folder, &name).is_ok())
}

/// # Errors
///
/// [`Error::Format`] names the first of the four files that `folder` lacks.
pub(crate) fn check_files(folder: &Path) -> Result<()> {
    PARTS.into_iter().try_for_each(|part| files(folder, part).map(drop))
}

/// The image and label files of a part.
pub(crate) fn files(folder: &Path, part: &str) -> Result<(PathBuf, PathBuf)> {
    let [images, labels] = names(part);
    Ok((find(folder, &images)?, find(folder, &labels)?))
}

/// The gzip file as distributed, or the unpacked one.
fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    let packed = format!("{name}.gz");
    match [name, &packed].into_iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => Err(wrong(folder, format!("{name} or {packed} in the folder"), "neither")),
    }
}

fn part(folder: &Path, part: &str, side: usize) -> Result<ImageDataset> {
    let (images_path, labels_path) = files(folder, part)?;
    let images = idx::read_images(&images_path)?;
    let (n, height, width) = images.shape;
    let labels = labels(&labels_path, &images_path, n)?.into_iter().map(u32::from).collect();
    if !(1..=side).contains(&height) || !(1..=side).contains(&width) {
        return Err(wrong(
            &images_path,
            format!("images of 1x1 to {side}x{side}"),
            format!("{height}x{width}"),
        ));
    }
    let classes = (0..CLASSES).map(|digit| digit.to_string()).collect();
    ImageDataset::from_pixels(framed(&images, side), (side, side, 1), labels, classes)
}

/// The labels of the `n` images in a file.
pub(crate) fn labels(path: &Path, images: &Path, n: usize) -> Result<Vec<u8>> {
    let labels = idx::read_labels(path)?;
    if n != labels.len() {
        let expected = format!("a label for each of the {n} images in {}", images.display());
        return Err(wrong(path, expected, labels.len()));
    }
    match labels.iter().find(|&&label| usize::from(label) >= CLASSES) {
        Some(label) => Err(wrong(path, format!("labels less than {CLASSES}"), label)),
        None => Ok(labels),
    }
}

/// Each image in the middle of a square of zeros; odd padding goes to the right and bottom.
fn framed(images: &idx::IdxImages, side: usize) -> Vec<u8> {
    let (n, height, width) = images.shape;
    let (top, left) = ((side - height) / 2, (side - width) / 2);
    let mut pixels = vec![0; n * side * side];
    let squares = pixels.chunks_exact_mut(side * side);
    for (square, image) in squares.zip(images.pixels.chunks_exact(height * width)) {
        for (row, values) in square.chunks_exact_mut(side).skip(top).zip(image.chunks_exact(width)) {
            row[left..left + width].copy_from_slice(values);
        }
    }
    pixels
}

fn wrong(path: &Path, expected: String, found: impl ToString) -> Error {
    Error::Format { path: path.to_owned(), expected, found: found.to_string() }
}
