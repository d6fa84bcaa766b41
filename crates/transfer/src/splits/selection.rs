//! Which images of a data set `evaluate` measures.

use std::path::Path;

use firstsight_data::{DatasetFolder, ImageFolder, Labels};

use super::contents::images;
use super::{Contents, RecordedImage, Split, SplitRecord, label, relative};
use crate::{ContentHash, Error, Result, RunConfig, RunFolder, Runtime};

/// What to measure of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    /// The images of a split.
    Split(Split),
    /// The images that the run has not seen, in training or in validation.
    New,
    /// All images.
    All,
}

impl Measured {
    /// Its name: `train`, `val`, `test`, `new` or `all`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Split(split) => split.name(),
            Self::New => "new",
            Self::All => "all",
        }
    }

    /// What it is of a data set, in words: `val split of photos`.
    fn of(self, root: &Path) -> String {
        let root = root.display();
        match self {
            Self::Split(split) => format!("{} split of {root}", split.name()),
            Self::New => format!("new images of {root}"),
            Self::All => format!("all of {root}"),
        }
    }
}

/// The images of a data set that are measured with a run.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The images, labeled by the run's classes.
    pub images: ImageFolder,
    /// What they are of the data set.
    pub measured: Measured,
    /// That in words, with the folder: `val split of photos`.
    pub title: String,
    /// Classes that the run doesn't know, with their images, which are left out.
    pub left_out: Vec<(String, usize)>,
    /// Images of the split that the run has recorded and the data set lacks.
    pub missing: usize,
    /// Images that the run has not seen and that are not measured.
    pub new: usize,
    /// What the user should know, in sentences.
    pub notes: Vec<String>,
}

impl Selection {
    /// Chooses the images to measure.
    ///
    /// In the folder that the run was trained on these are the files that its `split.csv` calls test, or else
    /// validation images: known by their content wherever they lie now, and by their path if their content has changed.
    /// Another folder is measured whole. A folder is the run's if it holds at least half of the run's files, or if at
    /// least half of it are the run's files. `wanted` chooses something else.
    ///
    /// Of a run without `split.csv` it isn't known which images were set aside: a folder without splits is measured whole.
    ///
    /// # Errors
    ///
    /// [`Error::Dataset`] where nothing is left to measure: the split is missing, or no class is the run's.
    pub fn new(
        run: &RunFolder,
        config: &RunConfig,
        dataset: &DatasetFolder,
        wanted: Option<Measured>,
        runtime: &Runtime,
    ) -> Result<Self> {
        let candidates = Candidates::new(dataset)?;
        let path = run.split();
        let chosen = match path.exists() {
            true => {
                let contents = Contents::read(&[&candidates.images], runtime);
                candidates.recorded(&SplitRecord::read(&path)?, &contents, run.trained_splits(), wanted)?
            }
            false => candidates.unrecorded(config, wanted)?,
        };
        candidates.labeled(config, chosen)
    }
}

/// All images of a data set.
struct Candidates<'a> {
    root: &'a Path,
    dataset: &'a DatasetFolder,
    images: ImageFolder,
    /// The split of the folder that each image lies in.
    parts: Vec<Split>,
}

/// Indices of images.
struct Chosen {
    measured: Measured,
    indices: Vec<usize>,
    missing: usize,
    new: usize,
    notes: Vec<String>,
}

impl<'a> Candidates<'a> {
    fn new(dataset: &'a DatasetFolder) -> Result<Self> {
        let mut all: Option<ImageFolder> = None;
        let mut parts = Vec::new();
        let splits =
            [(Split::Train, &dataset.train), (Split::Val, &dataset.val), (Split::Test, &dataset.test)];
        for (split, folder) in splits {
            let Some(folder) = folder else { continue };
            parts.resize(parts.len() + folder.len(), split);
            all = Some(match all {
                Some(all) => all.joined(folder)?,
                None => folder.clone(),
            });
        }
        let root = &*dataset.root;
        let images = all.ok_or_else(|| error(&dataset.path, "has no images".to_owned()))?;
        Ok(Self { root, dataset, images, parts })
    }

