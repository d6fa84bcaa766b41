//! The folder that a report and its runs are made in, until they take the place of those before.

use std::fs;
use std::path::{Path, PathBuf};

use firstsight_transfer::{RunFolder, files};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

const STAGE: &str = ".next";
/// There once the stage is whole: what of it is to be moved.
const COMPLETE: &str = "complete.json";

/// A report in the making. What an earlier call made stays as it is until [`Stage::publish`].
pub(crate) struct Stage {
    out: PathBuf,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Complete {
    runs: Vec<PathBuf>,
    pictures: Vec<PathBuf>,
}

impl Stage {
    /// Begins a report that is to be in `out`, or goes on with one that was broken off.
    pub(crate) fn begin(out: &Path, quick: bool, resume: bool) -> Result<Self> {
        let stage = Self { out: out.to_owned(), path: out.join(STAGE) };
        // A call that was killed while it moved the stage's content.
        if stage.path.join(COMPLETE).exists() {
            stage.move_all()?;
        }
        if quick && is_full(out) {
            return Err(Error::FullReport(out.to_owned()));
        }
        if !resume {
            remove(&stage.path)?;
        }
        files::create_dir(&stage.path)?;
        if resume {
            for name in names(&out.join("runs"))? {
                let run = RunFolder::reopen(&stage.path.join("runs").join(&name), true)?;
                let earlier = RunFolder::reopen(&out.join("runs").join(&name), true)?;
                if earlier.has_checkpoint() && !run.has_checkpoint() {
                    run.copy_checkpoint(&earlier)?;
                }
            }
        }
        Ok(stage)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is no earlier report, which an unfinished one should not replace.
    pub(crate) fn is_first(&self) -> bool {
        !self.out.join("report.html").exists()
    }

    /// Puts all that was made in the place of what an earlier call made. A call that is killed meanwhile is completed by the next.
    pub(crate) fn publish(&self) -> Result<()> {
        let complete =
            Complete { runs: names(&self.path.join("runs"))?, pictures: names(&self.path.join("pictures"))? };
        files::write_json(&self.path.join(COMPLETE), &complete)?;
        self.move_all()
    }

    /// Moves what is still to be moved.
    fn move_all(&self) -> Result<()> {
        let marker = self.path.join(COMPLETE);
        let text = fs::read(&marker).map_err(io("read", &marker))?;
        let complete: Complete = serde_json::from_slice(&text).map_err(|error| {
            io("read", &marker)(std::io::Error::new(std::io::ErrorKind::InvalidData, error))
        })?;
        for name in &complete.runs {
            let (from, to) = (self.path.join("runs").join(name), self.out.join("runs").join(name));
            if !from.exists() {
                continue;
            }
            if to.exists() {
                let old = self.path.join("previous").join(name);
                remove(&old)?;
                rename(&to, &old)?;
            }
            rename(&from, &to)?;
        }
        let pictures = self.out.join("pictures");
        for name in &complete.pictures {
            rename_if_there(&self.path.join("pictures").join(name), &pictures.join(name))?;
        }
        for name in names(&pictures)? {
            let is_figure = name.to_str().is_some_and(|name| {
                name.starts_with("figure-") && (name.ends_with(".svg") || name.ends_with(".png"))
            });
            if is_figure && !complete.pictures.contains(&name) {
                let path = pictures.join(name);
                fs::remove_file(&path).map_err(io("remove", &path))?;
            }
        }
        for name in ["metrics.json", "report.html"] {
            rename_if_there(&self.path.join(name), &self.out.join(name))?;
        }
        remove(&self.path)
    }
}

/// Whether a folder holds the report of a full run.
fn is_full(out: &Path) -> bool {
    let metrics =
        || serde_json::from_slice::<serde_json::Value>(&fs::read(out.join("metrics.json")).ok()?).ok();
    metrics().is_some_and(|metrics| metrics["quick"] == false)
}

/// The names in a folder; none where there is no folder.
fn names(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io("list", folder))?,
    };
    let names = entries.map(|entry| Ok(PathBuf::from(entry?.file_name())));
    names.collect::<std::io::Result<_>>().map_err(io("list", folder))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    to.parent().map_or(Ok(()), files::create_dir)?;
    fs::rename(from, to).map_err(io("move", from))
}

