//! Decoded images on disk.
//!
//! The file, little-endian: `MAGIC`; key, N, H, W and C, each u64; N·H·W·C bytes of pixels, zeros where an image was excluded; the
//! XXH64 of each image's pixels, N u64; the number of excluded images u64, for each its index u64, the length of the reason
//! u64, the reason in UTF-8; the images' notes in the same form; the XXH64 of all but the pixels, u64. The pixels come first so
//! that they can be written as they are decoded.

use std::fs::File;
use std::hash::Hasher;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use fnv::FnvHasher;
use memmap2::Mmap;
use rayon::prelude::*;
use twox_hash::XxHash64;

use crate::cache_folder::{CacheFolder, Draft};
use crate::decode_settings::{ColorMode, DecodeSettings, Interpolation, OnError, ResizeMode};
use crate::image_dataset::checksum;
use crate::mapped::map;
use crate::reading::{Alpha, Damaged, Exif, Reading, SixteenBit};
use crate::scan::ImageFolder;

/// To be changed with the file's layout and with any change of the decoded pixels.
const MAGIC: [u8; 16] = *b"firstsight img 5";

const HEADER: usize = MAGIC.len() + 5 * 8;

/// Images whose checksums are compared between two reports of progress.
const BLOCK: usize = 4096;

/// What came of decoding a folder, but the pixels.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Of each image's pixels.
    pub(crate) checksums: Vec<u64>,
    /// Index and reason of excluded images, by index.
    pub(crate) excluded: Vec<(usize, String)>,
    /// Index and note of images whose files are not as they should be, by index.
    pub(crate) notes: Vec<(usize, String)>,
}

/// N, H, W and C.
type Shape = [usize; 4];

/// Bytes of an image.
fn image_bytes([_, height, width, channels]: Shape) -> usize {
    height * width * channels
}

/// A hash of everything that the pixels depend on, the same in every version of Rust and on every machine (FNV-1a).
pub(crate) fn key(folder: &ImageFolder, settings: &DecodeSettings) -> u64 {
    let mut hash = FnvHasher::default();
    let mut number = |value: u64| hash.write(&value.to_le_bytes());
    number(settings.height as u64);
    number(settings.width as u64);
    number(match settings.color {
        ColorMode::Gray => 0,
        ColorMode::Rgb => 1,
    });
    number(match settings.interpolation {
        Interpolation::Nearest => 0,
        Interpolation::Bilinear => 1,
        Interpolation::Bicubic => 2,
        Interpolation::Lanczos => 3,
    });
    number(match settings.resize_mode {
        ResizeMode::Squash => !settings.crop_pct.to_bits(),
        ResizeMode::CenterCrop => settings.crop_pct.to_bits(),
    });
    number(match settings.on_error {
        OnError::Fail => 0,
        OnError::Skip => 1,
    });
    let Reading { exif, sixteen_bit, alpha, damaged, max_pixels } = settings.reading;
    number(u64::from(exif == Exif::Apply));
    number(u64::from(sixteen_bit == SixteenBit::Scale));
    number(u64::from(alpha == Alpha::Blend));
    number(u64::from(damaged == Damaged::Accept));
    number(max_pixels);
    number(folder.len() as u64);

    let stamps: Vec<(u64, u64)> = folder.samples().par_iter().map(|s| stamp(&s.container())).collect();
    for ((i, sample), (size, modified)) in folder.samples().iter().enumerate().zip(stamps) {
        let class = match folder.labels().get(i) {
            Some(&label) => folder.classes()[label as usize].as_bytes(),
            None => b"",
        };
        let path = sample.path();
        let file = path.strip_prefix(folder.root()).unwrap_or(&path).as_os_str().as_encoded_bytes();
        for name in [class, file] {
            hash.write(&(name.len() as u64).to_le_bytes());
            hash.write(name);
        }
        hash.write(&size.to_le_bytes());
        hash.write(&modified.to_le_bytes());
    }
    hash.finish()
}

/// Size in bytes, and time of the last modification in nanoseconds since 1970; the largest numbers for a file that isn't
/// there, which decoding reports.
fn stamp(path: &Path) -> (u64, u64) {
    let read = || -> io::Result<_> {
        let metadata = std::fs::metadata(path)?;
        Ok((metadata.len(), metadata.modified()?))
    };
    let Ok((size, modified)) = read() else { return (u64::MAX, u64::MAX) };
    let nanoseconds = match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as u64,
        Err(before) => (before.duration().as_nanos() as u64).wrapping_neg(),
    };
    (size, nanoseconds)
}

/// The images of a cache file.
#[derive(Debug)]
pub(crate) struct CachedImages {
    map: Mmap,
    n: usize,
    /// Bytes of an image.
    image: usize,
}

impl CachedImages {
    pub(crate) fn image(&self, index: usize) -> &[u8] {
        &self.map[HEADER + index * self.image..][..self.image]
    }

    pub(crate) fn checksum(&self, index: usize) -> u64 {
        number(&self.map[HEADER + self.n * self.image + index * 8..])
    }

