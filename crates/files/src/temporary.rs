//! Names of temporary files and folders, and what becomes of those whose process was killed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::lock::{Lock, Locked};
use crate::steps::{Step, step};

/// `.NAME.16 digits.firstsight`.
const ENDING: &str = ".firstsight";
const DIGITS: usize = 16;
/// Bytes of a name that are kept, so that the whole is no longer than file systems allow.
const LONGEST: usize = 200;
/// The lock of a folder.
const LOCK: &str = ".lock";
/// As many as Linux follows.
const MOST_LINKS: usize = 40;

/// Whether a name is one that this crate gives to files and folders that are not yet whole.
pub fn is_temporary(name: &OsStr) -> bool {
    let Some(stem) = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(ENDING)) else {
        return false;
    };
    stem.rsplit_once('.').is_some_and(|(_, digits)| {
        digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// A name for what is to be at `path`, in the same folder.
pub(crate) fn free_path(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_string_lossy();
    let mut end = name.len().min(LONGEST);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    // Keyed anew in each process and at each call.
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    let random = hasher.finish();
    Ok(path.with_file_name(format!(".{}.{random:016x}{ENDING}", &name[..end])))
}

/// What is to be written for `path`: where symbolic links lead to, whether or not there is anything.
pub(crate) fn behind_links(path: &Path) -> io::Result<PathBuf> {
    // A slash at the end would hide the link.
    let mut path: PathBuf = path.components().collect();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(to) => path = path.with_file_name("").join(to),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other(format!(
        "expected at most {MOST_LINKS} symbolic links, found more at {}",
        path.display()
    )))
}

/// Removes the temporary files and folders in `folder` that killed processes left. Those of living ones stay: they are locked.
/// Returns how many were removed.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// let left = folder.path().join(".weights.0123456789abcdef.firstsight");
/// std::fs::write(&left, "half")?;
/// let draft = firstsight_files::Draft::create(&folder.path().join("other"))?;
/// assert_eq!(firstsight_files::sweep(folder.path()), 0, "the draft's folder was swept when it was begun");
/// assert!(!left.exists());
/// # drop(draft);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn sweep(folder: &Path) -> usize {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let temporary = names.filter(|entry| is_temporary(&entry.file_name())).map(|entry| entry.path());
    temporary.filter(|path| remove_dead(path)).count()
}

/// Removes a temporary file or folder that nobody has locked.
fn remove_dead(path: &Path) -> bool {
    if path.is_dir() {
        return match Lock::acquire(&path.join(LOCK)) {
            Ok(Locked::Here(lock)) => {
                let removed = fs::remove_dir_all(path).is_ok();
                drop(lock);
                removed
            }
            _ => false,
        };
    }
    let Ok(file) = File::options().append(true).open(path) else { return false };
    file.try_lock().is_ok() && fs::remove_file(path).is_ok()
}

/// Sweeps the folder of `path`, once in a process.
pub(crate) fn sweep_once(path: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(whole) = fs::canonicalize(folder) else { return };
    let is_new = SWEPT.lock().unwrap_or_else(PoisonError::into_inner).insert(whole);
    if is_new {
        sweep(folder);
    }
}

/// A folder that is filled beside the one that it is to be. Dropped before [`DraftFolder::commit`], it leaves nothing; left by a
/// killed process, it is [swept](sweep).
#[derive(Debug)]
pub struct DraftFolder {
    /// Empty once there is nothing to remove.
    temporary: PathBuf,
    target: PathBuf,
    lock: Option<Lock>,
}

impl DraftFolder {
    /// Begins a folder that is to be at `path`. A symbolic link stays, and the folder that it names is replaced.
    ///
    /// # Errors
    ///
    /// The operating system's error.
    pub fn create(path: &Path) -> io::Result<Self> {
        let path = &behind_links(path)?;
        sweep_once(path);
        loop {
            let temporary = free_path(path)?;
            fs::create_dir(&temporary)?;
            // Someone may have swept it before it was locked.
            match Lock::acquire(&temporary.join(LOCK)) {
                Ok(Locked::Here(lock)) => {
                    return Ok(Self { temporary, target: path.to_owned(), lock: Some(lock) });
                }
                Ok(Locked::Elsewhere(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let _ = fs::remove_dir(&temporary);
                    return Err(error);
                }
            }
        }
    }

    /// The folder to fill.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Gives the folder its name, in place of the folder that is there. On Linux the two change names in one step. Elsewhere, and on
    /// file systems that cannot do that, a process that is killed at that moment leaves the old folder as `.NAME.16 digits.replaced`,
    /// which nothing removes.
    ///
    /// # Errors
    ///
    /// The operating system's error.
    pub fn commit(mut self) -> io::Result<()> {
        let old = if self.target.exists() {
            let exchanged = exchange(&self.temporary, &self.target);
            Some(exchanged.or_else(|_| replace(&self.temporary, &self.target))?)
        } else {
            step(&Step::Rename(&self.temporary, &self.target))?;
            fs::rename(&self.temporary, &self.target)?;
            None
        };
        self.temporary = PathBuf::new();
        if let Some(lock) = &mut self.lock {
            lock.moved(self.target.join(LOCK));
        }
        self.lock = None;
        crate::draft::sync_folder(&self.target)?;
        match old {
            Some(old) => fs::remove_dir_all(old),
            None => Ok(()),
        }
    }
}

/// Gives `new` the name `target` and what is there the name `new`, which is returned, at once.
#[cfg(target_os = "linux")]
fn exchange(new: &Path, target: &Path) -> io::Result<PathBuf> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    step(&Step::Rename(new, target))?;
    renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE)?;
    Ok(new.to_owned())
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> io::Result<PathBuf> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Gives `new` the name `target` and what is there another one, which is returned: one after the other, so the other name is none that
/// is swept.
fn replace(new: &Path, target: &Path) -> io::Result<PathBuf> {
    let old = free_path(target)?.with_extension("replaced");
    step(&Step::Rename(target, &old))?;
    fs::rename(target, &old)?;
    let renamed = step(&Step::Rename(new, target)).and_then(|()| fs::rename(new, target));
    match renamed {
        Ok(()) => Ok(old),
        Err(error) => {
            let _ = fs::rename(old, target);
            Err(error)
        }
    }
}

impl Drop for DraftFolder {
    fn drop(&mut self) {
        if !self.temporary.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a draft that holds `new` and a target that holds `old`.
    fn scene(folder: &Path) -> (DraftFolder, PathBuf) {
        let target = folder.join("digits");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("old"), "").unwrap();
        let draft = DraftFolder::create(&target).unwrap();
        fs::write(draft.path().join("new"), "").unwrap();
        (draft, target)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_folder_in_the_place_of_another_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (draft, target) = scene(folder.path());
        draft.commit().unwrap();
        assert_eq!(names(folder.path()), ["digits"]);
        assert_eq!(names(&target), ["new"]);
    }

    #[test]
    fn where_names_change_one_after_the_other_a_sweep_in_between_takes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (draft, target) = scene(folder.path());
        let missing = folder.path().join("missing");
        replace(&missing, &target).unwrap_err();
        assert_eq!(names(&target), ["old"], "it is put back");
        let old = replace(draft.path(), &target).unwrap();
        assert_eq!(sweep(folder.path()), 0);
        assert_eq!(names(&old), ["old"]);
        assert!(target.join("new").exists());
    }
}
