//! Files that a command writes, and those that it must not write over.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Refuses to write to `path` where it is one of `inputs`, which the command reads, or neither a regular file nor free.
pub(crate) fn check_apart(path: &Path, inputs: &[PathBuf]) -> Result<()> {
    let Ok(found) = path.canonicalize() else { return Ok(()) };
    if inputs.iter().any(|input| input.canonicalize().is_ok_and(|input| input == found)) {
        bail!("{} is read by this command: name another file for the result", path.display());
    }
    if !found.is_file() {
        bail!("{} is no regular file: name another one for the result", path.display());
    }
    Ok(())
}
