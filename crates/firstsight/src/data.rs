//! The images of a command, as an argument or a flag, where their labels are, and the folder of its run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use firstsight_data::{DatasetFolder, Sample, ScanOptions, SkipReason, Skipped, Task};
use firstsight_transfer::{Error, RunFolder, Runtime, Splits};

use crate::{
    process::return_freed_memory,
    splitting::{SplitArgs, Work},
    values,
};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct DataArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    labels: LabelArgs,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct SourceArgs {
    /// Images: a folder of train/val/test with class folders, or of class folders; a table (.csv, .tsv, .jsonl) with the
    /// columns path, label and split; Parquet files of Hugging Face's; tar shards of WebDataset's
    #[arg(value_name = "DATA")]
    folder: Option<PathBuf>,
    /// Images, as a flag
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
}

const LABELS: &str = "Labels";

/// Where the labels of images are, if not in the names of class folders.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct LabelArgs {
    #[command(flatten)]
    table: TableArgs,
    /// Column of labels; several, with commas between them, hold 0 and 1 each [default: label]
    #[arg(long, help_heading = LABELS, value_delimiter = ',', value_name = "COLUMN")]
    label_column: Vec<String>,
    /// Take labels from file names: a regular expression whose first group is the label, such as '^(.+)_[0-9]+' for
    /// tabby_12.jpg
    #[arg(long, help_heading = LABELS, conflicts_with = "label_column", value_name = "PATTERN")]
    label_from: Option<String>,
    /// What the labels are [default: one class for each image, or several where a cell holds several]
    #[arg(long, help_heading = LABELS, value_parser = values::task(), value_name = "TASK")]
    task: Option<Task>,
}

/// Where the images of a table are.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct TableArgs {
    /// Folder of a table's paths [default: the table's]
    #[arg(long = "images", id = "images-folder", help_heading = LABELS, value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl TableArgs {
    pub(crate) fn options(&self) -> ScanOptions {
        ScanOptions { images: self.folder.clone(), ..ScanOptions::default() }
    }
}

impl LabelArgs {
    /// The same, with a run's task where none is named.
    pub(crate) fn of_task(&self, task: Task) -> Self {
        Self { task: self.task.or(Some(task)), ..self.clone() }
    }

    /// The same, with what a run's training was told where no flag says where labels or images are.
    pub(crate) fn or_recorded(&self, recorded: &ScanOptions) -> Option<Self> {
        let mut labels = self.clone();
        if self.label_from.is_none() && self.label_column.is_empty() {
            (labels.label_from, labels.label_column) =
                (recorded.label_from.clone(), recorded.label_columns.clone());
        }
        if self.table.folder.is_none() {
            labels.table.folder = recorded.images.clone().filter(|folder| folder.is_dir());
        }
        (labels.typed() != self.typed()).then_some(labels)
    }

    pub(crate) fn options(&self) -> ScanOptions {
        ScanOptions {
            label_from: self.label_from.clone(),
            label_columns: self.label_column.clone(),
            task: self.task,
            ..self.table.options()
        }
    }

    /// The flags as they were typed, each after a space, for a command that is to read the same.
    pub(crate) fn typed(&self) -> String {
        let task = self.task.map(|task| format!(" --task {task}"));
        self.typed_places() + task.as_deref().unwrap_or_default()
    }

    fn typed_places(&self) -> String {
        let mut text = String::new();
        if let Some(folder) = &self.table.folder {
            text += &format!(" --images {folder:?}");
        }
        if !self.label_column.is_empty() {
            text += &format!(" --label-column {:?}", self.label_column.join(","));
        }
        if let Some(pattern) = &self.label_from {
            text += &format!(" --label-from {}", quoted(pattern));
        }
        text
    }
}

impl DataArgs {
    pub(crate) fn path(&self) -> &Path {
        self.source.folder.as_deref().or(self.source.data.as_deref()).unwrap_or(Path::new(""))
    }

    /// Scans the images to train on, and says what is left out.
    pub(crate) fn scan(&self, runtime: &Runtime) -> Result<DatasetFolder> {
        scan(self.path(), &self.labels, runtime)
    }

    /// Its images as training, validation and test images; says what is left out.
    pub(crate) fn splits(&self, split: &SplitArgs, runtime: &Runtime) -> Result<Splits> {
        let dataset = self.scan(runtime)?;
        let root = dataset.root.clone();
        if dataset.val.is_some() {
            split.check_given(&dataset.path)?;
        }
        let splits = Splits::new(&root, dataset, split.config(), runtime)?;
        return_freed_memory();
        Ok(splits)
    }

    /// The flags about labels as they were typed.
    pub(crate) fn typed(&self) -> String {
        self.labels.typed()
    }

    /// The folder for a run: `named`, or the default one, apart from the images.
    pub(crate) fn run_path(&self, named: Option<&Path>, model: &str, work: &Work) -> Result<PathBuf> {
        let out = named.map_or_else(|| self.default_run(model), Path::to_owned);
        self.check_apart(&out, work.images())?;
        Ok(out)
    }

