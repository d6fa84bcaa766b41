//! The folder of what is taught: photos by class, runs, and what was removed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use firstsight_data::{DatasetFolder, scan_images};
use firstsight_transfer::RunFolder;
use serde::Serialize;
use unicode_normalization::UnicodeNormalization as _;

use crate::{Error, Result};

/// Most characters of a name.
const NAME: usize = 80;

/// A name as that of a file or folder: without what some system gives a meaning (`/ \ : * ? " < > |`, control characters, dots at
/// the ends). `None` where nothing is left, or a name that a system keeps for itself.
pub fn safe_name(name: &str) -> Option<String> {
    let plain =
        |c: char| if matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|') { '_' } else { c };
    let kept: String = name.nfc().filter(|c| !c.is_control()).map(plain).take(NAME).collect();
    let kept = kept.trim_matches(|c: char| c == '.' || c.is_whitespace());
    let stem = kept.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let is_device = matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || (stem.len() == 4
            && (stem.starts_with("COM") || stem.starts_with("LPT"))
            && stem.ends_with(|c: char| c.is_ascii_digit()));
    let is_hidden = kept.eq_ignore_ascii_case("__MACOSX") || kept.starts_with('$');
    (!kept.is_empty() && !is_device && !is_hidden).then(|| kept.to_owned())
}

/// A class with the files of its photos.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Class {
    /// Its name, which is its folder's.
    pub name: String,
    /// Its photos' files, as paths below the folder.
    pub photos: Vec<String>,
}

/// The folder of what is taught: `photos/CLASS/FILE`, `run-1`, `run-2` and so on, and `removed/CLASS/FILE`.
#[derive(Debug)]
pub struct Session {
    folder: PathBuf,
    photos: PathBuf,
    changing: Mutex<()>,
}

/// Why a session was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there is no {0} of that name")]
    Unknown(&'static str),
    #[error("a class has that name already")]
    Taken,
    #[error("that is no name for a folder")]
    Name,
    #[error("{0}")]
    Onnx(String),
    #[error("the disk refused: {0}")]
    Io(std::io::ErrorKind),
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.kind())
    }
}

type Changed<T = ()> = std::result::Result<T, Refused>;

impl Session {
    /// A folder, made where it is missing. `photos` is a folder of class folders to go on with; by default it is `folder/photos`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for a folder that cannot be made, [`Error::Photos`] for photos that are not in class folders,
    /// [`Error::Setting`] for those that have splits or `folder` among them.
    pub fn open(folder: &Path, photos: Option<&Path>) -> Result<Self> {
        let photos = match photos {
            None => folder.join("photos"),
            Some(photos) => {
                let dataset = DatasetFolder::scan(photos)?;
                if dataset.val.is_some() || dataset.test.is_some() || dataset.root != photos {
                    return Err(Error::Setting {
                        setting: "the photos",
                        expected: "a folder of one folder of images for each class".to_owned(),
                        found: format!("{}, which has splits", photos.display()),
                    });
                }
                if std::path::absolute(folder)?.starts_with(std::path::absolute(photos)?) {
                    return Err(Error::Setting {
                        setting: "the folder of runs (--dir)",
                        expected: "outside of the photos, where it would be a class".to_owned(),
                        found: folder.display().to_string(),
                    });
                }
                photos.to_path_buf()
            }
        };
        std::fs::create_dir_all(folder)?;
        std::fs::create_dir_all(&photos)?;
        Ok(Self { folder: folder.to_path_buf(), photos, changing: Mutex::default() })
    }

    /// The folder of class folders.
    pub fn photos(&self) -> &Path {
        &self.photos
    }

    /// The last run, if there is one.
    pub fn last_run(&self) -> Option<RunFolder> {
        let (_, path) = self.runs().into_iter().filter(|(_, path)| RunFolder::open(path).is_ok()).max()?;
        RunFolder::open(&path).ok()
    }

    /// The folder for the next run.
    pub(crate) fn next_run(&self) -> PathBuf {
        let last = self.runs().into_iter().map(|(number, _)| number).max().unwrap_or(0);
        self.folder.join(format!("run-{}", last + 1))
    }

