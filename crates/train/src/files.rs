use std::io::Write as _;
use std::path::Path;

use atomic_write_file::AtomicWriteFile;

use crate::{Error, Result};

/// Writes `bytes` under a temporary name beside `path`, syncs, and renames: `path` holds the old bytes or the
/// new ones, never a part.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = AtomicWriteFile::open(path)?;
        file.write_all(bytes)?;
        file.commit()
    };
    write().map_err(|source| Error::Io { path: path.to_path_buf(), source })
}
