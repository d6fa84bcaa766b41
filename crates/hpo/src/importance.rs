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
        let (mean, total) = leaves.moments(&table);
        if total > 0.0 {
            n_used += 1.0;
            for (share, param) in shares.iter_mut().zip(&table.params) {
                *share += leaves.marginal_variance(&param.columns, &table, mean) / total;
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
        // A user may have enqueued a value beyond its range.
        for row in &table.rows {
            for ((low, high), x) in table.bounds.iter_mut().zip(row) {
                (*low, *high) = (low.min(*x), high.max(*x));
            }
        }
        if table.params.is_empty() {
            return Err(few("a parameter that all complete trials have", "none"));
        }
        Ok(table)
    }

    /// The share of a column's range that a side of a box has.
    fn share(&self, column: usize, (low, high): (f64, f64)) -> f64 {
        let (from, to) = self.bounds[column];
        (high - low).max(0.0) / (to - from)
    }
}

/// A regression tree as its leaves: boxes that fill the space, with a value each.
struct Leaves(Vec<Leaf>);

struct Leaf {
    bounds: Vec<(f64, f64)>,
    value: f64,
}

impl Leaf {
    /// The share of these columns' space that the box has.
    fn volume<'c>(&self, columns: impl IntoIterator<Item = &'c usize>, table: &Table) -> f64 {
        columns.into_iter().map(|&c| table.share(c, self.bounds[c])).product()
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

    /// The mean and the variance of the tree's value over the space.
    fn moments(&self, table: &Table) -> (f64, f64) {
        let all = table.params.iter().flat_map(|param| &param.columns);
        let values = self.0.iter().map(|leaf| (leaf.value, leaf.volume(all.clone(), table)));
        let weight: f64 = values.clone().map(|(_, w)| w).sum();
        let mean = values.clone().map(|(v, w)| v * w).sum::<f64>() / weight;
        (mean, values.map(|(v, w)| (v - mean).powi(2) * w).sum::<f64>() / weight)
    }

    /// The variance of the tree's value, whose mean this is, averaged over all columns but these.
    ///
    /// Optuna sums over the cells into which the tree's thresholds cut the columns' space: of a parameter with a column for each of
    /// k choices, up to 2^k. The same sum over pairs of leaves, each with the volume that both have, is no longer for many choices.
    fn marginal_variance(&self, columns: &[usize], table: &Table, mean: f64) -> f64 {
        let others = table.params.iter().flat_map(|param| &param.columns).filter(|c| !columns.contains(c));
        let mut boxes: Vec<(Vec<(f64, f64)>, f64)> = self
            .0
            .iter()
            .map(|leaf| {
                let own = columns.iter().map(|&c| leaf.bounds[c]).collect();
                (own, (leaf.value - mean) * leaf.volume(others.clone(), table))
            })
            .collect();
        // Many leaves may be one box in these columns.
        boxes.sort_by_cached_key(|(own, _)| -> Vec<_> {
            own.iter().map(|(low, high)| [low.to_bits(), high.to_bits()]).collect()
        });
        boxes.dedup_by(|next, first| {
            let same = next.0 == first.0;
            if same {
                first.1 += next.1;
            }
            same
        });
        let term = |(a, x): &(Vec<(f64, f64)>, f64), (b, y): &(Vec<(f64, f64)>, f64)| {
            let shared = a.iter().zip(b).map(|(a, b)| (a.0.max(b.0), a.1.min(b.1)));
            x * y * columns.iter().zip(shared).map(|(&c, side)| table.share(c, side)).product::<f64>()
        };
        let pairs = |(i, b)| term(b, b) + 2.0 * boxes[..i].iter().map(|a| term(a, b)).sum::<f64>();
        boxes.iter().enumerate().map(pairs).sum::<f64>().max(0.0)
    }
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
                let middle = 0.5 * (pair[0].0 + pair[1].0);
                // The middle of two floats without another between them may be the upper one, which would split nothing off.
                let threshold = if (pair[0].0..pair[1].0).contains(&middle) { middle } else { pair[0].0 };
                best = Some((gain, column, threshold));
            }
        }
    }
    best.map(|(_, column, threshold)| (column, threshold))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variance over the cells, worked out as Optuna does it.
    fn over_cells(leaves: &Leaves, columns: &[usize], table: &Table, mean: f64) -> f64 {
        let mut cells: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
        for &c in columns {
            let mut cuts: Vec<f64> = leaves.0.iter().map(|leaf| leaf.bounds[c].0).collect();
            cuts.push(table.bounds[c].1);
            cuts.sort_by(f64::total_cmp);
            cuts.dedup();
            let longer = |cell: &Vec<_>| {
                let sides = cuts.windows(2).map(|side| (side[0], side[1]));
                sides.map(|side| [&cell[..], &[side]].concat()).collect::<Vec<_>>()
            };
            cells = cells.iter().flat_map(longer).collect();
        }
        let others: Vec<usize> = (0..table.bounds.len()).filter(|c| !columns.contains(c)).collect();
        let of_cell = |cell: &Vec<(f64, f64)>| {
            let covers = |leaf: &&Leaf| {
                let own = columns.iter().map(|&c| leaf.bounds[c]);
                own.zip(cell).all(|(own, cell)| own.0 <= cell.0 && cell.1 <= own.1)
            };
            let value: f64 =
                leaves.0.iter().filter(covers).map(|leaf| leaf.value * leaf.volume(&others, table)).sum();
            let size: f64 = columns.iter().zip(cell).map(|(&c, side)| table.share(c, *side)).product();
            (value - mean).powi(2) * size
        };
        cells.iter().map(of_cell).sum()
    }

    #[test]
    fn pairs_of_leaves_have_the_variance_of_the_cells() {
        use crate::Suggest as _;
        let study = crate::Study::builder("cells").sampler(crate::Random::new(5)).create().unwrap();
        let choices = ["a", "b", "c", "d", "e", "f"];
        study
            .optimize(120, |trial| {
                let (x, n) = (trial.float("x", -1.0..=3.0)?, trial.int("n", 1..=4)?);
                let choice = trial.categorical("c", &choices)?;
                let c = choices.iter().position(|other| *other == choice).unwrap_or(0);
                Ok(x * x + n as f64 + x * (c * c) as f64)
            })
            .unwrap();
        let table = Table::of(&study.trials().unwrap()).unwrap();
        let mut rng = RandomState::new(1);
        for _ in 0..5 {
            let leaves = Leaves::grow(&table, (0..120).collect(), 64, &mut rng);
            let (mean, total) = leaves.moments(&table);
            for param in &table.params {
                let pairs = leaves.marginal_variance(&param.columns, &table, mean);
                let cells = over_cells(&leaves, &param.columns, &table, mean);
                assert!(cells > 1e-6 * total && (pairs - cells).abs() < 1e-12 * total, "{pairs}, {cells}");
            }
        }
    }
}
