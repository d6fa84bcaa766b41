//! The folder of images of a command, as an argument or a flag, and the folder of its run.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use firstsight_data::DatasetFolder;
use firstsight_transfer::{Error, RunFolder, Runtime, Splits};

use crate::splitting::SplitArgs;

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct DataArgs {
    /// Folder of images: Train/Test or train/val/test of class folders, or one folder of class folders
    #[arg(value_name = "DATA")]
    folder: Option<PathBuf>,
    /// Folder of images, as a flag
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl DataArgs {
    pub(crate) fn path(&self) -> &Path {
        self.folder.as_deref().or(self.data.as_deref()).unwrap_or(Path::new(""))
    }

    /// Its images as training, validation and test images; says what is left out.
    pub(crate) fn splits(&self, split: &SplitArgs, runtime: &Runtime) -> Result<Splits> {
        Ok(Splits::new(self.path(), scan(self.path(), runtime)?, split.config(), runtime)?)
    }

    /// The default run folder of a network trained on it: `photos-mobilenet-v2`.
    pub(crate) fn default_run(&self, model: &str) -> PathBuf {
        let absolute = std::path::absolute(self.path()).unwrap_or_else(|_| self.path().to_path_buf());
        let name = absolute.file_name().map(|name| name.to_string_lossy().into_owned());
        PathBuf::from(format!("{}-{model}", name.as_deref().unwrap_or("images")))
    }
}

/// Scans a folder of images to train on, and says what is left out.
pub(crate) fn scan(path: &Path, runtime: &Runtime) -> Result<DatasetFolder> {
    announced(DatasetFolder::scan(path)?, runtime)
}

/// Scans a folder of images to measure, which may have other classes than a run, and says what is left out.
pub(crate) fn scan_to_measure(path: &Path, runtime: &Runtime) -> Result<DatasetFolder> {
    announced(DatasetFolder::scan_all_classes(path)?, runtime)
}

fn announced(dataset: DatasetFolder, runtime: &Runtime) -> Result<DatasetFolder> {
    say(&dataset.remarks(), runtime);
    let skipped = dataset.splits().flat_map(|(_, folder)| folder.skipped()).chain(&dataset.skipped);
    for skipped in skipped {
        tracing::info!(path = %skipped.path.display(), reason = %skipped.reason, "left out");
    }
    Ok(dataset)
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

/// The folder for a new run, or for one to resume.
pub(crate) fn run_folder(path: &Path, resume: bool) -> Result<RunFolder> {
    match RunFolder::create(path, resume) {
        Err(error @ Error::RunExists(_)) => bail!("{error}: --resume continues it"),
        run => Ok(run?),
    }
}
