//! The checksums that the data sets' authors or their mirrors publish.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use md5::{Digest as _, Md5};

use super::archive::file_name;
use crate::error::{Error, Result};

/// MD5 by file name: of CIFAR from its authors' page, of MNIST as torchvision and the mirrors check it.
const PUBLISHED: [(&str, &str); 6] = [
    ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
    ("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
    ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
    ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
    ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
];

/// A file whose name is that of a published one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The file.
    pub path: PathBuf,
    /// Its MD5, in hexadecimal.
    pub md5: String,
    /// The published one.
    pub published: &'static str,
}

impl Published {
    /// Whether it is the published file, byte for byte.
    pub fn is_same(&self) -> bool {
        self.md5 == self.published
    }
}

/// The checksums of `source`, or of the files in that folder, for those whose names are published. Another data set in the same format,
/// such as Fashion-MNIST, has the same names and other checksums.
///
/// # Errors
///
/// [`Error::Io`].
pub fn published(source: &Path) -> Result<Vec<Published>> {
    let mut paths = vec![source.to_owned()];
    if source.is_dir() {
        let entries = std::fs::read_dir(source).map_err(Error::io("list", source))?;
        paths = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()
            .map_err(Error::io("list", source))?;
        paths.sort();
    }
    let mut found = Vec::new();
    for path in paths {
        let name = path.to_string_lossy();
        let known = PUBLISHED.iter().find(|(known, _)| *known == file_name(&name));
        if let Some((_, published)) = known {
            let md5 = md5_of(&path).map_err(Error::io("read", &path))?;
            found.push(Published { md5, published, path: path.clone() });
        }
    }
    Ok(found)
}

fn md5_of(path: &Path) -> io::Result<String> {
    let (mut file, mut hasher, mut bytes) = (File::open(path)?, Md5::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hasher.update(&bytes[..n]),
        }
    }
}
