//! One item, timed on both sides in turn.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use firstsight::{Context, log};
use firstsight_ops::Instructions;
use serde::Serialize;

use super::worker::{Group, Memory, PyTorch, Worker};
use super::{Item, Mode};

/// Settings of the timing of an item.
#[derive(Debug, Clone)]
pub(crate) struct Comparison {
    pub(crate) item: Item,
    pub(crate) mode: Mode,
    /// Images per step.
    pub(crate) batch: usize,
    /// Most that each side may use of the processor; all that it has if none is given.
    pub(crate) instructions: Option<Instructions>,
    /// Threads of each side; its own choice if none is given.
    pub(crate) threads: Option<usize>,
    /// Number of turns of each side.
    pub(crate) rounds: usize,
    /// Seconds per turn.
    pub(crate) seconds: f64,
}

/// Result of one side.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Side {
    /// The median of its turns' medians.
    pub(crate) ms: f64,
    /// The median of each turn.
    pub(crate) turns: Vec<f64>,
    pub(crate) name: String,
    pub(crate) threads: usize,
    #[serde(flatten)]
    pub(crate) memory: Memory,
}

/// Result of one variant of PyTorch.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Baseline {
    #[serde(flatten)]
    pub(crate) how: PyTorch,
    #[serde(flatten)]
    pub(crate) side: Side,
}

/// First turn of a variant of PyTorch.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct VariantTiming {
    #[serde(flatten)]
    how: PyTorch,
    ms: f64,
}

/// Result of a comparison.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) ours: Side,
    /// PyTorch's best, with each malloc; none without a Python.
    pub(crate) baselines: Vec<Baseline>,
    /// All variants of PyTorch that work.
    pub(crate) scouted: Vec<VariantTiming>,
}

/// A worker and the medians of its turns.
struct Process {
    worker: Worker,
    turns: Vec<f64>,
}

impl Comparison {
    /// Our side alone, or in turn with PyTorch's: each of its ways takes one turn, and the best with each malloc take all.
    pub(crate) fn run(&self, python: Option<&Path>, context: &Context) -> Result<Outcome> {
        let scouted = python.map(|python| self.scout(python)).transpose()?.unwrap_or_default();
        let mut ours = Process::new(Worker::ours(self, context)?);
        let mut baselines = Vec::new();
        for group in Group::ALL {
            let ways = scouted.iter().filter(|scouted| scouted.how.group() == group);
            if let (Some(best), Some(python)) = (ways.min_by(|a, b| a.ms.total_cmp(&b.ms)), python) {
                let worker = self.pytorch(python, best.how)?;
                let (here, there) = (ours.worker.about.params, worker.about.params);
                ensure!(
                    here == there,
                    "item {}: {here} parameters here, {there} in PyTorch",
                    self.item.name()
                );
                baselines.push((best.how, Process::new(worker)));
            }
        }
        for _ in 0..self.rounds {
            ours.take_turn(self.seconds)?;
            for (_, baseline) in &mut baselines {
                baseline.take_turn(self.seconds)?;
            }
        }
        let baseline = |(how, process): (PyTorch, Process)| Ok(Baseline { how, side: process.finish()? });
        let baselines = baselines.into_iter().map(baseline).collect::<Result<_>>()?;
        Ok(Outcome { ours: ours.finish()?, baselines, scouted })
    }

    fn scout(&self, python: &Path) -> Result<Vec<VariantTiming>> {
        let mut scouted = Vec::new();
        let mut last = None;
        for how in PyTorch::all(self) {
            let turn = || Ok(median(&self.pytorch(python, how)?.round(self.seconds)?));
            match turn() {
                Ok(ms) => scouted.push(VariantTiming { how, ms }),
                Err(error) => {
                    let error: anyhow::Error = error;
                    log!("item {}, {}: left out: {error:#}", self.item.name(), self.mode.name());
                    last = Some(error);
                }
            }
        }
        match last {
            Some(error) if scouted.is_empty() => Err(error),
            _ => Ok(scouted),
        }
    }

    fn pytorch(&self, python: &Path, how: PyTorch) -> Result<Worker> {
        let script: PathBuf = crate::workspace().join("benches").join("peers").join("steps.py");
        ensure!(script.is_file(), "{} is missing: run from the workspace", script.display());
        Worker::pytorch(python, &script, how, self)
            .with_context(|| format!("{} ({how}) does not run", python.display()))
    }
}

impl Process {
    fn new(worker: Worker) -> Self {
        Self { worker, turns: Vec::new() }
    }

    fn take_turn(&mut self, seconds: f64) -> Result<()> {
        self.turns.push(median(&self.worker.round(seconds)?));
        Ok(())
    }

    fn finish(self) -> Result<Side> {
        let Self { worker, turns } = self;
        let about = worker.about.clone();
        let memory = worker.end()?;
        Ok(Side { ms: median(&turns), turns, name: about.name, threads: about.threads, memory })
    }
}

/// The middle value, or the mean of the middle two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(super::median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(super::median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
