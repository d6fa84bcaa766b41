//! How a data set is read where it doesn't say that itself.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::labels::Task;

/// How a data set is read where it doesn't say that itself; the default says nothing.
///
/// # Examples
///
/// ```
/// use firstsight_data::{DatasetFolder, ScanOptions};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # for name in ["cat_1.png", "dog_1.png"] {
/// #     image::GrayImage::new(4, 3).save(folder.path().join(name)).unwrap();
/// # }
/// # let folder = folder.path();
/// let options = ScanOptions { label_from: Some(r"^(.+)_\d+\.png$".to_owned()), ..ScanOptions::default() };
/// let data = DatasetFolder::scan_with(folder, &options)?;
/// assert_eq!(data.classes(), ["cat", "dog"]);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScanOptions {
    /// The folder of the paths in a table, where that isn't the table's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// A regular expression whose first group is an image's label. It is matched with the file's name or, if the expression has a
    /// `/`, with the path below the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_from: Option<String>,
    /// The columns of labels: one; or, in a table, several of 0 and 1. Otherwise the one of a usual name, such as `label`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub label_columns: Vec<String>,
    /// What the labels are, where their notation doesn't tell.
    #[serde(skip)]
    pub task: Option<Task>,
    /// Takes the classes of all splits, for measuring: one that training lacks is no error.
    #[serde(skip)]
    pub all_classes: bool,
}

impl ScanOptions {
    /// The one column of labels, where `file` can have no more.
    pub(super) fn label_column(&self, file: &'static str) -> Result<Option<&str>> {
        match &*self.label_columns {
            [] => Ok(None),
            [column] => Ok(Some(column)),
            several => Err(Error::invalid("label column", format!("one for {file}"), several.join(","))),
        }
    }

    /// Refuses a folder of images for what holds no table.
    pub(super) fn check_images(&self, path: &Path) -> Result<()> {
        let Some(images) = &self.images else { return Ok(()) };
        let found = format!("{} for {}", images.display(), path.display());
        Err(Error::invalid("images", "a table to be read with it", found))
    }

    /// Refuses columns of labels that come from names.
    pub(super) fn check_label_from(&self) -> Result<()> {
        match &self.label_from {
            Some(pattern) if !self.label_columns.is_empty() => {
                let expected = format!("none beside labels from {pattern}");
                Err(Error::invalid("label column", expected, self.label_columns.join(",")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what has no meaning for images whose folders are their classes.
    pub(super) fn check_class_folders(&self, path: &Path) -> Result<()> {
        self.check_images(path)?;
        let task = self.task.filter(|task| *task != Task::SingleLabel);
        let said = [
            ("label column", self.label_columns.first().cloned()),
            ("task", task.map(|task| task.to_string())),
        ];
        let Some((name, value)) = said.into_iter().find_map(|(name, value)| Some((name, value?))) else {
            return Ok(());
        };
        let expected = "a table, a Parquet file or archives to be read with it";
        Err(Error::invalid(name, expected, format!("{value} for the class folders of {}", path.display())))
    }

    /// Whether they say nothing of where labels and images are.
    pub fn is_silent(&self) -> bool {
        self.images.is_none() && self.label_from.is_none() && self.label_columns.is_empty()
    }
}