    fn file(&self, i: usize) -> String {
        relative(self.root, &self.images.samples()[i].path())
    }

    fn indices(&self, of: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..self.images.len()).filter(|&i| of(i)).collect()
    }

    /// The images of one of the data set's own splits.
    fn own(&self, split: Split) -> Vec<usize> {
        self.indices(|i| self.parts[i] == split)
    }

    /// Of a run with `split.csv`.
    fn recorded(
        &self,
        record: &SplitRecord,
        contents: &Contents,
        trained: &[Split],
        wanted: Option<Measured>,
    ) -> Result<Chosen> {
        let places: Vec<Option<u32>> =
            self.images.samples().iter().map(|sample| contents.find(sample)).collect();
        let hash = |i: usize| places[i].map(|at| contents.at(at));
        let mut found = Found::new(self, record, hash);
        let n_found = found.row_of.iter().flatten().count();
        let is_near = 2 * n_found >= record.len() || 2 * n_found >= self.images.len();
        if is_near {
            found.claim_changed(self);
        }
        let is_trained = |i: usize| {
            hash(i)
                .is_some_and(|hash| found.rows_of(hash).any(|row| trained.contains(&record.row(row).split)))
        };
        match is_near {
            true => self.of_the_runs_folder(record, &found, wanted, is_trained),
            false => Ok(self.of_another_folder(record, &found, wanted, is_trained)),
        }
    }

    fn of_another_folder(
        &self,
        record: &SplitRecord,
        found: &Found<'_>,
        wanted: Option<Measured>,
        is_trained: impl Fn(usize) -> bool,
    ) -> Chosen {
        let measured = wanted.unwrap_or(Measured::All);
        let indices = match measured {
            Measured::All => self.indices(|_| true),
            Measured::New => self.indices(|i| !found.is_known[i]),
            Measured::Split(split) => self.own(split),
        };
        let mut notes: Vec<String> = self.leak(&indices, is_trained).into_iter().collect();
        let namesakes = self.indices(|i| !found.is_known[i] && !found.rows_called(&self.file(i)).is_empty());
        if 2 * namesakes.len() >= record.len() {
            notes.push(format!(
                "{} the same names as the run's with other contents: they are taken for other images",
                images_have(namesakes.len())
            ));
        }
        Chosen { measured, indices, missing: 0, new: 0, notes }
    }

    fn of_the_runs_folder(
        &self,
        record: &SplitRecord,
        found: &Found<'_>,
        wanted: Option<Measured>,
        is_trained: impl Fn(usize) -> bool,
    ) -> Result<Chosen> {
        let recorded = |split| self.of_recorded(found, record, split);
        let measured = wanted.unwrap_or_else(|| {
            let split = if recorded(Split::Test).is_empty() { Split::Val } else { Split::Test };
            Measured::Split(split)
        });
        let is_new = |i: &usize| !found.is_known[*i];
        let indices = match measured {
            Measured::All => self.indices(|_| true),
            Measured::New => self.indices(|i| is_new(&i)),
            Measured::Split(split) => match recorded(split) {
                none if none.is_empty() && of_split(record, split).next().is_none() => self.own(split),
                recorded => recorded,
            },
        };
        let mut notes = Vec::new();
        let (mut missing, mut new) = (0, 0);
        if let Measured::Split(split) = measured {
            if indices.is_empty() {
                return Err(self.nothing(found, record, split));
            }
            let is_gone = |row: &usize| record.row(*row).split == split && !found.is_claimed[*row];
            let mut gone = (0..record.len()).filter(is_gone).map(|row| record.row(row));
            if let Some(first) = gone.next() {
                missing = 1 + gone.count();
                notes.push(format!(
                    "{missing} of {} {} missing (first: {})",
                    described(of_split(record, split).count(), split),
                    if missing == 1 { "is" } else { "are" },
                    first.file
                ));
            }
            new = self.indices(|i| is_new(&i)).len() - indices.iter().copied().filter(is_new).count();
            if new > 0 {
                let are = if new == 1 { "new image is" } else { "new images are" };
                notes.push(format!("{new} {are} not measured: --split new"));
            }
        }
        if measured != Measured::Split(Split::Train) {
            notes.extend(self.leak(&indices, is_trained));
        }
        notes.extend(self.differences(found, record, &indices));
        Ok(Chosen { measured, indices, missing, new, notes })
    }

    /// The images that are in a split by the record. A test folder that came later is a split too.
    fn of_recorded(&self, found: &Found<'_>, record: &SplitRecord, split: Split) -> Vec<usize> {
        let later = split == Split::Test && of_split(record, Split::Test).next().is_none();
        let is_in = |i: usize| match found.row_of[i] {
            Some(row) => record.row(row as usize).split == split,
            None => later && self.parts[i] == Split::Test && !found.is_known[i],
        };
        self.indices(is_in)
    }

    /// How many of the images the run was trained on.
    fn leak(&self, indices: &[usize], is_trained: impl Fn(usize) -> bool) -> Option<String> {
        let trained: Vec<usize> = indices.iter().copied().filter(|&i| is_trained(i)).collect();
        let first = trained.first()?;
        Some(format!(
            "{} of {} {} also among the run's training images (first: {}): --split new leaves out what the run has seen",
            trained.len(),
            images(indices.len()),
            if trained.len() == 1 { "is" } else { "are" },
            self.file(*first)
        ))
    }

    /// What else has changed about the measured images.
    fn differences(&self, found: &Found<'_>, record: &SplitRecord, indices: &[usize]) -> Vec<String> {
        let changed: Vec<usize> = indices.iter().copied().filter(|&i| found.is_changed[i]).collect();
        let is_relabeled = |i: &usize| {
            found.row_of[*i].is_some_and(|row| record.row(row as usize).label != label(&self.images, *i))
        };
        let relabeled: Vec<usize> = indices.iter().copied().filter(is_relabeled).collect();
        let mut notes = Vec::new();
        if let Some(first) = changed.first() {
            notes.push(format!(
                "{} other contents than in the training (first: {})",
                images_have(changed.len()),
                self.file(*first)
            ));
        }
        if let Some(first) = relabeled.first() {
            notes.push(format!(
                "{} another label than in the training (first: {})",
                images_have(relabeled.len()),
                self.file(*first)
            ));
        }
        notes
    }

    fn nothing(&self, found: &Found<'_>, record: &SplitRecord, split: Split) -> Error {
        let recorded = of_split(record, split).count();
        let others = [Split::Train, Split::Val, Split::Test].into_iter().filter_map(|other| {
            let n = self.of_recorded(found, record, other).len();
            (n > 0).then(|| format!("{} (--split {})", described(n, other), other.name()))
        });
        let new = self.indices(|i| !found.is_known[i]).len();
        let new = (new > 0).then(|| format!("{new} new ones (--split new)"));
        let there: Vec<String> = others.chain(new).collect();
        error(
            &self.dataset.path,
            match recorded {
                0 => format!(
                    "has no {} split, and the run had none; it holds {}",
                    split.name(),
                    there.join(", ")
                ),
                _ => format!(
                    "holds none of the run's {}, but {}",
                    described(recorded, split),
                    there.join(", ")
                ),
            },
        )
    }

    /// Of a run that doesn't say what it was trained on.
    fn unrecorded(&self, config: &RunConfig, wanted: Option<Measured>) -> Result<Chosen> {
        let chosen = |measured, indices, note: Option<String>| {
            let notes = note.into_iter().collect();
            Ok(Chosen { measured, indices, missing: 0, new: 0, notes })
        };
        let own = |split: Split| chosen(Measured::Split(split), self.own(split), None);
        let (test, val) = (self.dataset.test.is_some(), self.dataset.val.is_some());
        let unsplit = self.dataset.train.is_some() && !val;
        let seed = config.training.map(|training| training.split_seed);
        match (wanted, seed) {
            (Some(Measured::New), _) => Err(error(
                &self.dataset.path,
                "can't be told apart from what the run has seen: the run has no split.csv".to_owned(),
            )),
            (Some(Measured::All), _) => chosen(Measured::All, self.indices(|_| true), None),
            (Some(Measured::Split(Split::Test)), _) => own(Split::Test),
            (None, _) if test => own(Split::Test),
            (Some(Measured::Split(Split::Val)), _) if val => own(Split::Val),
            (None, _) if val => own(Split::Val),
            (Some(Measured::Split(Split::Train)), _) if !unsplit => own(Split::Train),
            (Some(Measured::Split(split)), Some(_)) if unsplit => Err(error(
                &self.dataset.path,
                format!(
                    "has no {} split of its own, and which images were set aside in the training isn't known: the run has no \
                     split.csv; --split all measures all",
                    split.name()
                ),
            )),
            (None, Some(_)) if unsplit => {
                let note = "the run has no split.csv: which of these images were set aside in the training isn't known, and the \
                            figures of those it was trained on are too good";
                chosen(Measured::All, self.indices(|_| true), Some(note.to_owned()))
            }
            (Some(Measured::Split(split)), _) => own(split),
            (None, _) => {
                let note =
                    "the run doesn't say what it was trained on: assumed is that it wasn't these images";
                chosen(Measured::All, self.indices(|_| true), Some(note.to_owned()))
            }
        }
    }

    /// The chosen images with the run's classes.
    fn labeled(&self, config: &RunConfig, chosen: Chosen) -> Result<Selection> {
        let Chosen { measured, indices, missing, new, mut notes } = chosen;
        // The indices ascend: as many as there are images are all.
        let subset = match indices.len() == self.images.len() {
            true => self.images.clone(),
            false => self.images.subset(&indices),
        };
        if subset.is_empty() {
            return Err(error(
                &self.dataset.path,
                match measured {
                    Measured::Split(split) => format!("has no {} split", split.name()),
                    Measured::New => "holds no image that the run has not seen".to_owned(),
                    Measured::All => "has no images".to_owned(),
                },
            ));
        }
        let found = subset.classes().to_vec();
        let counts = subset.counts();
        if !config.named && found.len() != config.num_classes {
            return Err(error(
                &self.dataset.path,
                format!("has {} classes, and the run has {} without names", found.len(), config.num_classes),
            ));
        }
        let (labeled, unknown) = match subset.targets() {
            Labels::Class(_) | Labels::MultiLabel(_) if config.named => {
                subset.with_classes(&config.label_names)
            }
            _ => (subset, Vec::new()),
        };
        let of_class = |class: String| {
            let at = found.iter().position(|name| *name == class);
            let n = at.map_or(0, |at| counts[at]);
            (class, n)
        };
        let left_out: Vec<(String, usize)> =
            unknown.into_iter().map(of_class).filter(|(_, n)| *n > 0).collect();
        if labeled.is_empty() {
            let expected = config.label_names.join(", ");
            let found: Vec<String> = left_out.into_iter().map(|(class, _)| class).collect();
            return Err(error(
                &self.dataset.path,
                format!("holds no class of the run: expected {expected}, found {}", found.join(", ")),
            ));
        }
        if !left_out.is_empty() {
            let n: usize = left_out.iter().map(|(_, n)| n).sum();
            let classes: Vec<String> = left_out.iter().map(|(class, n)| format!("{class} {n}")).collect();
            notes.push(format!(
                "left out {} of classes that the run doesn't know: {}",
                images(n),
                classes.join(", ")
            ));
        }
        let title = measured.of(&self.dataset.path);
        Ok(Selection { images: labeled, measured, title, left_out, missing, new, notes })
    }
}