fn rename_if_there(from: &Path, to: &Path) -> Result<()> {
    if from.exists() { rename(from, to) } else { Ok(()) }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("remove", folder)(error)),
        _ => Ok(()),
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| firstsight_transfer::Error::Io { action, path, source }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report whose files say `text`, with a run and figures.
    fn fill(folder: &Path, text: &str, figures: usize, quick: bool) {
        for name in ["runs/cnn", "pictures"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let metrics = format!("{{\"quick\": {quick}, \"is\": \"{text}\"}}");
        fs::write(folder.join("metrics.json"), metrics).unwrap();
        fs::write(folder.join("report.html"), text).unwrap();
        fs::write(folder.join("runs/cnn/model.safetensors"), text).unwrap();
        for i in 1..=figures {
            fs::write(folder.join(format!("pictures/figure-0{i}.svg")), text).unwrap();
        }
    }

    fn is_all(folder: &Path, text: &str, figures: usize) -> bool {
        let says = |name: &str| fs::read_to_string(folder.join(name)).unwrap().contains(text);
        says("report.html")
            && says("metrics.json")
            && says("runs/cnn/model.safetensors")
            && (1..=figures).all(|i| says(&format!("pictures/figure-0{i}.svg")))
            && fs::read_dir(folder.join("pictures")).unwrap().count() == figures
    }

    #[test]
    fn the_old_report_stays_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        fill(out, "old", 3, false);
        let stage = Stage::begin(out, false, false).unwrap();
        fill(stage.path(), "new", 2, false);
        assert!(is_all(out, "old", 3));
        // Killed here, and called again.
        let stage = Stage::begin(out, false, false).unwrap();
        assert!(is_all(out, "old", 3) && names(stage.path()).unwrap().is_empty());
        fill(stage.path(), "new", 2, false);
        stage.publish().unwrap();
        assert!(is_all(out, "new", 2) && !stage.path().exists());
    }

    #[test]
    fn a_call_killed_while_it_moves_is_completed_by_the_next() {
        // So many of the moves were done.
        for done in 0..6 {
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path();
            fill(out, "old", 3, true);
            let stage = Stage::begin(out, true, false).unwrap();
            fill(stage.path(), "new", 2, true);
            let complete = Complete {
                runs: names(&stage.path().join("runs")).unwrap(),
                pictures: names(&stage.path().join("pictures")).unwrap(),
            };
            files::write_json(&stage.path().join(COMPLETE), &complete).unwrap();
            let at = |name: &str| (stage.path().join(name), out.join(name));
            let moves: [&dyn Fn(); 6] = [
                &|| rename(&out.join("runs/cnn"), &stage.path().join("previous/cnn")).unwrap(),
                &|| rename(&at("runs/cnn").0, &at("runs/cnn").1).unwrap(),
                &|| rename(&at("pictures/figure-01.svg").0, &at("pictures/figure-01.svg").1).unwrap(),
                &|| rename(&at("pictures/figure-02.svg").0, &at("pictures/figure-02.svg").1).unwrap(),
                &|| rename(&at("metrics.json").0, &at("metrics.json").1).unwrap(),
                &|| rename(&at("report.html").0, &at("report.html").1).unwrap(),
            ];
            moves[..done].iter().for_each(|step| step());
            Stage::begin(out, true, true).unwrap();
            assert!(is_all(out, "new", 2), "{done} moves");
        }
    }

    #[test]
    fn a_quick_report_does_not_replace_a_full_one() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), "old", 1, false);
        let error = Stage::begin(folder.path(), true, false).err().unwrap().to_string();
        assert!(error.contains("--out"), "{error}");
        assert!(is_all(folder.path(), "old", 1));
    }
}
