//! The run folder: weights, configuration, history, figures, report and checkpoint of one training.

use std::path::{Path, PathBuf};

use candle_core::Device;
use firstsight_data::ImageDataset;
use firstsight_data::files::{Lock, Locked};
use firstsight_models::{ImageClassifier, registry};

use crate::config::StatedConfig;
use crate::{
    Error, Evaluation, Pretrained, Reject, Result, RunConfig, Runtime, Split, SplitRecord, TaskEvaluation,
    files, write_confusion, write_predictions,
};

const LAST: &str = "last.safetensors";
/// Held by the process that writes.
const LOCK: &str = ".lock";

/// The folder of one training.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// The folder of a finished training.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] names the file that is missing.
    pub fn open(path: &Path) -> Result<Self> {
        let run = Self::at(path);
        for file in [run.config(), run.weights()] {
            if !file.is_file() && path.join("fold-1").is_dir() {
                return Err(run.error(format!(
                    "holds the runs of a cross-validation: name one of them, such as {}",
                    path.join("fold-1").display()
                )));
            }
            if !file.is_file() {
                return Err(run.error(format!("is not a run: {} is missing", file.display())));
            }
        }
        Ok(run)
    }

    /// The folder for a new training, or for one to resume: with a checkpoint, with weights alone, or as empty as a training
    /// leaves it that is stopped before it has saved anything, or not there at all.
    ///
    /// # Errors
    ///
    /// [`Error::RunExists`] for a folder that holds a run and is not to be resumed; [`Error::Run`] for one to be resumed that
    /// holds other things.
    pub fn create(path: &Path, resume: bool) -> Result<Self> {
        let run = Self::at(path);
        match (run.holds_run(), resume) {
            (true, false) => return Err(Error::RunExists(run.path)),
            (false, true) if !run.holds_nothing_else() => {
                return Err(run.error("holds no run to resume".to_owned()));
            }
            _ => {}
        }
        files::create_dir(&run.checkpoint())?;
        run.sweep();
        Ok(run)
    }

    /// The folder for a training that replaces an earlier one, or resumes it where there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] for a folder that cannot be written.
    pub fn reopen(path: &Path, resume: bool) -> Result<Self> {
        let run = Self::at(path);
        files::create_dir(&run.checkpoint())?;
        run.sweep();
        if !resume {
            for file in run.checkpoint_files().iter().chain(&run.results()) {
                files::remove(file)?;
            }
        }
        Ok(run)
    }

    /// The folder of a training whose process fell silent, with its checkpoint, if it had one. The folder is replaced by another of its
    /// name, so that a process that comes back to life in the middle of writing cannot change what is here.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for a folder that cannot be moved or a checkpoint that cannot be read, [`Error::Write`] for one that cannot be
    /// written.
    pub fn take_over(path: &Path) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".left");
        let left = Self { path: name.into() };
        let remove = || match std::fs::remove_dir_all(left.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", left.path())(error))
            }
            _ => Ok(()),
        };
        // Without a checkpoint, who took it over before may have been killed while copying.
        if Self::at(path).has_checkpoint() {
            remove()?;
            std::fs::rename(path, left.path()).map_err(Error::io("move", path))?;
        }
        let run = Self::reopen(path, false)?;
        if left.has_checkpoint() {
            run.copy_checkpoint(&left)?;
        }
        remove()?;
        Ok(run)
    }

    /// Copies another run's checkpoint here, for a training that continues from it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for a checkpoint that cannot be read, [`Error::Write`] for one that cannot be written.
    pub fn copy_checkpoint(&self, from: &Self) -> Result<()> {
        if from.split().exists() {
            SplitRecord::read(&from.split())?.write(&self.split())?;
        }
        // The file that makes it a checkpoint comes last, so that a copy that was broken off is none.
        let pairs = from.checkpoint_files().into_iter().zip(self.checkpoint_files());
        for (from, to) in pairs {
            match std::fs::read(&from) {
                Ok(bytes) => files::write(&to, &bytes)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && !from.ends_with(LAST) => {}
                Err(error) => return Err(Error::io("read", &from)(error)),
            }
        }
        Ok(())
    }

    /// Removes what killed processes left half written.
    fn sweep(&self) {
        for folder in [&self.path, &self.checkpoint()] {
            files::sweep(folder);
        }
    }

    /// What a training writes in its folder of checkpoints; the file that makes it a checkpoint is the last.
    fn checkpoint_files(&self) -> [PathBuf; 3] {
        ["seconds.json", "best.safetensors", LAST].map(|name| self.checkpoint().join(name))
    }

    /// Copies what another run holds but for its checkpoint, for one run of many that is to be found in one place. What that run
    /// lacks is removed here.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for a file that cannot be read, [`Error::Write`] for one that cannot be written.
    pub fn copy_results(&self, from: &Self) -> Result<()> {
        let pairs = from.results().into_iter().zip(self.results());
        for (from, to) in pairs.chain([(from.config(), self.config())]) {
            match std::fs::read(&from) {
                Ok(bytes) => files::write(&to, &bytes)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => files::remove(&to)?,
                Err(error) => return Err(Error::io("read", &from)(error)),
            }
        }
        Ok(())
    }

    /// What a training writes besides its checkpoint and its configuration.
    pub fn results(&self) -> [PathBuf; 8] {
        [
            self.weights(),
            self.split(),
            self.history(),
            self.metrics(),
            self.report(),
            self.predictions(),
            self.confusion(),
            self.reject(),
        ]
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run folder at a path, without a look at it: it need not be there.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    /// Whether there is a checkpoint to resume from.
    pub fn has_checkpoint(&self) -> bool {
        self.checkpoint().join(LAST).exists()
    }

    /// Whether there is something to resume: a checkpoint, or weights.
    pub fn holds_run(&self) -> bool {
        self.has_checkpoint() || self.weights().exists()
    }

    /// Whether all that the folder holds, if it is there, is what a training writes. One that is killed early leaves a part of it.
    fn holds_nothing_else(&self) -> bool {
        let known: Vec<PathBuf> = self
            .results()
            .into_iter()
            .chain(self.checkpoint_files())
            .chain([self.config(), self.checkpoint(), self.path.join(LOCK)])
            .chain(["tensorboard", "mlflow.json"].map(|name| self.path.join(name)))
            .collect();
        let is_known = |entry: std::fs::DirEntry| {
            known.contains(&entry.path()) || files::is_temporary(&entry.file_name())
        };
        let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries(&self.path).chain(entries(&self.checkpoint())).all(is_known)
    }

    /// Keeps other processes from writing into the folder `path`, which is made, until the lock is dropped or this process ends,
    /// however it does. Who reads asks for no lock. Of processes that train together, the first takes it.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] where another process has it; [`Error::Write`] for a folder that cannot be written.
    pub fn lock(path: &Path) -> Result<Lock> {
        loop {
            files::create_dir(path)?;
            match files::lock(&path.join(LOCK)) {
                Ok(Locked::Here(lock)) => return Ok(lock),
                Ok(Locked::Elsewhere(by)) => return Err(Error::InUse { path: path.to_path_buf(), by }),
                // Another process of a training that was refused has removed the folder, which was empty.
                Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) fn error(&self, reason: String) -> Error {
        Error::Run { path: self.path.clone(), reason }
    }

    /// Removes what [`RunFolder::create`] made, for a training that left nothing in it.
    pub fn remove_if_empty(&self) {
        for folder in [self.checkpoint(), self.path.clone()] {
            // A folder that holds something stays.
            let _ = std::fs::remove_dir(folder);
        }
    }

    /// `config.json`, in the form of timm and the Hugging Face Hub.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// `model.safetensors`, under timm's tensor names where timm has the network.
    pub fn weights(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }

    /// `split.csv`: the images of each split.
    pub fn split(&self) -> PathBuf {
        self.path.join("split.csv")
    }

    /// Checks, before a training is resumed, that its images are still those that it was begun with.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] says what has changed.
    pub fn check_split(&self, now: &SplitRecord) -> Result<()> {
        let path = self.split();
        if !path.exists() {
            return Ok(());
        }
        match SplitRecord::read(&path)?.changes(now) {
            None => Ok(()),
            Some(changes) => Err(self.error(format!(
                "was begun with other images: {changes}. To resume it, undo this; or train anew in another folder"
            ))),
        }
    }

    /// `history.csv`: loss and metrics of each epoch.
    pub fn history(&self) -> PathBuf {
        self.path.join("history.csv")
    }

    /// `metrics.json`: the figures of each split.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.json")
    }

    /// The license of the weights that a fine-tuned run began with, where its `metrics.json` has it.
    pub fn license(&self) -> Option<String> {
        self.read_metrics().ok()?.get("license")?.as_str().map(str::to_owned)
    }

    /// The splits whose images the run was trained on: those of validation too where its last layer was, by `metrics.json`.
    pub fn trained_splits(&self) -> &'static [Split] {
        match self.read_metrics().is_ok_and(|metrics| is_refit(&metrics)) {
            true => &[Split::Train, Split::Val],
            false => &[Split::Train],
        }
    }

    /// The content of `metrics.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Config`] for a file that is no JSON object.
    pub fn read_metrics(&self) -> Result<serde_json::Map<String, serde_json::Value>> {
        files::read_object(&self.metrics())
    }

    /// `predictions.csv`: what the network says of each validation and test image.
    pub fn predictions(&self) -> PathBuf {
        self.path.join("predictions.csv")
    }

    /// `confusion.csv`: the confusion matrix of the test images, or else the validation images.
    pub fn confusion(&self) -> PathBuf {
        self.path.join("confusion.csv")
    }

    /// `reject.safetensors`: what tells images of none of the classes.
    pub fn reject(&self) -> PathBuf {
        self.path.join("reject.safetensors")
    }

    /// Measures the run's network, as [`RunFolder::load`] gives it, on images, with its temperature and distances.
    ///
    /// # Errors
    ///
    /// Those of [`TaskEvaluation::measure_task`] and [`Reject::read`].
    pub fn measure<E: TaskEvaluation>(
        &self,
        (network, config): (&ImageClassifier, &RunConfig),
        images: ImageDataset,
        runtime: &Runtime,
    ) -> Result<E> {
        let means = self.read_reject(&runtime.device)?.and_then(|reject| reject.means);
        let (target, input) = (&config.target, &config.pretrained_cfg);
        let measured = E::measure_with(network, images, target, input, means.as_ref(), runtime)?;
        Ok(measured.with_temperature(config.temperature))
    }

    /// What the run knows about images of none of its classes, if it has learned that.
    ///
    /// # Errors
    ///
    /// Those of [`Reject::read`].
    pub fn read_reject(&self, device: &Device) -> Result<Option<Reject>> {
        let path = self.reject();
        path.is_file().then(|| Reject::read(&path, device)).transpose()
    }

    /// Writes what the network says of the validation and test images, whose paths are relative to `root`.
    pub(crate) fn save_answers(
        &self,
        root: &Path,
        splits: &[(&str, &Evaluation)],
        reject: Option<&Reject>,
    ) -> Result<()> {
        write_predictions(&self.predictions(), root, splits)?;
        if let Some((_, held_out)) = splits.last() {
            write_confusion(&self.confusion(), held_out)?;
        }
        match reject {
            Some(reject) => reject.save(&self.reject()),
            None => Ok(files::remove(&self.reject())?),
        }
    }

    /// `report.html`.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// `checkpoint/`, from which a training is resumed.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint")
    }

    /// The trained network with its configuration: a run of ours, or a folder that timm wrote.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a configuration that no network can be built from, [`Error::Models`] for another network's
    /// weights.
    pub fn load(&self, device: &Device) -> Result<(ImageClassifier, RunConfig)> {
        let path = self.config();
        let stated = StatedConfig::read(&path)?;
        let unusable = |reason: String| Error::Config { path: path.clone(), reason };
        let kind = registry::find(&stated.architecture).map_err(|e| unusable(e.to_string()))?;
        let found = Pretrained::local(kind, &self.path)?;
        found.check_last_layer()?;
        let n = found.n_classes;
        if let (Some(names), None) = (&stated.label_names, &found.label_names) {
            return Err(unusable(format!("it names {} classes, and the network has {n}", names.len())));
        }
        let network = found.load(device)?;
        if let Some(remark) = found.remark() {
            tracing::warn!("{remark}");
        }
        let named = found.label_names.is_some();
        let numbered = || (0..n).map(|class| format!("class {class}")).collect();
        let config = RunConfig {
            architecture: stated.architecture,
            num_classes: n,
            num_features: network.n_features(),
            label_names: found.label_names.unwrap_or_else(numbered),
            named,
            target: found.target,
            pretrained_cfg: found.input,
            training: stated.training,
            options: stated.options,
            temperature: found.temperature,
            reject: stated.reject,
        };
        Ok((network, config))
    }
}

/// Whether the last layer was trained on the validation images too, by the content of `metrics.json`.
pub(crate) fn is_refit(metrics: &serde_json::Map<String, serde_json::Value>) -> bool {
    metrics.get("head").is_some_and(|head| head["refit"] == true)
}
