//! Archives of official data sets, as folders of images.

mod archive;
mod cifar;
mod gnt;
mod mnist;
mod published;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use firstsight_files::GrowingFolder;
use rayon::prelude::*;

pub use self::published::{Published, published};
use crate::error::{Error, Result};

/// Bytes of pictures that are encoded and written at the same time.
const AT_ONCE: usize = 1 << 22;

/// An archive of a kind that [`convert`] knows.
#[derive(Debug)]
pub struct Archive {
    kind: Kind,
    source: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gnt,
    Mnist,
    Cifar,
}

/// What an archive holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The number of images of each class of each split, by the splits' folders: `train`, `test`, and none for an archive that does
    /// not tell.
    pub splits: BTreeMap<String, BTreeMap<String, usize>>,
}

/// A picture of an archive.
struct Picture {
    /// `train`, `test` or nothing.
    split: &'static str,
    class: String,
    /// Without an ending, unique in its class.
    name: String,
    width: u32,
    height: u32,
    /// 1 for gray, 3 for RGB, pixel by pixel.
    channels: usize,
    pixels: Vec<u8>,
}

/// What takes pictures one after the other.
type Visit<'a> = dyn FnMut(Picture) -> Result<()> + 'a;

impl Content {
    /// The number of images.
    pub fn images(&self) -> usize {
        self.splits.values().flat_map(BTreeMap::values).sum()
    }

    fn add(&mut self, picture: &Picture) {
        let split = self.splits.entry(picture.split.to_owned()).or_default();
        *split.entry(picture.class.clone()).or_default() += 1;
    }
}

impl Archive {
    /// Recognizes what `source` is:
    ///
    /// - CASIA-HWDB's `.gnt` files: one, a folder of them at any depth, or a zip;
    /// - MNIST's four IDX files in a folder, plain or gzip;
    /// - the binary version of CIFAR-10 or CIFAR-100, with all of its files: its folder, or the tar, plain or gzip.
    ///
    /// In folders, symbolic links are followed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for a source that cannot be read; [`Error::Format`] for one that is none of these.
    pub fn open(source: &Path) -> Result<Self> {
        let kind =
            if source.is_dir() && mnist::is_in(source) { Some(Kind::Mnist) } else { kind_of_files(source)? };
        if kind.is_none() && source.is_dir() && crate::mnist::is_begun(source) {
            crate::mnist::check_files(source)?;
        }
        let kind = kind.ok_or_else(|| Error::Format {
            path: source.to_owned(),
            expected: "CASIA-HWDB's .gnt files or a zip of them, MNIST's four IDX files, or the binary version of CIFAR-10 \
                       or CIFAR-100"
                .to_owned(),
            found: "none of their files".to_owned(),
        })?;
        Ok(Self { kind, source: source.to_owned() })
    }

    /// The name of the data set's format.
    pub fn format(&self) -> &'static str {
        match self.kind {
            Kind::Gnt => "CASIA-HWDB (.gnt)",
            Kind::Mnist => "MNIST (IDX)",
            Kind::Cifar => "CIFAR (binary)",
        }
    }

    /// Reads all of it and counts the images, so that whatever is wrong with it is known before anything is written.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Format`], which names the file and the place in it, for sizes and labels that cannot be.
    pub fn content(&self) -> Result<Content> {
        let mut content = Content::default();
        self.visit(&mut |picture| {
            content.add(&picture);
            Ok(())
        })?;
        Ok(content)
    }

    fn visit(&self, visit: &mut Visit<'_>) -> Result<()> {
        match self.kind {
            Kind::Gnt => gnt::visit(&self.source, visit),
            Kind::Mnist => mnist::visit(&self.source, visit),
            Kind::Cifar => cifar::visit(&self.source, visit),
        }
    }
}

fn kind_of_files(source: &Path) -> Result<Option<Kind>> {
    let mut kind = None;
    archive::each(source, &mut |_, name, _| {
        kind = match name {
            _ if gnt::is_one(name) => Some(Kind::Gnt),
            _ if cifar::is_one(name) => Some(Kind::Cifar),
            _ => None,
        };
        Ok(kind.is_none())
    })?;
    Ok(kind)
}