    /// A file of the key and shape, with the excluded images and the notes. The pixels are not read.
    fn open(file: &File, key: u64, shape: Shape) -> io::Result<(Self, Outcome)> {
        let found = file.metadata()?.len();
        let (n, image) = (shape[0], image_bytes(shape));
        let texts_at = HEADER + n * image + 8 * n;
        let least = texts_at as u64 + 3 * 8;
        // Before anything behind the end would be read.
        if found < least {
            return Err(damaged(format!("expected at least {least} bytes, found {found}")));
        }
        let map = map(file)?;
        let header = header(key, shape);
        if map[..MAGIC.len()] != MAGIC {
            return Err(damaged("expected another magic number"));
        }
        for (expected, found) in header.chunks_exact(8).zip(map[..HEADER].chunks_exact(8)) {
            if expected != found {
                let (expected, found) = (number(expected), number(found));
                return Err(damaged(format!("expected {expected} in the header, found {found}")));
            }
        }
        let (rest, sum) = map[HEADER + n * image..].split_at(map.len() - HEADER - n * image - 8);
        if number(sum) != XxHash64::oneshot(checksum(&header), rest) {
            return Err(damaged("the checksum is wrong"));
        }
        let mut texts = &rest[8 * n..];
        let (excluded, notes) = (read_texts(&mut texts, n)?, read_texts(&mut texts, n)?);
        if !texts.is_empty() {
            return Err(damaged(format!("expected {} bytes less", texts.len())));
        }
        Ok((Self { map, n, image }, Outcome { checksums: Vec::new(), excluded, notes }))
    }

    /// Reads all pixels and compares their checksums.
    fn verify(&self, progress: &(dyn Fn(usize, usize) + Sync)) -> io::Result<()> {
        for start in (0..self.n).step_by(BLOCK) {
            let end = self.n.min(start + BLOCK);
            let wrong =
                (start..end).into_par_iter().find_any(|&i| checksum(self.image(i)) != self.checksum(i));
            if let Some(image) = wrong {
                return Err(damaged(format!("the checksum of image {image} is wrong")));
            }
            progress(end, self.n);
        }
        Ok(())
    }
}

/// The images of a cache file with the excluded ones and the notes, or `None` if there is none or it is damaged; the latter
/// with a warning.
pub(crate) fn read(
    path: &Path,
    key: u64,
    shape: Shape,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Option<(CachedImages, Outcome)> {
    let read = || -> io::Result<_> {
        let (images, outcome) = CachedImages::open(&File::open(path)?, key, shape)?;
        images.verify(progress)?;
        Ok((images, outcome))
    };
    match read() {
        Ok(read) => Some(read),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!("{} of the cache cannot be used: {error}; decoding again", path.display());
            None
        }
    }
}

/// A cache file that is written while images are decoded.
pub(crate) struct Writer {
    draft: Draft,
    key: u64,
    shape: Shape,
}

impl Writer {
    /// `None` where the cache cannot be written or has no room.
    pub(crate) fn begin(cache: &CacheFolder, name: &str, key: u64, shape: Shape) -> Option<Self> {
        let bytes = HEADER + shape[0] * (image_bytes(shape) + 8);
        let mut draft = cache.begin(name, bytes as u64)?;
        draft.write(&header(key, shape));
        Some(Self { draft, key, shape })
    }

    /// Adds the pixels of the next images.
    pub(crate) fn pixels(&mut self, pixels: &[u8]) {
        self.draft.write(pixels);
    }

    /// Completes the file and maps it; `None` where something prevents that, with a warning.
    pub(crate) fn finish(mut self, outcome: &Outcome) -> Option<CachedImages> {
        let mut rest: Vec<u8> = outcome.checksums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        for texts in [&outcome.excluded, &outcome.notes] {
            rest.extend((texts.len() as u64).to_le_bytes());
            for (index, text) in texts {
                rest.extend((*index as u64).to_le_bytes());
                rest.extend((text.len() as u64).to_le_bytes());
                rest.extend(text.as_bytes());
            }
        }
        let sum = XxHash64::oneshot(checksum(&header(self.key, self.shape)), &rest);
        self.draft.write(&rest);
        self.draft.write(&sum.to_le_bytes());
        let file = self.draft.commit()?;
        match CachedImages::open(&file, self.key, self.shape) {
            Ok((images, _)) => Some(images),
            Err(error) => {
                tracing::warn!("the file of decoded images cannot be mapped: {error}");
                None
            }
        }
    }
}

fn header(key: u64, shape: Shape) -> Vec<u8> {
    let numbers = std::iter::once(key).chain(shape.map(|side| side as u64));
    MAGIC.into_iter().chain(numbers.flat_map(u64::to_le_bytes)).collect()
}

/// The first eight bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Reads texts with the images' indices off the front of `bytes`.
fn read_texts(bytes: &mut &[u8], n: usize) -> io::Result<Vec<(usize, String)>> {
    let broken = || damaged("the list of excluded files or notes is not whole");
    let mut take = |len: u64| -> io::Result<&[u8]> {
        let len = usize::try_from(len).map_err(|_| broken())?;
        let (taken, rest) = bytes.split_at_checked(len).ok_or_else(broken)?;
        *bytes = rest;
        Ok(taken)
    };
    let mut texts = Vec::new();
    for _ in 0..number(take(8)?) {
        let (index, len) = (number(take(8)?), number(take(8)?));
        let text = str::from_utf8(take(len)?).map_err(|_| damaged("a reason or note is not UTF-8"))?;
        match usize::try_from(index) {
            Ok(index) if index < n => texts.push((index, text.to_owned())),
            _ => return Err(broken()),
        }
    }
    Ok(texts)
}

/// Zeros, or `None` where memory does not hold them.
pub(crate) fn zeros(len: usize) -> Option<Vec<u8>> {
    Vec::<u8>::new().try_reserve_exact(len).ok()?;
    // `vec!` takes pages that the system has cleared, which pushing zeros does not.
    Some(vec![0; len])
}
