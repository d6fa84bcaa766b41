//! The flags that say how validation images are set aside, and trainings with one such split or with folds.

use std::path::Path;

use anyhow::{Result, bail};
use firstsight_data::{ImageFolder, Sample, Task};
use firstsight_train::Identity;
use firstsight_transfer::{
    CrossValidated, Error, GroupBy, Pooled, RunFolder, Runtime, SplitConfig, Splits, Spread, TaskEvaluation,
    cross_validate,
};

use crate::{
    data::{self, DataArgs, ResumeFrom},
    values,
};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SplitArgs {
    /// Seed of the split where the folder has no validation images
    #[arg(long, default_value_t = 123, value_parser = values::seed32, value_name = "N")]
    pub(crate) split_seed: u32,
    /// Share of each class that is set aside where the folder has no validation images [default: 0.2]
    #[arg(long, value_parser = values::inner_share, value_name = "SHARE")]
    validation_share: Option<f64>,
    /// Keep the images of a group on one side: a column of the table, or a regular expression of the file name whose first
    /// group names it, such as '^(p[0-9]+)_' for p17_left.jpg
    #[arg(long, value_name = "PATTERN")]
    group_by: Option<String>,
}

impl SplitArgs {
    pub(crate) fn config(&self) -> SplitConfig {
        SplitConfig {
            share: self.validation_share.unwrap_or(firstsight_transfer::VALIDATION_SHARE),
            group_by: self.group_by.as_ref().map(GroupBy::new),
            ..SplitConfig::stratified(self.split_seed)
        }
    }

    /// Refuses a share to set aside of images in `root` that has validation images.
    pub(crate) fn check_given(&self, root: &Path) -> Result<()> {
        match self.validation_share {
            None => Ok(()),
            Some(_) => bail!(
                "{} has validation images of its own: --validation-share is for folders without; leave it out, or divide all \
                 images anew with --folds",
                root.display()
            ),
        }
    }

    /// The same flags for another command, where they are not the usual ones.
    pub(crate) fn as_flags(&self) -> String {
        let mut flags = format!(" --split-seed {}", self.split_seed);
        if let Some(share) = self.validation_share {
            flags += &format!(" --validation-share {share}");
        }
        if let Some(group_by) = &self.group_by {
            flags += &format!(" --group-by {}", data::quoted(group_by));
        }
        flags
    }
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FoldArgs {
    /// Cross-validate: divide the images into N folds and train N runs, RUN/fold-1 to RUN/fold-N, each validated on one
    /// fold and trained on the others
    #[arg(long, conflicts_with = "validation_share", value_parser = values::folds, value_name = "N")]
    folds: Option<usize>,
}

/// The images of one training, or of one for each fold.
pub(crate) enum Work {
    One(Box<Splits>),
    Folds(Vec<Splits>),
}

impl Work {
    /// Scans the images, and says what is left out.
    pub(crate) fn new(
        data: &DataArgs,
        split: &SplitArgs,
        folds: &FoldArgs,
        runtime: &Runtime,
    ) -> Result<Self> {
        let Some(k) = folds.folds else { return Ok(Self::One(Box::new(data.splits(split, runtime)?))) };
        let dataset = data.scan(runtime)?;
        let root = dataset.root.clone();
        Ok(Self::Folds(Splits::folds(&root, dataset, &split.config(), k, runtime)?))
    }

    /// The task of the images.
    pub(crate) fn task(&self) -> Task {
        let first = match self {
            Self::One(splits) => Some(&**splits),
            Self::Folds(folds) => folds.first(),
        };
        first.map_or(Task::SingleLabel, |splits| splits.train.targets().task())
    }

    /// All images, those of folds more than once.
    pub(crate) fn images(&self) -> impl Iterator<Item = &Sample> {
        images(match self {
            Self::One(splits) => std::slice::from_ref(&**splits),
            Self::Folds(folds) => folds,
        })
    }

    /// Trains in `out`, anew or from what it holds; `train` is given the images, the run folder and whether to resume, and
    /// returns the validation images. `settings` are those that all folds share, from the images of the first.
    pub(crate) fn train<E: TaskEvaluation>(
        &self,
        out: &Path,
        (resume, from): (bool, ResumeFrom),
        settings: impl FnOnce(&Splits) -> Result<Identity>,
        runtime: &Runtime,
        mut train: impl FnMut(&Splits, &RunFolder, bool) -> Result<E>,
    ) -> Result<()> {
        let lock = runtime.is_root().then(|| RunFolder::lock(out)).transpose()?;
        match self {
            Self::One(splits) => {
                let run = data::run_folder(out, resume, from)?;
                let going_on = resume && run.holds_run();
                if resume && !going_on {
                    runtime.message(&format!("{} holds nothing to resume: starting anew", out.display()));
                }
                let trained = train(splits, &run, going_on);
                drop(lock);
                trained.inspect_err(|_| run.remove_if_empty())?;
            }
            Self::Folds(folds) => {
                let settings = folds.first().map(settings).transpose()?.unwrap_or_default();
                let result = cross_validate(out, resume, settings, folds, runtime, train);
                match result {
                    Ok(result) if runtime.is_root() => print(&result, out),
                    Ok(_) => {}
                    Err(error) if matches!(error.downcast_ref(), Some(Error::RunExists(_))) => {
                        bail!("{error}: --resume continues it")
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// All images of splits.
pub(crate) fn images(splits: &[Splits]) -> impl Iterator<Item = &Sample> {
    let folders = splits.iter().flat_map(|s| [Some(&s.train), Some(&s.val), s.test.as_ref()]).flatten();
    folders.flat_map(ImageFolder::samples)
}

fn print(result: &CrossValidated, out: &Path) {
    say!("{} folds, mean and standard deviation:", result.folds.len());
    for (name, Spread { mean, standard_deviation }) in &result.figures {
        say!("{name:10} {mean:.4} ± {standard_deviation:.4}");
    }
    if let Some(pooled) = result.pooled {
        let unknown_is_nan = |figure: Option<f64>| figure.unwrap_or(f64::NAN);
        let (n, figures) = match pooled {
            Pooled::Class { accuracy, accuracy_interval: (low, high), n } => {
                (n, format!("accuracy {accuracy:.4} (95 % interval {low:.4} to {high:.4})"))
            }
            Pooled::Labels { micro_f1, macro_f1, exact_match, exact_match_interval: (low, high), n } => (
                n,
                format!(
                    "micro F1 {:.4}  macro F1 {:.4}  all labels right {exact_match:.4} (95 % interval {low:.4} to {high:.4})",
                    unknown_is_nan(micro_f1),
                    unknown_is_nan(macro_f1)
                ),
            ),
            Pooled::Value { mean_absolute_error, root_mean_squared_error, r2, n } => (
                n,
                format!(
                    "MAE {mean_absolute_error:.4}  RMSE {root_mean_squared_error:.4}  R² {:.4}",
                    unknown_is_nan(r2)
                ),
            ),
        };
        let thresholds = match pooled {
            Pooled::Labels { .. } => ", with thresholds that other images chose",
            Pooled::Class { .. } | Pooled::Value { .. } => "",
        };
        say!("all {n} images, each by the run that was not trained on it{thresholds}: {figures}");
    }
    say!("{}", out.join("cross-validation.json").display());
}
