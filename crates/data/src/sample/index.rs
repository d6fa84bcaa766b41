//! The names and places of many images in little memory.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ParquetFile, Sample, Stored};

/// Images that were found together.
#[derive(Default)]
pub(super) struct Index {
    folders: Vec<Folder>,
    /// The images' names in their folders, one after the other.
    names: String,
    images: Vec<Image>,
    /// Offset and length of the parts of an archive, group and row in a Parquet file; empty where all images are files.
    places: Vec<(u64, u64)>,
    /// Rows of tables; empty where there is no table.
    rows: Vec<Option<Row>>,
    /// Names that are not Unicode.
    odd_names: HashMap<u32, OsString>,
}

/// A folder that names of images begin with, and what holds these images.
struct Folder {
    path: PathBuf,
    holder: Holder,
}

#[derive(Clone)]
enum Holder {
    Files,
    Archive(Arc<Path>),
    Parquet { file: Arc<ParquetFile>, column: usize },
}

struct Image {
    folder: u32,
    /// Where its name ends, and the next image's begins.
    name_end: u32,
}

/// The row of a table that names an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) columns: Arc<[String]>,
    pub(crate) cells: Box<[String]>,
}

/// Where an image's bytes are.
#[derive(PartialEq, Eq)]
pub(super) enum Place<'a> {
    File,
    /// A part of a file.
    Part {
        file: &'a Path,
        offset: u64,
        length: u64,
    },
    /// A value in a file.
    Stored(Stored),
}

impl Index {
    pub(super) fn path(&self, at: u32) -> PathBuf {
        let Image { folder, name_end } = self.images[at as usize];
        let name_start = at.checked_sub(1).map_or(0, |before| self.images[before as usize].name_end);
        let folder = &self.folders[folder as usize].path;
        match (&self.names[name_start as usize..name_end as usize], self.odd_names.get(&at)) {
            (_, Some(name)) => folder.join(name),
            // A path that does not end in a name.
            ("", None) => folder.clone(),
            (name, None) => folder.join(name),
        }
    }

    pub(super) fn place(&self, at: u32) -> Place<'_> {
        let (a, b) = self.places.get(at as usize).copied().unwrap_or_default();
        match &self.folders[self.images[at as usize].folder as usize].holder {
            Holder::Files => Place::File,
            Holder::Archive(file) => Place::Part { file, offset: a, length: b },
            Holder::Parquet { file, column } => {
                let (group, row) = (a as usize, b as usize);
                Place::Stored(Stored { file: file.clone(), column: *column, group, row })
            }
        }
    }

    pub(super) fn row(&self, at: u32) -> Option<&Row> {
        self.rows.get(at as usize)?.as_ref()
    }

    /// Whether one more image with such a name fits.
    fn has_room(&self, name: &str) -> bool {
        self.images.len() < u32::MAX as usize && self.names.len() + name.len() < u32::MAX as usize
    }
}

/// Images in the order in which they are found.
#[derive(Default)]
pub(crate) struct Samples {
    /// Those that have no room for more.
    full: Vec<Index>,
    index: Index,
    known: HashMap<PathBuf, u32>,
}

impl Samples {
    /// Adds an image file.
    pub(crate) fn file(&mut self, path: &Path) {
        self.add(path, (0, 0), || Holder::Files);
    }

    /// Adds a part of a file, called `path`. The parts in one folder are of one file.
    pub(crate) fn part(&mut self, path: &Path, file: &Arc<Path>, offset: u64, length: u64) {
        self.add(path, (offset, length), || Holder::Archive(file.clone()));
    }

    /// Adds a value in a file, called `path`. The values in one folder are of one file and column.
    pub(crate) fn stored(&mut self, path: &Path, stored: &Stored) {
        let Stored { file, column, group, row } = stored;
        let holder = || Holder::Parquet { file: file.clone(), column: *column };
        self.add(path, (*group as u64, *row as u64), holder);
    }

    /// Gives the image that was added last a row of a table.
    pub(crate) fn row(&mut self, row: Row) {
        let n = self.index.images.len();
        self.index.rows.resize_with(n.saturating_sub(1), || None);
        self.index.rows.push(Some(row));
    }

    fn add(&mut self, path: &Path, place: (u64, u64), holder: impl Fn() -> Holder) {
        let (folder, name) = match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) => (folder, name),
            _ => (path, std::ffi::OsStr::new("")),
        };
        let text = name.to_str().unwrap_or_default();
        if !self.index.has_room(text) {
            self.full.push(std::mem::take(&mut self.index));
            self.known.clear();
        }
        let index = &mut self.index;
        let at = index.images.len();
        let folder = match self.known.get(folder) {
            Some(&known) => known,
            None => {
                let new = index.folders.len() as u32;
                index.folders.push(Folder { path: folder.to_owned(), holder: holder() });
                self.known.insert(folder.to_owned(), new);
                new
            }
        };
        index.names.push_str(text);
        if name.to_str().is_none() {
            index.odd_names.insert(at as u32, name.to_owned());
        }
        index.images.push(Image { folder, name_end: index.names.len() as u32 });
        if place != (0, 0) || !index.places.is_empty() {
            index.places.resize(at, (0, 0));
            index.places.push(place);
        }
    }

    pub(super) fn into_only(self) -> Index {
        self.index
    }

    /// The images.
    pub(crate) fn finish(self) -> impl Iterator<Item = Sample> {
        let Self { full, index, known: _ } = self;
        full.into_iter().chain([index]).flat_map(|mut index| {
            index.names.shrink_to_fit();
            index.images.shrink_to_fit();
            index.places.shrink_to_fit();
            index.rows.shrink_to_fit();
            let (n, index) = (index.images.len() as u32, Arc::new(index));
            (0..n).map(move |at| Sample { index: index.clone(), at })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_places_come_back() {
        let archive: Arc<Path> = Path::new("shards/0.tar").into();
        let mut samples = Samples::default();
        let files = ["a/1.png", "b/2.png", "a/3.png", "4.png", "/", "..", "a/käfer.png"];
        files.iter().for_each(|file| samples.file(Path::new(file)));
        samples.row(Row { columns: ["n".to_owned()].into(), cells: ["7".to_owned()].into() });
        samples.part(Path::new("shards/0.tar/c/5.png"), &archive, 512, 99);
        samples.file(Path::new("a/6.png"));
        let found: Vec<Sample> = samples.finish().collect();
        let paths: Vec<PathBuf> = found.iter().map(Sample::path).collect();
        let expected = files.iter().chain(&["shards/0.tar/c/5.png", "a/6.png"]).map(PathBuf::from);
        assert_eq!(paths, expected.collect::<Vec<_>>());
        assert_eq!(found[6].cell("n"), Some("7"));
        assert_eq!(found[5].cell("n"), None);
        assert_eq!(found[7].container(), Path::new("shards/0.tar"));
        assert!(found[7].index.place(7) == Place::Part { file: &archive, offset: 512, length: 99 });
        assert_eq!(found[8].container(), Path::new("a/6.png"));
        assert!(found[0] == Sample::file("a/1.png") && found[0] != found[1]);
        assert_eq!(found[0].index.folders.len(), 6);
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_not_unicode_comes_back() {
        use std::os::unix::ffi::OsStrExt as _;
        let name = Path::new(std::ffi::OsStr::from_bytes(b"a/\xff.png"));
        assert_eq!(Sample::file(name).path(), name);
    }
}