/// Which images of a data set are in a record.
struct Found<'a> {
    record: &'a SplitRecord,
    /// Rows by content, and by file; by number among equals.
    by_hash: Vec<u32>,
    by_file: Vec<u32>,
    /// Whether an image was found for each row's file.
    is_claimed: Vec<bool>,
    /// The row of each image, each row for one image only.
    row_of: Vec<Option<u32>>,
    /// Whether the run has seen each image, or another of the same content.
    is_known: Vec<bool>,
    /// Whether each image is one of a row's file with another content now.
    is_changed: Vec<bool>,
}

/// Where a row of the same content may be.
#[derive(Clone, Copy)]
enum Pass {
    File,
    Split,
    Anywhere,
}

impl<'a> Found<'a> {
    /// Finds rows by content: first where the file is the same too, then where the split is, then anywhere.
    fn new(
        candidates: &Candidates<'_>,
        record: &'a SplitRecord,
        hash: impl Fn(usize) -> Option<ContentHash>,
    ) -> Self {
        let row = |row: &u32| record.row(*row as usize);
        let mut by_hash: Vec<u32> = (0..record.len() as u32).filter(|i| row(i).sha256.is_some()).collect();
        by_hash.sort_unstable_by_key(|i| (row(i).sha256, *i));
        let mut by_file: Vec<u32> = (0..record.len() as u32).collect();
        by_file.sort_unstable_by_key(|i| (row(i).file, *i));
        let n = candidates.images.len();
        let mut found = Self {
            record,
            by_hash,
            by_file,
            is_claimed: vec![false; record.len()],
            row_of: vec![None; n],
            is_known: Vec::new(),
            is_changed: vec![false; n],
        };
        let is_known = |i| hash(i).is_some_and(|hash| found.rows_of(hash).next().is_some());
        found.is_known = (0..n).map(is_known).collect();
        for pass in [Pass::File, Pass::Split, Pass::Anywhere] {
            for i in 0..n {
                let (Some(hash), None) = (hash(i), found.row_of[i]) else { continue };
                let fits = |row: RecordedImage<'_>| match pass {
                    Pass::File => row.file == candidates.file(i),
                    Pass::Split => row.split == candidates.parts[i],
                    Pass::Anywhere => true,
                };
                let is_free = |row: &usize| !found.is_claimed[*row] && fits(record.row(*row));
                let free = found.rows_of(hash).find(is_free);
                if let Some(row) = free {
                    found.claim(i, row);
                }
            }
        }
        found
    }

    /// The rows of a content, by number.
    fn rows_of(&self, hash: ContentHash) -> impl Iterator<Item = usize> {
        let of = |row: u32| self.record.row(row as usize).sha256;
        let start = self.by_hash.partition_point(|&row| of(row) < Some(hash));
        let from = self.by_hash[start..].iter().copied();
        from.take_while(move |&row| of(row) == Some(hash)).map(|row| row as usize)
    }

    /// The rows of a file, by number: one, but for a table that names it several times.
    fn rows_called(&self, file: &str) -> &[u32] {
        let of = |row: u32| self.record.row(row as usize).file;
        let from = &self.by_file[self.by_file.partition_point(|&row| of(row) < file)..];
        &from[..from.partition_point(|&row| of(row) == file)]
    }

    /// Finds the rows that are left by their files.
    fn claim_changed(&mut self, candidates: &Candidates<'_>) {
        for i in 0..self.row_of.len() {
            let row = self.rows_called(&candidates.file(i)).last().map(|&row| row as usize);
            if let (false, Some(row)) = (self.is_known[i], row.filter(|&row| !self.is_claimed[row])) {
                self.claim(i, row);
                (self.is_known[i], self.is_changed[i]) = (true, true);
            }
        }
    }

    fn claim(&mut self, i: usize, row: usize) {
        self.row_of[i] = Some(row as u32);
        for row in self.rows_called(self.record.row(row).file).to_vec() {
            self.is_claimed[row as usize] = true;
        }
    }
}

fn of_split(record: &SplitRecord, split: Split) -> impl Iterator<Item = RecordedImage<'_>> {
    record.rows().filter(move |row| row.split == split)
}

/// `1 validation image`, `40 training images`.
fn described(n: usize, split: Split) -> String {
    let kind = match split {
        Split::Train => "training",
        Split::Val => "validation",
        Split::Test => "test",
    };
    format!("{n} {kind} image{}", if n == 1 { "" } else { "s" })
}

/// `1 image has`, `2 images have`.
fn images_have(n: usize) -> String {
    format!("{} {}", images(n), if n == 1 { "has" } else { "have" })
}

fn error(root: &Path, reason: String) -> Error {
    Error::Dataset { path: root.to_path_buf(), reason }
}
