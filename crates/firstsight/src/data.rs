//! The folder of images of a command, as an argument or a flag.

use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct DataArgs {
    /// Folder of images: Train/Test or train/val/test of class folders, or one folder of class folders
    #[arg(value_name = "DATA")]
    folder: Option<PathBuf>,
    /// The same as a flag
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
