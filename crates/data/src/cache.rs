//! Decoded images on disk.
//!
//! The file, little-endian: `MAGIC`; key, N, H, W and C, each u64; the number of excluded images u64, for each its index
//! u64, the length of the reason u64, the reason in UTF-8; the images' notes in the same form; N·H·W·C bytes of pixels;
//! CRC-32 of all before, u32.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

use fnv::FnvHasher;
use rayon::prelude::*;

use crate::cache_folder::CacheFolder;
use crate::decode_settings::{ColorMode, DecodeSettings, Interpolation, OnError, ResizeMode};
use crate::reading::{Alpha, Damaged, Exif, Reading, SixteenBit};
use crate::scan::ImageFolder;

/// To be changed with the file's layout and with any change of the decoded pixels.
const MAGIC: [u8; 16] = *b"firstsight img 3";

/// The result of decoding a folder.
pub(crate) struct Content {
    /// (N, H, W, C), zeros where an image was excluded.
    pub(crate) pixels: Vec<u8>,
    /// Index and reason of excluded images, by index.
    pub(crate) excluded: Vec<(usize, String)>,
    /// Index and note of images whose files are not as they should be, by index.
    pub(crate) notes: Vec<(usize, String)>,
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
        ResizeMode::Squash => 0,
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

    let stamps: Vec<(u64, u64)> = folder.samples().par_iter().map(|s| stamp(s.container())).collect();
    for ((i, sample), (size, modified)) in folder.samples().iter().enumerate().zip(stamps) {
        let class = match folder.labels().get(i) {
            Some(&label) => folder.classes()[label as usize].as_bytes(),
            None => b"",
        };
        let file =
            sample.path.strip_prefix(folder.root()).unwrap_or(&sample.path).as_os_str().as_encoded_bytes();
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

/// The content of a cache file, or `None` if there is none or it is damaged; the latter with a warning.
pub(crate) fn read(path: &Path, key: u64, n: usize, size: (usize, usize, usize)) -> Option<Content> {
    match try_read(path, key, n, size) {
        Ok(content) => Some(content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!("{} of the cache cannot be used: {error}; decoding again", path.display());
            None
        }
    }
}

fn try_read(
    path: &Path,
    key: u64,
    n: usize,
    (height, width, channels): (usize, usize, usize),
) -> io::Result<Content> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut reader = Checked { inner: BufReader::new(file), crc: crc32fast::Hasher::new() };
    let mut magic = [0; MAGIC.len()];
    reader.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(damaged("expected another magic number"));
    }
    for expected in [key, n as u64, height as u64, width as u64, channels as u64] {
        let found = reader.number()?;
        if found != expected {
            return Err(damaged(&format!("expected {expected} in the header, found {found}")));
        }
    }
    let pixels = n * height * width * channels;
    let mut expected_length = MAGIC.len() as u64 + 7 * 8 + pixels as u64 + 4;
    let mut texts = || -> io::Result<Vec<(usize, String)>> {
        let mut texts = Vec::new();
        for _ in 0..reader.number()? {
            let index = reader.number()?;
            let bytes = reader.number()?;
            expected_length = expected_length.saturating_add(16).saturating_add(bytes);
            if index >= n as u64 || expected_length > length {
                return Err(damaged("the list of excluded files or notes is not whole"));
            }
            let mut text = vec![0; bytes as usize];
            reader.read_exact(&mut text)?;
            let text = String::from_utf8(text).map_err(|_| damaged("a reason or note is not UTF-8"))?;
            texts.push((index as usize, text));
        }
        Ok(texts)
    };
    let (excluded, notes) = (texts()?, texts()?);
    // Before memory is allocated for the pixels.
    if length != expected_length {
        return Err(damaged(&format!("expected {expected_length} bytes, found {length}")));
    }
    let pixels = zeros(pixels).ok_or(io::ErrorKind::OutOfMemory)?;
    let mut content = Content { pixels, excluded, notes };
    reader.read_exact(&mut content.pixels)?;
    let expected = reader.crc.clone().finalize();
    let mut found = [0; 4];
    reader.read_exact(&mut found)?;
    if u32::from_le_bytes(found) != expected {
        return Err(damaged("the checksum is wrong"));
    }
    Ok(content)
}

/// Keeps a cache file, if the cache can be written.
pub(crate) fn write(
    cache: &CacheFolder,
    name: &str,
    key: u64,
    size: (usize, usize, usize),
    content: &Content,
) {
    let (height, width, channels) = size;
    let n = content.pixels.len() / (height * width * channels);
    cache.write(name, content.pixels.len() as u64, |file| {
        let mut writer = Checked { inner: file, crc: crc32fast::Hasher::new() };
        writer.write_all(&MAGIC)?;
        let header = [n, height, width, channels].map(|value| value as u64);
        for value in [key].into_iter().chain(header) {
            writer.write_all(&value.to_le_bytes())?;
        }
        for texts in [&content.excluded, &content.notes] {
            writer.write_all(&(texts.len() as u64).to_le_bytes())?;
            for (index, text) in texts {
                writer.write_all(&(*index as u64).to_le_bytes())?;
                writer.write_all(&(text.len() as u64).to_le_bytes())?;
                writer.write_all(text.as_bytes())?;
            }
        }
        writer.write_all(&content.pixels)?;
        let crc = writer.crc.clone().finalize();
        writer.inner.write_all(&crc.to_le_bytes())
    });
}

/// Zeros, or `None` where memory does not hold them.
pub(crate) fn zeros(len: usize) -> Option<Vec<u8>> {
    Vec::<u8>::new().try_reserve_exact(len).ok()?;
    // `vec!` takes pages that the system has cleared, which pushing zeros does not.
    Some(vec![0; len])
}

/// A reader or writer with a running checksum.
struct Checked<T> {
    inner: T,
    crc: crc32fast::Hasher,
}

impl<R: Read> Checked<R> {
    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.crc.update(&buffer[..n]);
        Ok(n)
    }
}

impl<W: Write> Write for Checked<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buffer)?;
        self.crc.update(&buffer[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