    fn runs(&self) -> Vec<(usize, PathBuf)> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let numbered = entries.filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix("run-")?.parse().ok()?;
            Some((number, entry.path()))
        });
        numbered.collect()
    }

    /// All classes, by name.
    pub(crate) fn classes(&self) -> Vec<Class> {
        let entries = std::fs::read_dir(&self.photos).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.path().is_dir());
        let names = folders.filter_map(|entry| entry.file_name().into_string().ok());
        let mut classes: Vec<Class> = names
            .filter(|name| !name.starts_with('.'))
            .map(|name| Class { photos: self.photos_of(&name), name })
            .collect();
        classes.sort_by(|a, b| a.name.cmp(&b.name));
        classes
    }

    fn photos_of(&self, class: &str) -> Vec<String> {
        let folder = self.photos.join(class);
        let found = scan_images(std::slice::from_ref(&folder)).map(|found| found.samples).unwrap_or_default();
        let name = |path: PathBuf| Some(path.strip_prefix(&folder).ok()?.to_str()?.replace('\\', "/"));
        found.iter().filter_map(|sample| name(sample.path())).collect()
    }

    /// The folder of a class.
    fn class(&self, name: &str) -> Changed<PathBuf> {
        listed(&self.photos, name).filter(|path| path.is_dir()).ok_or(Refused::Unknown("class"))
    }

    /// The file of a photo, whose name may lead through folders below the class's.
    pub(crate) fn photo(&self, class: &str, name: &str) -> Changed<PathBuf> {
        let folder = self.class(class)?;
        let found = name.split('/').try_fold(folder, |folder, part| listed(&folder, part));
        found.filter(|path| path.is_file()).ok_or(Refused::Unknown("photo"))
    }

    pub(crate) fn add_class(&self, name: &str) -> Changed<String> {
        let _changing = self.changing();
        let name = self.free_name(name, None)?;
        std::fs::create_dir(self.photos.join(&name))?;
        Ok(name)
    }

    pub(crate) fn rename_class(&self, class: &str, name: &str) -> Changed<String> {
        let _changing = self.changing();
        let folder = self.class(class)?;
        let name = self.free_name(name, Some(class))?;
        let target = self.photos.join(&name);
        std::fs::rename(&folder, &target)?;
        // Linux leaves the old name where the file system takes both for the same.
        if class != name && listed(&self.photos, class).is_some() {
            let between = free_path(&self.photos, &format!("{name}-renamed"));
            std::fs::rename(folder, &between)?;
            std::fs::rename(between, target)?;
        }
        Ok(name)
    }

    /// A name that no class has but the one that gets it. Names that differ in letter case alone are one on some systems.
    fn free_name(&self, name: &str, own: Option<&str>) -> Changed<String> {
        let name = safe_name(name).ok_or(Refused::Name)?;
        let mut others = self.classes().into_iter().filter(|class| own != Some(class.name.as_str()));
        let is_taken = others.any(|class| class.name.to_lowercase() == name.to_lowercase());
        if is_taken { Err(Refused::Taken) } else { Ok(name) }
    }

    /// Moves a class with its photos to the removed ones.
    pub(crate) fn remove_class(&self, class: &str) -> Changed {
        let _changing = self.changing();
        let folder = self.class(class)?;
        let removed = self.folder.join("removed");
        std::fs::create_dir_all(&removed)?;
        Ok(std::fs::rename(folder, free_path(&removed, class))?)
    }

    /// Keeps a photo's bytes under a name like the given one.
    pub(crate) fn add_photo(&self, class: &str, name: &str, bytes: &[u8]) -> Changed<String> {
        let _changing = self.changing();
        let folder = self.class(class)?;
        let path = free_path(&folder, &safe_name(name).unwrap_or_else(|| "photo".to_owned()));
        firstsight_transfer::files::write(&path, bytes).map_err(|error| Refused::from(error.source))?;
        Ok(path.file_name().unwrap_or_default().to_string_lossy().into_owned())
    }

    /// Moves a photo to the removed ones.
    pub(crate) fn remove_photo(&self, class: &str, name: &str) -> Changed {
        let _changing = self.changing();
        let photo = self.photo(class, name)?;
        let removed = self.folder.join("removed").join(class);
        std::fs::create_dir_all(&removed)?;
        let last = name.rsplit('/').next().unwrap_or(name);
        Ok(std::fs::rename(photo, free_path(&removed, last))?)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message of the libraries without the folders of this machine.
    pub(crate) fn without_paths(&self, message: &str) -> String {
        let mut message = message.to_owned();
        for folder in [&self.photos, &self.folder] {
            let absolute = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.clone());
            for path in [&absolute, folder] {
                let path = path.display().to_string();
                message = message.replace(&format!("{path}/"), "").replace(&path, "the folder of photos");
            }
        }
        message
    }
}

