//! What is left out of a folder, and why.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Folders that a sentence names for each reason.
const NAMED: usize = 3;

/// A file or folder that is left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// The file or folder. A folder stands for all that is in it.
    pub path: PathBuf,
    /// The reason.
    pub reason: SkipReason,
}

/// Why a file or folder is left out. As text, a few words for one file: `hidden`, `a TIFF file`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SkipReason {
    /// A picture in a format that isn't read: its name, such as `AVIF`.
    Unsupported(&'static str),
    /// Its first bytes are no image's, and it isn't named like one.
    NotAnImage,
    /// It is empty and not named like an image.
    Empty,
    /// An image outside of the class folders.
    NoClass,
    /// A file or folder beside the folders of the splits.
    NoSplit,
    /// An image of a class that the network doesn't know.
    UnknownClass,
    /// Another picture of an image, such as its mask, in an archive.
    Second,
    /// A symbolic link that leads nowhere.
    BrokenLink,
    /// A symbolic link to a folder that is above it or counted already.
    Repeated,
    /// It can't be opened.
    Denied,
    /// A folder that can't be opened.
    DeniedFolder,
    /// A folder that a training or a report has written: a run, its checkpoint, a report with its pictures.
    Run,
    /// A hard or symbolic link in an archive.
    ArchiveLink,
    /// Its name begins with a dot.
    Hidden,
    /// A file or folder that a system leaves behind, such as `__MACOSX` or `Thumbs.db`.
    Junk,
}

impl SkipReason {
    /// Whether the file is a picture, or may hold some, but can't be read here.
    pub fn is_photo(self) -> bool {
        matches!(self, Self::Unsupported(_) | Self::Denied | Self::DeniedFolder)
    }

    /// The words for `n` files.
    fn of(self, n: usize) -> String {
        let files = if n == 1 { "file" } else { "files" };
        match self {
            Self::Unsupported(format) => format!("{n} {format} {files}"),
            Self::NotAnImage => format!("{n} that {} no image", if n == 1 { "is" } else { "are" }),
            Self::Empty => format!("{n} empty {files}"),
            Self::NoClass => format!("{n} outside of class folders"),
            Self::NoSplit => format!("{n} beside the splits"),
            Self::UnknownClass => format!("{n} of classes that the network doesn't know"),
            Self::Second => format!("{n} beside another picture of the same name"),
            Self::BrokenLink => format!("{n} broken {}", if n == 1 { "link" } else { "links" }),
            Self::Repeated => {
                format!("{n} {} to folders counted already", if n == 1 { "link" } else { "links" })
            }
            Self::Denied => format!("{n} that can't be opened"),
            Self::DeniedFolder => {
                format!("{n} {} that can't be opened", if n == 1 { "folder" } else { "folders" })
            }
            Self::Run => format!("{n} {files} of runs or reports"),
            Self::ArchiveLink => format!("{n} {} in archives", if n == 1 { "link" } else { "links" }),
            Self::Hidden => format!("{n} hidden"),
            Self::Junk => format!("{n} system {files}"),
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(format) => write!(f, "{format} isn't read here: convert it to JPEG or PNG"),
            Self::NotAnImage => f.write_str("no image"),
            Self::Empty => f.write_str("an empty file"),
            Self::NoClass => f.write_str("an image outside of the class folders"),
            Self::NoSplit => f.write_str("beside the splits"),
            Self::UnknownClass => f.write_str("of a class that the network doesn't know"),
            Self::Second => f.write_str("beside another picture of the same name"),
            Self::BrokenLink => f.write_str("a broken link"),
            Self::Repeated => f.write_str("a link to a folder that is counted already"),
            Self::Denied => f.write_str("can't be opened"),
            Self::DeniedFolder => f.write_str("a folder that can't be opened"),
            Self::Run => f.write_str("a run or report"),
            Self::ArchiveLink => f.write_str("a link in an archive, which isn't followed"),
            Self::Hidden => f.write_str("hidden"),
            Self::Junk => f.write_str("a system's file"),
        }
    }
}

/// One sentence that counts what is left out of `root` beside `n_images` images, by reason and class; `None` if
/// nothing is.
pub(super) fn summary(root: &Path, n_images: usize, skipped: &[Skipped]) -> Option<String> {
    if skipped.is_empty() {
        return None;
    }
    let found = counted(root, skipped);
    let n: usize = skipped.iter().map(n_files).sum();
    (n > 0).then(|| format!("left out {n} of {} files in {}: {found}", n_images + n, root.display()))
}

/// The files that are left out with a file or folder. One that can't be opened counts as a file.
fn n_files(skipped: &Skipped) -> usize {
    fn inside(folder: &Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let n = |entry: std::fs::DirEntry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => inside(&entry.path()),
            _ => 1,
        };
        entries.map(n).sum()
    }
    let is_folder = std::fs::symlink_metadata(&skipped.path).is_ok_and(|found| found.is_dir());
    if is_folder && skipped.reason != SkipReason::DeniedFolder { inside(&skipped.path) } else { 1 }
}

/// Numbers by reason and class: `7 that are no image (bees 5, ants 2), 1 hidden (bees/.m0000.png)`.
pub(super) fn counted(root: &Path, skipped: &[Skipped]) -> String {
    let mut reasons: BTreeMap<SkipReason, Vec<(&Path, usize)>> = BTreeMap::new();
    for (skipped, n) in skipped.iter().map(|skipped| (skipped, n_files(skipped))).filter(|(_, n)| *n > 0) {
        let path = skipped.path.strip_prefix(root).unwrap_or(&skipped.path);
        reasons.entry(skipped.reason).or_default().push((path, n));
    }
    let parts = reasons.into_iter().map(|(reason, paths)| {
        let words = match &*paths {
            [(path, _)] => path.display().to_string(),
            _ => by_folder(&paths),
        };
        let n = paths.iter().map(|(_, n)| n).sum();
        match words.is_empty() {
            true => reason.of(n),
            false => format!("{} ({words})", reason.of(n)),
        }
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// The folders of the most files, each with their number.
fn by_folder(paths: &[(&Path, usize)]) -> String {
    let mut folders: BTreeMap<String, usize> = BTreeMap::new();
    let all: usize = paths.iter().map(|(_, n)| n).sum();
    for (path, n) in paths {
        let mut components = path.components();
        if let (Some(first @ Component::Normal(_)), Some(_)) = (components.next(), components.next()) {
            *folders.entry(first.as_os_str().to_string_lossy().into_owned()).or_default() += n;
        }
    }
    let mut folders: Vec<(String, usize)> = folders.into_iter().collect();
    folders.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let more = folders.len().saturating_sub(NAMED);
    let named = folders.iter().take(NAMED).map(|(folder, n)| match *n == all {
        true => folder.clone(),
        false => format!("{folder} {n}"),
    });
    named.chain((more > 0).then(|| format!("{more} more folders"))).collect::<Vec<_>>().join(", ")
}