    /// Refuses the folder of the images and those of its classes for runs.
    pub(crate) fn check_apart<'a>(&self, out: &Path, images: impl Iterator<Item = &'a Sample>) -> Result<()> {
        let (run, data) = (real(out), real(self.path()));
        let holds_run = |folder: &PathBuf| {
            run == *folder || (*folder != data && folder.starts_with(&data) && run.starts_with(folder))
        };
        let folder = |sample: &Sample| Some(sample.container().parent()?.to_owned());
        let folders: BTreeSet<PathBuf> = images.filter_map(folder).collect();
        let folders = folders.iter().map(|folder| real(folder)).chain([data.clone()]);
        match folders.into_iter().find(holds_run) {
            None => Ok(()),
            Some(folder) => bail!(
                "--out {} {} images: name another folder for the run",
                out.display(),
                if folder == run { "is a folder of the" } else { "lies in a folder of the" }
            ),
        }
    }

    /// The default run folder of a network trained on it: `photos-mobilenet-v2`.
    fn default_run(&self, model: &str) -> PathBuf {
        let absolute = std::path::absolute(self.path()).unwrap_or_else(|_| self.path().to_path_buf());
        let name = if absolute.is_dir() { absolute.file_name() } else { absolute.file_stem() };
        let name = name.map(|name| name.to_string_lossy().into_owned());
        PathBuf::from(format!("{}-{model}", name.as_deref().unwrap_or("images")))
    }
}

/// A text as a shell's single word.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The path without links, as far as it exists.
pub(crate) fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|part| Some((part, std::fs::canonicalize(part).ok()?)));
    match there {
        Some((part, found)) => path.strip_prefix(part).map_or(found.clone(), |rest| found.join(rest)),
        None => path,
    }
}

/// Scans images to train on, and says what is left out.
pub(crate) fn scan(path: &Path, labels: &LabelArgs, runtime: &Runtime) -> Result<DatasetFolder> {
    announced(DatasetFolder::scan_with(path, &labels.options())?, runtime)
}

/// Scans images to measure, which may have other classes than a run, and says what is left out.
pub(crate) fn scan_to_measure(path: &Path, labels: &LabelArgs, runtime: &Runtime) -> Result<DatasetFolder> {
    let options = ScanOptions { all_classes: true, ..labels.options() };
    announced(DatasetFolder::scan_with(path, &options)?, runtime)
}

/// As [`scan_to_measure`], with what the run's training was told of labels and images, said, where that fits the data.
pub(crate) fn scan_as_recorded(
    path: &Path,
    labels: &LabelArgs,
    recorded: &ScanOptions,
    runtime: &Runtime,
) -> Result<DatasetFolder> {
    // A Parquet file has the columns of a table, but takes no folder of its images.
    let without_images = ScanOptions { images: None, ..recorded.clone() };
    for recorded in [recorded, &without_images] {
        if let Some(labels) = labels.or_recorded(recorded)
            && let Ok(dataset) = scan_to_measure(path, &labels, runtime)
        {
            runtime.message(&format!("as in the run's training:{}", labels.typed_places()));
            return Ok(dataset);
        }
    }
    scan_to_measure(path, labels, runtime)
}

fn announced(dataset: DatasetFolder, runtime: &Runtime) -> Result<DatasetFolder> {
    say(&dataset.remarks(), runtime);
    for skipped in dataset.left_out() {
        tracing::info!(path = %skipped.path.display(), reason = %skipped.reason, "left out");
    }
    return_freed_memory();
    Ok(dataset)
}

/// The number of folders that can't be opened.
pub(crate) fn denied_folders<'a>(skipped: impl Iterator<Item = &'a Skipped>) -> usize {
    skipped.filter(|skipped| skipped.reason == SkipReason::DeniedFolder).count()
}

/// Says what the user should know before work starts.
pub(crate) fn say(remarks: &[String], runtime: &Runtime) {
    for remark in remarks {
        runtime.message(remark);
    }
}

/// The error that ended a training, with what is left of it and how to go on.
pub(crate) fn keeps(failure: Error, left: &str) -> anyhow::Error {
    let is_nan = match &failure {
        Error::Train(error) => matches!(
            **error,
            firstsight_train::Error::NonFinite { .. } | firstsight_train::Error::NonFiniteValidation { .. }
        ),
        _ => false,
    };
    let way = match is_nan {
        true => "`--resume` with a lower `--learning-rate` goes on from there",
        false => "`--resume` goes on from there",
    };
    anyhow::Error::new(failure).context(format!("the training failed; {left}; {way}"))
}

/// What a command can resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResumeFrom {
    /// A checkpoint alone.
    Checkpoint,
    /// A checkpoint, or weights.
    Weights,
}

/// The folder for a new run, or for one to resume.
pub(crate) fn run_folder(path: &Path, resume: bool, from: ResumeFrom) -> Result<RunFolder> {
    match RunFolder::create(path, resume) {
        Err(error @ Error::RunExists(_)) => match from {
            ResumeFrom::Checkpoint if !RunFolder::at(path).has_checkpoint() => {
                bail!("{error}, without a checkpoint to resume: train anew with another --out, or remove it")
            }
            _ => bail!("{error}: --resume continues it"),
        },
        run => Ok(run?),
    }
}
