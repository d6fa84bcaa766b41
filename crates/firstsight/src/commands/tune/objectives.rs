//! What a search is for.

use firstsight_data::Task;
use firstsight_hpo::{Direction, FrozenTrial};
use firstsight_models::{ImageClassifier, SaveDtype};
use firstsight_train::{Metrics, Monitor};
use firstsight_transfer::{Runtime, Target, latency, weight_bytes};

/// An objective, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Objective {
    /// The measure of the validation images: accuracy, of several labels mean average precision, of numbers the loss
    Accuracy,
    /// Loss of the validation images
    Loss,
    /// Milliseconds that the network takes for one image here
    Latency,
    /// Megabytes of its weights
    Size,
    /// Number of its parameters
    Parameters,
}

/// The objectives of a search, one or more.
#[derive(Debug, Clone)]
pub(super) struct Objectives {
    all: Vec<Objective>,
    monitor: Monitor,
    task: Task,
}

impl Objectives {
    pub(super) fn new(all: &[Objective], target: &Target) -> Self {
        Self { all: all.to_vec(), monitor: target.monitor(), task: target.task() }
    }

    /// Whether there are several.
    pub(super) fn are_many(&self) -> bool {
        self.all.len() > 1
    }

    /// Whether the values of epochs are those of the search, by which trials can be pruned.
    pub(super) fn follow_epochs(&self) -> bool {
        self.all == [Objective::Accuracy]
    }

    pub(super) fn directions(&self) -> Vec<Direction> {
        let maximize = |objective: &Objective| *objective == Objective::Accuracy && self.monitor.maximize();
        let direction = |maximize| if maximize { Direction::Maximize } else { Direction::Minimize };
        self.all.iter().map(|objective| direction(maximize(objective))).collect()
    }

    /// Their names in logs of the validation images.
    pub(super) fn keys(&self) -> impl Iterator<Item = String> {
        self.all.iter().map(|objective| match objective {
            Objective::Accuracy => {
                let name = self.monitor.name();
                name.strip_prefix("val_").unwrap_or(&name).to_owned()
            }
            Objective::Loss => "loss".to_owned(),
            Objective::Latency => "latency_ms".to_owned(),
            Objective::Size => "size_mb".to_owned(),
            Objective::Parameters => "parameters".to_owned(),
        })
    }

    /// Their names, with units.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let name = |objective: &Objective| match objective {
            Objective::Accuracy => match self.task {
                Task::SingleLabel => "validation accuracy",
                Task::MultiLabel => "validation mAP",
                Task::Regression => "validation loss",
            },
            Objective::Loss => "validation loss",
            Objective::Latency => "latency in ms",
            Objective::Size => "size in MB",
            Objective::Parameters => "parameters",
        };
        self.all.iter().map(name).collect()
    }

    /// The names with their values.
    pub(super) fn shown(&self, values: &[f64]) -> String {
        let shown = |((objective, name), value): ((&Objective, &str), &f64)| match objective {
            Objective::Parameters => format!("{value} {name}"),
            Objective::Latency => format!("latency {value:.2} ms"),
            Objective::Size => format!("size {value:.2} MB"),
            _ => format!("{name} {value:.4}"),
        };
        let pairs = self.all.iter().zip(self.names()).zip(values);
        pairs.map(shown).collect::<Vec<_>>().join(", ")
    }

    /// The better of two values of the first objective.
    pub(super) fn better(&self, a: f64, b: f64) -> f64 {
        match self.directions()[..] {
            [Direction::Maximize, ..] => a.max(b),
            _ => a.min(b),
        }
    }

    /// The values of a network whose validation images have these metrics, and this value by the monitor.
    pub(super) fn measure(
        &self,
        (value, metrics): (f64, Option<&Metrics>),
        network: &ImageClassifier,
        runtime: &Runtime,
    ) -> firstsight_transfer::Result<Vec<f64>> {
        let measure = |objective: &Objective| {
            Ok(match objective {
                Objective::Accuracy => value,
                Objective::Loss => metrics.map_or(f64::NAN, |metrics| metrics.loss),
                Objective::Latency => 1e3 * latency(network, runtime)?,
                Objective::Size => weight_bytes(network, SaveDtype::Float32) as f64 / 1e6,
                Objective::Parameters => network.summary().total_params() as f64,
            })
        };
        self.all.iter().map(measure).collect()
    }
}

impl std::fmt::Display for Objective {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = clap::ValueEnum::to_possible_value(self).map(|value| value.get_name().to_owned());
        f.write_str(&name.unwrap_or_default())
    }
}

/// A trial's parameters in a line.
pub(super) fn settings(trial: &FrozenTrial) -> String {
    let settings =
        trial.params.iter().map(|param| format!("{} {}", param.name, super::plain(&param.value())));
    settings.collect::<Vec<_>>().join(", ")
}
