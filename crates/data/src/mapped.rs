//! Files in the address space, whose pages the system reads when they are needed and drops when memory is short.

use std::fs::File;
use std::io;

use memmap2::Mmap;

/// A file of a cache, mapped for reading. It lives until it is dropped, also where its name is gone by then.
#[derive(Debug)]
pub struct MappedFile(pub(crate) Mmap);

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps a file of the cache for reading.
///
/// # Errors
///
/// The operating system's, such as for an address space without room.
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the bytes of a mapping must not change, and a page that a file has lost ends the process. Files of the cache are
    // written under a temporary name and renamed when they are whole; no code of ours opens one to write to it or to cut it
    // off. One that is removed or replaced lives on until it is unmapped. Its length is compared with its header's before
    // anything is read.
    unsafe { Mmap::map(file) }
}
