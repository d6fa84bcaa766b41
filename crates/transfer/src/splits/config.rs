//! How validation images are set aside.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use firstsight_data::{Groups, ImageFolder, Sample, Task, stratified_folds, stratified_split};
use regex::Regex;

use crate::{Error, Result};

/// How validation images are set aside where a data set has none.
///
/// ```
/// use firstsight_transfer::{GroupBy, SplitConfig};
///
/// // A fifth of each class, and all photos of a patient on one side: p17_left.jpg, p17_right.jpg.
/// let config = SplitConfig::stratified(1).grouped(GroupBy::new("^(p[0-9]+)_"));
/// assert_eq!((config.share, config.seed), (0.2, 1));
/// ```
#[derive(Debug, Clone)]
pub struct SplitConfig {
    /// The way images are chosen.
    pub method: SplitMethod,
    /// Share of the images that is set aside.
    pub share: f64,
    /// Seed of the choice.
    pub seed: u32,
    /// Images that stay together.
    pub group_by: Option<GroupBy>,
}

/// The way in which validation images are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitMethod {
    /// The same share of each class, and images of equal content on one side:
    /// [`stratified_split`](firstsight_data::stratified_split).
    Stratified,
    /// scikit-learn's shuffled split, index for index: [`train_test_split`](firstsight_data::train_test_split). Classes,
    /// groups and equal images are not looked at.
    ScikitLearn,
}

impl SplitConfig {
    /// A fifth of each class.
    pub fn stratified(seed: u32) -> Self {
        Self { method: SplitMethod::Stratified, share: crate::VALIDATION_SHARE, seed, group_by: None }
    }

    /// A fifth, as scikit-learn's `train_test_split` chooses it.
    pub fn scikit_learn(seed: u32) -> Self {
        Self { method: SplitMethod::ScikitLearn, ..Self::stratified(seed) }
    }

    /// Keeps the images of a group together.
    #[must_use]
    pub fn grouped(self, group_by: GroupBy) -> Self {
        Self { group_by: Some(group_by), ..self }
    }

    /// How validation images of a task are set aside, in words.
    pub fn describe(&self, task: Task) -> String {
        let percent = (self.share * 1000.0).round() / 10.0;
        let how = match (self.method, task) {
            (SplitMethod::ScikitLearn, _) => "set aside as by scikit-learn",
            (SplitMethod::Stratified, Task::SingleLabel) => "of each class set aside",
            (SplitMethod::Stratified, Task::MultiLabel) => "of each label set aside",
            (SplitMethod::Stratified, Task::Regression) => "set aside, small and large numbers alike",
        };
        let groups = self.group_by.as_ref().map(|by| format!(", by groups of {by}")).unwrap_or_default();
        format!("{percent} % {how}{groups}, seed {}", self.seed)
    }

    /// Sets validation images aside.
    pub(super) fn split(&self, folder: &ImageFolder, groups: &Groups) -> Result<(ImageFolder, ImageFolder)> {
        if self.method == SplitMethod::ScikitLearn {
            return Ok(folder.split(self.share, self.seed)?);
        }
        let (train, val) = stratified_split(folder.targets(), groups, self.share, self.seed)?;
        Ok((folder.subset(&train), folder.subset(&val)))
    }

    /// Divides images into folds; of each its training and validation images.
    pub(super) fn folds(
        &self,
        folder: &ImageFolder,
        groups: &Groups,
        k: usize,
    ) -> Result<Vec<(ImageFolder, ImageFolder)>> {
        let folds = stratified_folds(folder.targets(), groups, k, self.seed)?;
        let sides = |fold: &Vec<usize>| {
            let held_out: BTreeSet<usize> = fold.iter().copied().collect();
            let train: Vec<usize> = (0..folder.len()).filter(|i| !held_out.contains(i)).collect();
            (folder.subset(&train), folder.subset(fold))
        };
        Ok(folds.iter().map(sides).collect())
    }

    /// The groups of images that are to be divided, each image by itself where none are asked for.
    pub(super) fn groups(&self, root: &Path, folder: &ImageFolder) -> Result<Groups> {
        match &self.group_by {
            Some(group_by) => group_by.groups(root, folder),
            None => Ok(Groups::single(folder.len())),
        }
    }

