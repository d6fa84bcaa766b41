//! Parameter importances: functional analysis of variance over a random forest.
//!
//! The share of the objective's variance that each parameter explains alone, averaged over the trees of a
//! forest that is fitted to the trials. Reference: Hutter, Hoos and Leyton-Brown, An efficient approach for
//! assessing hyperparameter importance, ICML 2014; reference implementation: Optuna's
//! `FanovaImportanceEvaluator`, with which this agrees except for the forest's random numbers.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::random::RandomState;
use crate::space::Distribution;
use crate::trial::{FrozenTrial, TrialState};

/// Settings of the random forest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForestConfig {
    /// The number of trees.
    pub n_trees: usize,
    /// Maximum depth of a tree.
    pub max_depth: usize,
    /// The seed of the random numbers.
    pub seed: u32,
}

impl ForestConfig {
    /// Optuna's defaults.
    pub fn optuna4(seed: u32) -> Self {
        Self { n_trees: 64, max_depth: 64, seed }
    }
}

/// One parameter's share.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// The parameter's name.
    pub name: String,
    /// The share of the variance it explains; the shares of all parameters sum to 1.
    pub share: f64,
}

/// The importances of the parameters that all complete trials have with one distribution, greatest first.
///
/// # Errors
///
/// [`Error::InvalidSetting`] with fewer than two complete trials, or if their values are all equal.
///
/// ```
/// use firstsight_hpo::{ForestConfig, Random, Study, Suggest, param_importances};
/// let study = Study::builder("doc").sampler(Random::new(1)).create()?;
/// study.optimize(60, |trial| {
///     Ok(10.0 * trial.float("strong", 0.0..=1.0)? + trial.float("weak", 0.0..=1.0)?)
/// })?;
/// let importances = param_importances(&study.trials()?, ForestConfig::optuna4(0))?;
/// assert_eq!(importances[0].name, "strong");
/// assert!(importances[0].share > 0.9);
/// # Ok::<(), firstsight_hpo::Error>(())
/// ```
pub fn param_importances(trials: &[Arc<FrozenTrial>], forest: ForestConfig) -> Result<Vec<Importance>> {
    let table = Table::of(trials)?;
    let mut rng = RandomState::new(forest.seed);
    let mut shares = vec![0.0; table.params.len()];
    let mut n_used = 0.0;
    for _ in 0..forest.n_trees {
        let n = table.values.len() as i64;
        let rows: Vec<usize> = (0..n).map(|_| rng.interval(n as u64 - 1) as usize).collect();
        let leaves = Leaves::grow(&table, rows, forest.max_depth, &mut rng);
        let total = leaves.variance();
        if total > 0.0 {
            n_used += 1.0;
            for (share, param) in shares.iter_mut().zip(&table.params) {
                *share += leaves.marginal_variance(&param.columns, &table) / total;
            }
        }
    }
    if n_used == 0.0 {
        return Err(few("complete trials with different values", "all equal"));
    }
    let sum: f64 = shares.iter().sum();
    let mut importances: Vec<Importance> = table
        .params
        .iter()
        .zip(&shares)
        .map(|(p, share)| Importance {
            name: p.name.clone(),
            share: if sum > 0.0 { share / sum } else { 1.0 / table.params.len() as f64 },
        })
        .collect();
    importances.sort_by(|a, b| b.share.total_cmp(&a.share));
    Ok(importances)
}

fn few(rule: &'static str, found: impl ToString) -> Error {
    Error::InvalidSetting { what: "param_importances", rule, found: found.to_string() }
}

/// The trials as numbers: a column for each number, and one for each choice.
struct Table {
    params: Vec<Columns>,
    /// The values, row by row.
    rows: Vec<Vec<f64>>,
    values: Vec<f64>,
    /// The range of each column.
    bounds: Vec<(f64, f64)>,
}

struct Columns {
    name: String,
    columns: Vec<usize>,
}

impl Table {
    fn of(trials: &[Arc<FrozenTrial>]) -> Result<Self> {
        let complete: Vec<_> = trials
            .iter()
            .filter(|t| t.state == TrialState::Complete && t.value().is_some_and(f64::is_finite))
            .collect();
        if complete.len() < 2 {
            return Err(few("two or more complete trials", complete.len()));
        }
        let shared = complete[0].params.iter().filter(|p| {
            let same =
                |t: &&Arc<FrozenTrial>| t.param(&p.name).is_some_and(|q| q.distribution == p.distribution);
            !p.distribution.is_single() && complete.iter().all(same)
        });
        let mut table = Self {
            params: Vec::new(),
            rows: vec![Vec::new(); complete.len()],
            values: complete.iter().filter_map(|t| t.value()).collect(),
            bounds: Vec::new(),
        };
        for param in shared {
            let first = table.bounds.len();
            match &param.distribution {
                Distribution::Float { low, high, .. } => table.bounds.push((*low, *high)),
                Distribution::Int { low, high, .. } => table.bounds.push((*low as f64, *high as f64)),
                Distribution::Categorical { choices } => {
                    table.bounds.extend(choices.iter().map(|_| (0.0, 1.0)))
                }
            }
            let columns: Vec<usize> = (first..table.bounds.len()).collect();
            for (row, trial) in table.rows.iter_mut().zip(&complete) {
                let x = trial.param(&param.name).map_or(f64::NAN, |p| p.internal);
                match param.distribution {
                    Distribution::Categorical { .. } => {
                        row.extend(columns.iter().map(|c| if (c - first) as f64 == x { 1.0 } else { 0.0 }));
                    }
                    _ => row.push(x),
                }
            }
            table.params.push(Columns { name: param.name.to_string(), columns });
        }
        if table.params.is_empty() {
            return Err(few("a parameter that all complete trials have", "none"));
        }
        Ok(table)
    }
}

