//! How a training begins in a run folder that may hold an earlier one.

use firstsight_data::InputSpec;
use firstsight_train::callbacks::{Checkpoint, RestartFrom};
use firstsight_train::{Difference, Identity, Monitor};

use crate::config::StatedConfig;
use crate::{Error, HubModelConfig, Result, RunFolder, Runtime};

/// Settings that may be others when a training goes on. It then goes on from its best epoch.
const MAY_CHANGE: [&str; 3] = ["epochs", "learning rate", "first block trained"];

/// How a training begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Beginning {
    /// From the start.
    Anew,
    /// Where it stopped, as if it had not.
    Exactly,
    /// After the finished epochs, from the best of them, with a new optimizer and schedule.
    FromBest(GoingOn),
}

/// A training that goes on under other settings.
#[derive(Debug, Clone, PartialEq)]
pub struct GoingOn {
    /// Number of finished epochs.
    pub finished: usize,
    /// The best measure of these.
    pub best: Option<f64>,
    /// The settings that are others now.
    pub changed: Vec<Difference>,
}

impl Beginning {
    /// How a training of `asked` settings and `epochs` epochs in all begins in `run`. Where several settings are open, those
    /// that are nearest to the run's count.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Run`] for a run of other settings than those that may change, or with as many epochs behind it as are asked
    /// for; [`crate::Error::Train`] for a damaged checkpoint.
    pub(crate) fn find(
        run: &RunFolder,
        resume: bool,
        asked: &[Identity],
        epochs: usize,
        monitor: &Monitor,
    ) -> Result<Self> {
        let stored = if resume { Checkpoint::stored(&run.checkpoint())? } else { None };
        let Some(stored) = stored else { return Ok(Self::Anew) };
        let changed = nearest(&stored.identity, asked);
        if changed.is_empty() {
            return Ok(Self::Exactly);
        }
        let fixed: Vec<&Difference> =
            changed.iter().filter(|change| !MAY_CHANGE.contains(&&*change.setting)).collect();
        if !fixed.is_empty() {
            return Err(other_settings(run, fixed));
        }
        let finished = stored.epochs.len();
        if finished >= epochs {
            let rule = "has no epoch left to train with other settings";
            return Err(
                run.error(format!("{rule}: it has {finished} behind it, and {epochs} in all are asked for"))
            );
        }
        let best = monitor.best(&stored.epochs).map(|best| monitor.value(&stored.epochs[best]));
        Ok(Self::FromBest(GoingOn { finished, best, changed }))
    }

    /// The checkpoint of a training that begins so.
    pub(crate) fn checkpoint(
        &self,
        run: &RunFolder,
        identity: Identity,
        monitor: Monitor,
        from: RestartFrom,
    ) -> Checkpoint {
        let checkpoint = Checkpoint::new(&run.checkpoint(), monitor, identity);
        match self {
            Self::Anew => checkpoint,
            Self::Exactly => checkpoint.resume(true),
            Self::FromBest(_) => checkpoint.restart(from),
        }
    }

    /// Seconds of what the training goes on from.
    pub(crate) fn earlier_seconds(&self, run: &RunFolder) -> f64 {
        match self {
            Self::Anew => 0.0,
            Self::Exactly | Self::FromBest(_) => Checkpoint::seconds(&run.checkpoint()),
        }
    }

    /// The earlier training under other settings, if there is one.
    pub(crate) fn going_on(&self) -> Option<GoingOn> {
        match self {
            Self::FromBest(going_on) => Some(going_on.clone()),
            Self::Anew | Self::Exactly => None,
        }
    }

    /// Says that the training goes on from the best epoch, if it does.
    pub(crate) fn announce(&self, run: &RunFolder, epochs: usize, runtime: &Runtime) {
        if let Self::FromBest(GoingOn { finished, changed, .. }) = self {
            let left = epochs - finished;
            runtime.message(&format!(
                "goes on after epoch {finished} from the best weights until then, for at most {left} more, with a new schedule ({})",
                in_run(changed, run)
            ));
        }
    }
}