    /// Checks that no group is in two of the parts that were given, each with what it is called in words.
    pub(super) fn check_groups(&self, root: &Path, parts: &[(&str, &ImageFolder)]) -> Result<()> {
        let (Some(group_by), [_, _, ..]) = (&self.group_by, parts) else { return Ok(()) };
        let mut known: Vec<(&str, BTreeSet<String>)> = Vec::with_capacity(parts.len());
        for (part, folder) in parts {
            let groups: BTreeSet<String> = group_by.names(root, folder)?.into_iter().collect();
            for (other, of_other) in &known {
                let mut both = groups.intersection(of_other);
                if let Some(first) = both.next() {
                    return Err(Error::Setting {
                        setting: "group by",
                        expected: format!("groups that are in {other} or in {part}"),
                        found: format!("{} that are in both (first: {first})", 1 + both.count()),
                    });
                }
            }
            known.push((part, groups));
        }
        Ok(())
    }
}

/// What makes images a group: a column of the table that names them, or a pattern of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupBy(String);

impl GroupBy {
    /// The name of a column, or else a regular expression. It is matched against the file's name, then against its path
    /// below the data set's folder, with `/` between folders. Its first group, or else the whole match, names the image's
    /// group.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// The group of each image by name.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for images without a group in the column, for an expression that is none, and for images that it
    /// doesn't match.
    pub(crate) fn names(&self, root: &Path, folder: &ImageFolder) -> Result<Vec<String>> {
        let error = |expected: &str, found: String| Error::Setting {
            setting: "group by",
            expected: expected.into(),
            found,
        };
        let column = folder.samples().iter().map(|sample| sample.cell(&self.0).map(str::to_owned));
        if let Some(groups) = column.collect::<Option<Vec<String>>>() {
            let is_empty = |(_, group): &(&Sample, &String)| group.is_empty();
            let mut nameless = folder.samples().iter().zip(&groups).filter(is_empty);
            return match nameless.next() {
                None => Ok(groups),
                Some((first, _)) => {
                    let (n, first) = (1 + nameless.count(), super::relative(root, &first.path()));
                    let found = format!("{n} of {} that are empty (first: {first})", folder.len());
                    Err(error(&format!("a group for each image in column {:?}", self.0), found))
                }
            };
        }
        let pattern =
            Regex::new(&self.0).map_err(|e| error("a regular expression", format!("{:?}: {e}", self.0)))?;
        let mut names = Vec::with_capacity(folder.len());
        let mut unmatched = Vec::new();
        for sample in folder.samples() {
            let path = super::relative(root, &sample.path());
            let file = path.rsplit('/').next().unwrap_or(&path);
            let found = pattern.captures(file).or_else(|| pattern.captures(&path));
            match found.and_then(|found| found.get(1).or_else(|| found.get(0)).map(|m| m.as_str().to_owned()))
            {
                Some(name) => names.push(name),
                None => unmatched.push(path),
            }
        }
        if let Some(first) = unmatched.first() {
            let found =
                format!("{} of {} that it doesn't match (first: {first})", unmatched.len(), folder.len());
            return Err(error(
                &format!("a column of a table, or a pattern that fits each image's name, for {:?}", self.0),
                found,
            ));
        }
        Ok(names)
    }

    /// The groups of the images.
    ///
    /// # Errors
    ///
    /// As for [`GroupBy::names`], and [`Error::Setting`] where all images are one group.
    pub(crate) fn groups(&self, root: &Path, folder: &ImageFolder) -> Result<Groups> {
        let names = self.names(root, folder)?;
        let groups = Groups::new(&names);
        match names.first() {
            Some(name) if groups.count() == 1 => Err(Error::Setting {
                setting: "group by",
                expected: "a column or pattern that tells groups apart".to_owned(),
                found: format!("{:?}, by which all {} images are the group {name:?}", self.0, names.len()),
            }),
            _ => Ok(groups),
        }
    }
}

impl fmt::Display for GroupBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