/// A regression tree as its leaves: boxes that fill the space, with a value each.
struct Leaves(Vec<Leaf>);

struct Leaf {
    bounds: Vec<(f64, f64)>,
    value: f64,
}

impl Leaf {
    fn volume(&self) -> f64 {
        self.bounds.iter().map(|(low, high)| high - low).product()
    }
}

impl Leaves {
    /// Splits where the squared error falls most, until the values in every leaf are equal.
    fn grow(table: &Table, rows: Vec<usize>, max_depth: usize, rng: &mut RandomState) -> Self {
        let mut leaves = Vec::new();
        let mut open = vec![(rows, table.bounds.clone(), 0)];
        while let Some((rows, bounds, depth)) = open.pop() {
            match best_split(table, &rows, rng).filter(|_| depth < max_depth) {
                Some((column, threshold)) => {
                    let (left, right) = rows.into_iter().partition(|&r| table.rows[r][column] <= threshold);
                    let (mut low, mut high) = (bounds.clone(), bounds);
                    low[column].1 = threshold;
                    high[column].0 = threshold;
                    open.push((left, low, depth + 1));
                    open.push((right, high, depth + 1));
                }
                None => {
                    let sum: f64 = rows.iter().map(|&r| table.values[r]).sum();
                    leaves.push(Leaf { bounds, value: sum / rows.len() as f64 });
                }
            }
        }
        Self(leaves)
    }

    /// The variance of the tree's value over the space.
    fn variance(&self) -> f64 {
        variance(self.0.iter().map(|leaf| (leaf.value, leaf.volume())))
    }

    /// The variance of the tree's value averaged over all columns but these.
    fn marginal_variance(&self, columns: &[usize], table: &Table) -> f64 {
        // The cells into which the tree's thresholds cut the columns' space.
        let cuts: Vec<Vec<f64>> = columns
            .iter()
            .map(|&c| {
                let mut cuts: Vec<f64> = self.0.iter().map(|leaf| leaf.bounds[c].0).collect();
                cuts.push(table.bounds[c].1);
                cuts.sort_by(f64::total_cmp);
                cuts.dedup();
                cuts
            })
            .collect();
        let n_cells: usize = cuts.iter().map(|c| c.len() - 1).product();
        let cell = |index: usize| {
            let mut rest = index;
            cuts.iter().map(move |cuts| {
                let i = rest % (cuts.len() - 1);
                rest /= cuts.len() - 1;
                (cuts[i], cuts[i + 1])
            })
        };
        variance((0..n_cells).map(|index| {
            let size: f64 = cell(index).map(|(low, high)| high - low).product();
            let (mut sum, mut weight) = (0.0, 0.0);
            for leaf in &self.0 {
                let own = |&c: &usize| leaf.bounds[c];
                let covers = columns
                    .iter()
                    .map(own)
                    .zip(cell(index))
                    .all(|(own, cell)| own.0 <= cell.0 && cell.1 <= own.1);
                if covers {
                    let rest = leaf.volume()
                        / columns.iter().map(own).map(|(low, high)| high - low).product::<f64>();
                    sum += leaf.value * rest;
                    weight += rest;
                }
            }
            (sum / weight, size)
        }))
    }
}

/// The variance of weighted values.
fn variance(values: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let weight: f64 = values.clone().map(|(_, w)| w).sum();
    let mean = values.clone().map(|(v, w)| v * w).sum::<f64>() / weight;
    values.map(|(v, w)| (v - mean).powi(2) * w).sum::<f64>() / weight
}

/// The column and threshold whose two sides have the least squared error; of equals, a random one. `None` if
/// the values do not differ, or nothing tells the rows apart.
fn best_split(table: &Table, rows: &[usize], rng: &mut RandomState) -> Option<(usize, f64)> {
    let first = table.values[*rows.first()?];
    if rows.iter().all(|&r| table.values[r] == first) {
        return None;
    }
    let n = rows.len() as f64;
    let total: f64 = rows.iter().map(|&r| table.values[r]).sum();
    let mut best: Option<(f64, usize, f64)> = None;
    for column in rng.permutation(table.bounds.len()) {
        let mut sorted: Vec<(f64, f64)> =
            rows.iter().map(|&r| (table.rows[r][column], table.values[r])).collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut left, mut n_left) = (0.0, 0.0);
        for pair in sorted.windows(2) {
            left += pair[0].1;
            n_left += 1.0;
            if pair[0].0 == pair[1].0 {
                continue;
            }
            // The error falls by as much as this grows.
            let gain = left * left / n_left + (total - left).powi(2) / (n - n_left);
            if best.is_none_or(|(most, ..)| gain > most) {
                best = Some((gain, column, 0.5 * (pair[0].0 + pair[1].0)));
            }
        }
    }
    best.map(|(_, column, threshold)| (column, threshold))
}
