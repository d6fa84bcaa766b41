//! The folder of images of a command, as an argument or a flag, and the folder of its run.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use firstsight_transfer::{Error, RunFolder};

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

    /// The default run folder of a network trained on it: `photos-mobilenet-v2`.
    pub(crate) fn default_run(&self, model: &str) -> PathBuf {
        let absolute = std::path::absolute(self.path()).unwrap_or_else(|_| self.path().to_path_buf());
        let name = absolute.file_name().map(|name| name.to_string_lossy().into_owned());
        PathBuf::from(format!("{}-{model}", name.as_deref().unwrap_or("images")))
    }
}

/// The folder for a new run, or for one to resume.
pub(crate) fn run_folder(path: &Path, resume: bool) -> Result<RunFolder> {
    match RunFolder::create(path, resume) {
        Err(error @ Error::RunExists(_)) => bail!("{error}: --resume continues it"),
        run => Ok(run?),
    }
}