/// Writes the images of `archive` to `out` as PNG files, pixel for pixel: `out/train/CLASS/NAME.png` and `out/test/…`, or
/// `out/CLASS/…` where the archive does not tell a split. Classes have the data set's names: characters, digits, CIFAR's words. Signs
/// and capital letters, which file systems may not take or tell apart, are named by their code, such as `U+0041`.
///
/// The archive is read as it is written, some pictures at a time. Until `out` is whole it is `out` with `.partial` appended; a conversion
/// that was cut short goes on from there, and what was written is compared with the archive. `progress` is called with the numbers of
/// finished images and of all images.
///
/// # Errors
///
/// [`Error::Occupied`] where `out` exists; [`Error::Io`]; [`Error::Format`] for an archive that is damaged.
///
/// ```
/// use firstsight_data::convert::{Archive, convert};
///
/// # let folder = tempfile::tempdir()?;
/// // A sample of 2 × 1 pixels: its size in bytes, the character in GB2312, width, height, pixels.
/// let sample = [12, 0, 0, 0, 0xb0, 0xa1, 2, 0, 1, 0, 255, 0];
/// let source = folder.path().join("1001-c.gnt");
/// std::fs::write(&source, sample)?;
/// let out = folder.path().join("characters");
/// let content = convert(&Archive::open(&source)?, &out, &mut |_, _| ())?;
/// assert_eq!(content.images(), 1);
/// assert!(out.join("啊/1001-c-00001.png").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn convert(archive: &Archive, out: &Path, progress: &mut dyn FnMut(usize, usize)) -> Result<Content> {
    if out.exists() {
        return Err(Error::Occupied { path: out.to_owned() });
    }
    let content = archive.content()?;
    let total = content.images();
    let growing = GrowingFolder::open(out).map_err(Error::io("write", out))?;
    for (split, classes) in &content.splits {
        for class in classes.keys() {
            let folder = Path::new(split).join(class);
            growing.create_dir_all(&folder).map_err(Error::io("write", &growing.path().join(folder)))?;
        }
    }
    let (mut pending, mut done) = (Vec::new(), 0);
    let mut flush = |pending: &mut Vec<Picture>| -> Result<()> {
        pending.par_iter().try_for_each(|picture| write(picture, &growing))?;
        done += pending.len();
        pending.clear();
        progress(done, total);
        Ok(())
    };
    let mut size = 0;
    archive.visit(&mut |picture| {
        size += picture.pixels.len();
        pending.push(picture);
        if size < AT_ONCE {
            return Ok(());
        }
        size = 0;
        flush(&mut pending)
    })?;
    flush(&mut pending)?;
    check_whole(growing.path(), &content)?;
    growing.finish().map_err(Error::io("write", out))?;
    Ok(content)
}

/// Writes a picture, unless its file holds it already.
fn write(picture: &Picture, folder: &GrowingFolder) -> Result<()> {
    let Picture { split, class, name, width, height, channels, pixels } = picture;
    let file = Path::new(split).join(class).join(format!("{name}.png"));
    let path = folder.path().join(&file);
    let mut bytes = Vec::new();
    let mut encode = || -> Result<(), png::EncodingError> {
        let mut encoder = png::Encoder::new(&mut bytes, *width, *height);
        encoder.set_color(if *channels == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
        encoder.write_header()?.write_image_data(pixels)
    };
    encode().map_err(|error| Error::io("write", &path)(error.into()))?;
    folder.write(&file, &bytes).map_err(Error::io("write", &path))
}

/// # Errors
///
/// [`Error::Format`] for a folder with other files than those that the archive has.
fn check_whole(folder: &Path, content: &Content) -> Result<()> {
    for (split, classes) in &content.splits {
        for (class, n) in classes {
            let folder = folder.join(split).join(class);
            let found = fs::read_dir(&folder).map_err(Error::io("list", &folder))?.count();
            if found != *n {
                let (expected, found) = (format!("{n} images"), format!("{found} files"));
                return Err(Error::Format { path: folder, expected, found });
            }
        }
    }
    Ok(())
}