/// Checks that a run without a checkpoint is of this network and these classes.
pub(crate) fn check_network(run: &RunFolder, architecture: &str, classes: &[String]) -> Result<()> {
    if run.has_checkpoint() || !run.config().is_file() {
        return Ok(());
    }
    let stated = StatedConfig::read(&run.config())?;
    let found = Identity::new()
        .with("network", &stated.architecture)
        .with("classes", class_names(&stated.label_names.unwrap_or_default()));
    let asked = Identity::new().with("network", architecture).with("classes", class_names(classes));
    match &found.differences(&asked)[..] {
        [] => Ok(()),
        others => Err(run.error(format!("is another network's run: {}", in_run(others, run)))),
    }
}

/// Checks that a last layer alone, of one of the `asked` settings, would not take the place of another training in `run`.
pub(crate) fn check_last_layer(run: &RunFolder, asked: &[Identity]) -> Result<()> {
    let stored = Checkpoint::stored(&run.checkpoint())?;
    let found = match &stored {
        Some(stored) => stored.identity.clone(),
        None if !run.config().is_file() => return Ok(()),
        None => last_layer(run, asked)?,
    };
    let others = nearest(&found, asked);
    if !others.is_empty() {
        return Err(other_settings(run, &others));
    }
    match stored {
        Some(_) => Err(run.error(
            "has trained its blocks, and the preset quick would keep the last layer alone: resume it with its own preset, or name \
             another folder"
                .to_owned(),
        )),
        None => Ok(()),
    }
}

/// The settings of a run without a checkpoint, as far as its files state them.
fn last_layer(run: &RunFolder, asked: &[Identity]) -> Result<Identity> {
    let config = run.config();
    let stated = StatedConfig::read(&config)?;
    let input = HubModelConfig::read(&config, &InputSpec::imagenet(3, 224, 224))?.input;
    let (_, height, width) = input.input_size;
    let metrics: Option<serde_json::Value> =
        std::fs::read(run.metrics()).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let weights = metrics.as_ref().and_then(|metrics| metrics["weights"].as_str());
    // Network and classes are compared by `check_network`.
    let same = |setting| asked.first().and_then(|asked| asked.get(setting)).unwrap_or_default();
    let found = Identity::new()
        .with("network", same("network"))
        .with("classes", same("classes"))
        .with("weights", weights.unwrap_or(same("weights")))
        .with("input", format!("{height}x{width}"))
        .with("crop", input.crop_mode);
    Ok(match stated.training {
        Some(record) => found.with("seed", record.seed).with("seed of the split", record.split_seed),
        None => found,
    })
}

/// How a training's settings differ from those of `asked` that are nearest.
fn nearest(found: &Identity, asked: &[Identity]) -> Vec<Difference> {
    let differences = |asked: &Identity| {
        let mut differences = found.differences(asked);
        // Older checkpoints state all the crops that were open; the images' content tells which was chosen.
        differences.retain(|d| d.setting != "crop" || !d.found.split(" or ").any(|open| open == d.asked));
        differences
    };
    asked.iter().map(differences).min_by_key(Vec::len).unwrap_or_default()
}

fn other_settings<'a>(run: &RunFolder, others: impl IntoIterator<Item = &'a Difference>) -> Error {
    run.error(format!("was trained with other settings: {}", in_run(others, run)))
}

/// The classes as a setting: their names, or of many the first and the last.
pub(crate) fn class_names(classes: &[String]) -> String {
    match classes {
        [first, .., last] if classes.len() > 12 => format!("{} from {first} to {last}", classes.len()),
        _ => classes.join(", "),
    }
}

/// `batch size: 16 in photos-run, 32 asked for`.
pub(crate) fn in_run<'a>(differences: impl IntoIterator<Item = &'a Difference>, run: &RunFolder) -> String {
    let words = |Difference { setting, found, asked }: &Difference| {
        format!("{setting}: {found} in {}, {asked} asked for", run.path().display())
    };
    differences.into_iter().map(words).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::class_names;

    #[test]
    fn of_more_than_twelve_classes_the_first_and_the_last_are_named() {
        let names: Vec<String> = (0..13).map(|i| format!("c{i}")).collect();
        assert_eq!(class_names(&names), "13 from c0 to c12");
        assert_eq!(class_names(&names[..12]), names[..12].join(", "));
    }
}