/// What a folder has under a name. Only names that it lists are found, so none leads elsewhere.
fn listed(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(folder).ok()?.flatten();
    let found = entries.find(|entry| entry.file_name().to_str() == Some(name) && !name.starts_with('.'));
    found.map(|entry| entry.path())
}

/// A path in a folder that nothing has: `name`, or `name-2` and so on before its ending.
fn free_path(folder: &Path, name: &str) -> PathBuf {
    let (stem, end) = match name.rsplit_once('.') {
        Some((stem, end)) if !stem.is_empty() => (stem, format!(".{end}")),
        _ => (name, String::new()),
    };
    let names = std::iter::once(name.to_owned()).chain((2..).map(|i| format!("{stem}-{i}{end}")));
    names.map(|name| folder.join(name)).find(|path| !path.exists()).unwrap_or_else(|| folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_its_folder() {
        for (name, safe) in [
            ("ants", Some("ants")),
            ("  Große Bären ", Some("Große Bären")),
            ("../../etc/passwd", Some("_.._etc_passwd")),
            ("C:\\photos\\1.jpg", Some("C__photos_1.jpg")),
            ("a\0b\nc", Some("abc")),
            (".hidden.", Some("hidden")),
            ("..", None),
            ("", None),
            (" . ", None),
            ("nul", None),
            ("Com1.jpg", None),
            ("comet", Some("comet")),
            ("__macosx", None),
        ] {
            assert_eq!(safe_name(name).as_deref(), safe, "{name:?}");
        }
        assert_eq!(safe_name(&"é".repeat(500)).unwrap().chars().count(), NAME);
        // Two spellings of one name are one.
        assert_eq!(safe_name("e\u{301}"), safe_name("\u{e9}"));
    }

    #[test]
    fn only_what_is_listed_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().join("session");
        let session = Session::open(&here, None).unwrap();
        std::fs::write(here.join("secret.png"), "no").unwrap();
        assert_eq!(session.add_class("ants").unwrap(), "ants");
        assert!(matches!(session.add_class("Ants"), Err(Refused::Taken)));
        assert!(matches!(session.add_class(".."), Err(Refused::Name)));
        let mut png = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(4, 4).write_to(&mut png, image::ImageFormat::Png).unwrap();
        let png = png.into_inner();
        assert_eq!(session.add_photo("ants", "../1.png", &png).unwrap(), "_1.png");
        assert_eq!(session.add_photo("ants", "../1.png", &png).unwrap(), "_1-2.png");
        for (class, name) in [
            ("ants", "../../secret.png"),
            ("..", "secret.png"),
            ("../photos/ants", "_1.png"),
            ("ants", ""),
            ("", "ants/_1.png"),
        ] {
            assert!(session.photo(class, name).is_err(), "{class} {name}");
            assert!(session.remove_photo(class, name).is_err(), "{class} {name}");
        }
        assert!(session.remove_class("..").is_err() && session.remove_class("").is_err());
        session.remove_photo("ants", "_1.png").unwrap();
        assert!(here.join("removed/ants/_1.png").exists());
        assert_eq!(session.rename_class("ants", "bees").unwrap(), "bees");
        assert_eq!(session.classes(), [Class { name: "bees".into(), photos: vec!["_1-2.png".into()] }]);
        // Another spelling of its own name is no other class's.
        assert_eq!(session.rename_class("bees", "Bees").unwrap(), "Bees");
        assert_eq!(session.classes(), [Class { name: "Bees".into(), photos: vec!["_1-2.png".into()] }]);
        session.add_class("wasps").unwrap();
        assert!(matches!(session.rename_class("wasps", "BEES"), Err(Refused::Taken)));
        session.remove_class("wasps").unwrap();
        session.rename_class("Bees", "bees").unwrap();
        session.remove_class("bees").unwrap();
        assert!(session.classes().is_empty() && here.join("removed/bees/_1-2.png").exists());
    }
}
