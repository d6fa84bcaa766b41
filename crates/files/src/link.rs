//! Symbolic links that are there or not.

use std::fs;
use std::io;
use std::path::Path;

use crate::steps::{Step, step};
use crate::temporary::{free_path, sweep_once};

/// Makes a symbolic link to the file `target` under a temporary name and renames it to `path`, in place of what is there. A relative
/// `target` is as seen from the folder of `path`.
///
/// # Errors
///
/// The operating system's error, also where a file system has no links; nothing is left then.
pub fn link(target: &Path, path: &Path) -> io::Result<()> {
    sweep_once(path);
    loop {
        let temporary = free_path(path)?;
        step(&Step::Create(&temporary))?;
        symlink(target, &temporary)?;
        let renamed = step(&Step::Rename(&temporary, path)).and_then(|()| fs::rename(&temporary, path));
        match renamed {
            // A link cannot be locked: another process took it for one that was left.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                return Err(error);
            }
            Ok(()) => return crate::draft::sync_folder(path),
        }
    }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}
