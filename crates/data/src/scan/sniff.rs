//! Which files are images: by their first bytes, then by their names.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::SkipReason;
use crate::decode::is_image;
use crate::image_name::is_image_name;

/// Bytes read of each file.
pub(super) const START: u64 = 512;

/// Names of files and folders that systems leave behind, in lower case.
const JUNK: [&str; 23] = [
    "__macosx",
    "@eadir",
    "#recycle",
    "#snapshot",
    "~snapshot",
    "@tmp",
    "@sharebin",
    "@recycle",
    "@recently-snapshot",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "found.000",
    "network trash folder",
    "temporary items",
    "__pycache__",
    "node_modules",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "picasa.ini",
    "zbthumbnail.info",
];

/// The name of all formats of cameras' raw data.
pub(crate) const RAW: &str = "raw photo";

/// Ends of the names of downloads that are not finished.
const UNFINISHED: [&str; 3] = ["crdownload", "part", "partial"];

/// Formats of pictures that aren't read, by the ends of their names.
const UNSUPPORTED: [(&str, &[&str]); 13] = [
    ("AVIF", &["avif", "avifs"]),
    ("HEIC", &["heic", "heif", "hif"]),
    ("JPEG XL", &["jxl"]),
    ("JPEG 2000", &["jp2", "j2k", "jpf", "jpx", "j2c"]),
    ("SVG", &["svg", "svgz"]),
    ("PDF", &["pdf"]),
    ("Photoshop", &["psd", "psb"]),
    ("DICOM", &["dcm", "dicom"]),
    ("NIfTI", &["nii"]),
    ("OpenEXR", &["exr"]),
    ("icon", &["ico", "cur", "icns"]),
    ("TGA", &["tga"]),
    (
        RAW,
        &["dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "sr2", "orf", "raf", "rw2", "pef", "srw", "raw"],
    ),
];

/// Why a file or folder of this name never counts.
pub(super) fn never_counts(name: &std::ffi::OsStr) -> Option<SkipReason> {
    if name.as_encoded_bytes().starts_with(b".") {
        return Some(SkipReason::Hidden);
    }
    JUNK.contains(&&*name.to_string_lossy().to_lowercase()).then_some(SkipReason::Junk)
}

/// Why a file of this name never counts, though a folder may: a download that is not finished.
pub(super) fn unfinished(name: &std::ffi::OsStr) -> Option<SkipReason> {
    let end = Path::new(name).extension()?.to_str()?.to_lowercase();
    UNFINISHED.contains(&end.as_str()).then_some(SkipReason::Junk)
}

/// Whether a folder is a run, its checkpoint, or a report with pictures, as this project writes them.
pub(super) fn is_run(folder: &Path) -> bool {
    let all = |names: &[&str]| names.iter().all(|name| folder.join(name).exists());
    let page = || start(&folder.join("report.html")).is_ok_and(|page| is_report(&page));
    all(&["config.json", "model.safetensors"])
        || all(&["config.json", "split.csv"])
        || all(&["checkpoint", "split.csv"])
        || all(&["fold-1", "fold-1/checkpoint"])
        || all(&["fold-1", "cross-validation.json"])
        || (folder.file_name().is_some_and(|name| name == "checkpoint")
            && ["last.safetensors", "best.safetensors"].iter().any(|name| all(&[name])))
        || page()
}

fn is_report(page: &[u8]) -> bool {
    let text = String::from_utf8_lossy(page);
    text.contains("<meta name=\"color-scheme\"") && text.contains("<title>Firstsight")
}

/// Why a file isn't taken for an image; `None` for an image, and for what is named like one but can't be read, which
/// decoding reports.
pub(super) fn not_an_image(path: &Path) -> Option<SkipReason> {
    let named = is_image_name(path);
    let start = match start(path) {
        Ok(start) => start,
        Err(_) if named => return None,
        Err(_) => return Some(SkipReason::Denied),
    };
    judge(path, &start)
}

/// As [`not_an_image`], for a file that begins with `start`.
pub(super) fn judge(path: &Path, start: &[u8]) -> Option<SkipReason> {
    let named = is_image_name(path);
    // Most cameras' raw data begin like TIFF.
    if unsupported_name(path) == Some(RAW) {
        return Some(SkipReason::Unsupported(RAW));
    }
    if is_image(start) && (named || !could_be_text(start)) {
        return None;
    }
    if let Some(format) = unsupported_start(start) {
        return Some(SkipReason::Unsupported(format));
    }
    if named {
        return None;
    }
    Some(match unsupported_name(path) {
        Some(format) => SkipReason::Unsupported(format),
        None if start.is_empty() => SkipReason::Empty,
        None => SkipReason::NotAnImage,
    })
}

fn start(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(START as usize);
    File::open(path)?.take(START).read_to_end(&mut start)?;
    Ok(start)
}

/// Some formats begin with two letters, as a text may.
fn could_be_text(start: &[u8]) -> bool {
    let text = std::str::from_utf8(&start[..start.len().min(32)]);
    // Without a length, the error is a character that is cut at the end.
    !start.contains(&0) && text.err().is_none_or(|error| error.error_len().is_none())
}

/// The format of a picture that isn't read.
fn unsupported_start(start: &[u8]) -> Option<&'static str> {
    match start {
        [b'I', b'I', 42, 0, _, _, _, _, b'C', b'R', ..] => Some("raw photo"),
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => match brand.get(..4)? {
            b"avif" | b"avis" => Some("AVIF"),
            b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" => {
                // A general brand; the ones it is compatible with tell more.
                let is_avif =
                    brand.get(4..).is_some_and(|rest| rest.chunks_exact(4).take(8).any(|b| b == b"avif"));
                Some(if is_avif { "AVIF" } else { "HEIC" })
            }
            b"crx " => Some(RAW),
            _ => None,
        },
        [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] | [0xff, 0x0a, ..] => Some("JPEG XL"),
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => Some("JPEG 2000"),
        [b'8', b'B', b'P', b'S', ..] => Some("Photoshop"),
        [0x76, 0x2f, 0x31, 0x01, ..] => Some("OpenEXR"),
        _ if start.get(128..132) == Some(b"DICM") => Some("DICOM"),
        _ => None,
    }
}

pub(crate) fn unsupported_name(path: &Path) -> Option<&'static str> {
    let end = path.extension()?.to_str()?.to_lowercase();
    UNSUPPORTED.iter().find(|(_, ends)| ends.contains(&end.as_str())).map(|(format, _)| *format)
}
