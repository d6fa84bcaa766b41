//! Files that a command writes, and those that it must not write over.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use firstsight_data::{DatasetFolder, Sample};
use firstsight_transfer::{RunFolder, files};

use crate::data::real;

/// Refuses to write to `outputs` where one is named twice, is one of `inputs` or cannot be written.
pub(crate) fn check(outputs: &[&Path], inputs: &[PathBuf]) -> Result<()> {
    for (i, output) in outputs.iter().enumerate() {
        check_apart(output, inputs)?;
        if outputs[..i].iter().any(|other| real(other) == real(output)) {
            bail!("{} is named for two results: name two files", output.display());
        }
    }
    Ok(outputs.iter().try_for_each(|output| files::check_writable(output))?)
}

/// Refuses to write to `path` where that is a file of a run, which the command reads.
pub(crate) fn check_apart_from_runs<P: AsRef<Path>>(path: &Path, runs: &[P]) -> Result<()> {
    let runs = runs.iter().map(|run| RunFolder::at(run.as_ref()));
    let files = runs.flat_map(|run| run.results().into_iter().chain([run.config(), run.weights()]));
    check_apart(path, &files.collect::<Vec<_>>())
}

/// Refuses to write to `path` where that is one of the images that the command reads.
pub(crate) fn check_apart_from_images(path: &Path, images: &[Sample]) -> Result<()> {
    let named_alike =
        images.iter().map(Sample::container).filter(|image| image.file_name() == path.file_name());
    check_apart(path, &named_alike.collect::<Vec<_>>())
}

/// [`check_apart_from_images`] of all splits.
pub(crate) fn check_apart_from_dataset(path: &Path, dataset: &DatasetFolder) -> Result<()> {
    dataset.splits().try_for_each(|(_, images)| check_apart_from_images(path, images.samples()))
}

/// Refuses to write to `path` where it is one of `inputs`, which the command reads, or neither a regular file nor free.
pub(crate) fn check_apart(path: &Path, inputs: &[PathBuf]) -> Result<()> {
    let Ok(found) = path.canonicalize() else { return Ok(()) };
    if inputs.iter().any(|input| input.canonicalize().is_ok_and(|input| input == found)) {
        bail!("{} is read by this command: name another file for the result", path.display());
    }
    if !found.is_file() {
        bail!("{} is no regular file: name another one for the result", path.display());
    }
    Ok(())
}
