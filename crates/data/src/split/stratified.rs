//! Splits and folds in which every class has its share, and every group stays whole.
//!
//! scikit-learn's `StratifiedGroupKFold` deals groups out one by one, each to the fold where the classes stay closest
//! to their shares. So does this, for parts of any size: the measure is the sum over classes of
//! Σ (n − share·N)² / (share·N), the chi-squared statistic of a part's n images of a class of N. Afterward groups are
//! moved one by one while that brings a class to a part that lacks it, or else lowers the statistic. Where groups are
//! larger than one example, the best of several random orders is taken.

use crate::error::{Error, Result};
use crate::labels::Labels;
use crate::sampling::Sampling;
use crate::split::Groups;

/// Random orders that are tried where groups are larger than one example.
const ORDERS: usize = 16;

/// Weight of the part's size beside its classes.
const WEIGHT_OF_SIZE: f64 = 0.01;

/// Divides examples into training and validation indices, each in ascending order.
///
/// Each class gives `share` of its examples to validation, rounded, and at least one example to both sides if it has
/// two groups. A class of one group stays in training. Groups stay whole. Where groups don't allow all of this, a class
/// is missing from validation rather than from training, and the shares are as close as was found. Of images with
/// several labels each label counts, and having none does. Numbers are taken by size, in up to ten parts.
///
/// # Errors
///
/// [`Error::Invalid`] if `share` is outside of (0, 1), or nothing can be set aside.
///
/// # Examples
///
/// ```
/// use firstsight_data::{Groups, Labels, stratified_split};
///
/// let labels = Labels::Class(vec![0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
/// let (train, val) = stratified_split(&labels, &Groups::single(10), 0.2, 1)?;
/// assert_eq!(labels.subset(&train).counts(2), [6, 1]);
/// assert_eq!(labels.subset(&val).counts(2), [2, 1]);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
pub fn stratified_split(
    labels: &Labels,
    groups: &Groups,
    share: f64,
    seed: u32,
) -> Result<(Vec<usize>, Vec<usize>)> {
    if !(share > 0.0 && share < 1.0) {
        return Err(Error::invalid("validation share", "a share between 0 and 1, both excluded", share));
    }
    let parts = Dealing { labels, groups, shares: &[1.0 - share, share], training_first: true, seed }.parts();
    let [train, val] = [0, 1].map(|part| indices(&parts, part));
    if train.is_empty() || val.is_empty() {
        let (n, n_groups) = (labels.len(), groups.count());
        let (expected, found) = match n == n_groups {
            true => {
                ("a class of two images, so that one can be set aside", format!("{n} of different classes"))
            }
            false => (
                "a class of two groups of images, so that one can be set aside",
                format!("{n} images in {n_groups} groups"),
            ),
        };
        return Err(Error::invalid("validation images", expected, found));
    }
    Ok((train, val))
}

/// Divides examples into `k` folds of equal size, for cross-validation: the indices of each fold in ascending order.
///
/// Each class is spread evenly over the folds. Groups stay whole.
///
/// # Errors
///
/// [`Error::Invalid`] for fewer than two folds, and for more folds than groups.
///
/// # Examples
///
/// ```
/// use firstsight_data::{Groups, Labels, stratified_folds};
///
/// let labels = Labels::Class(vec![0, 0, 0, 1, 1, 1]);
/// let folds = stratified_folds(&labels, &Groups::single(6), 3, 1)?;
/// assert!(folds.iter().all(|fold| labels.subset(fold).counts(2) == [1, 1]));
/// # Ok::<(), firstsight_data::Error>(())
/// ```
pub fn stratified_folds(labels: &Labels, groups: &Groups, k: usize, seed: u32) -> Result<Vec<Vec<usize>>> {
    check_folds(groups, k)?;
    let shares = vec![1.0 / k as f64; k];
    let parts = Dealing { labels, groups, shares: &shares, training_first: false, seed }.parts();
    let folds: Vec<_> = (0..k).map(|fold| indices(&parts, fold)).collect();
    if folds.iter().any(Vec::is_empty) {
        let expected = format!("groups that can be spread over {k} folds");
        return Err(Error::invalid("folds", expected, format!("{} groups", groups.count())));
    }
    Ok(folds)
}

/// Checks that there are groups enough for `k` folds.
///
/// # Errors
///
/// [`Error::Invalid`] for fewer than two folds, and for more folds than groups.
pub fn check_folds(groups: &Groups, k: usize) -> Result<()> {
    if k < 2 || k > groups.count() {
        let expected = format!("at least 2, and at most the {} groups of images", groups.count());
        return Err(Error::invalid("folds", expected, k));
    }
    Ok(())
}

fn indices(parts: &[usize], part: usize) -> Vec<usize> {
    (0..parts.len()).filter(|&i| parts[i] == part).collect()
}

/// Examples to be dealt out to parts.
struct Dealing<'a> {
    labels: &'a Labels,
    groups: &'a Groups,
    shares: &'a [f64],
    /// Whether a class is to be in the first part before it is in others.
    training_first: bool,
    seed: u32,
}

impl Dealing<'_> {
    /// The part of each example.
    fn parts(&self) -> Vec<usize> {
        let units = self.units();
        let orders = if self.groups.count() == self.labels.len() { 1 } else { ORDERS };
        let mut best: Option<(Cost, Vec<usize>)> = None;
        for order in 0..orders {
            let order = Sampling::Shuffled { seed: u64::from(self.seed) }.indices(units.len(), order);
            let (cost, parts) = self.deal(&units, &order);
            if best.as_ref().is_none_or(|(least, _)| cost.is_less(least)) {
                best = Some((cost, parts));
            }
        }
        let of_group = best.map(|(_, parts)| parts).unwrap_or_default();
        self.groups.numbers().iter().map(|&group| of_group[group]).collect()
    }

    /// The group and the class of each example, or of each of its classes.
    fn strata(&self) -> Vec<(u32, u32)> {
        let groups = self.groups.numbers().iter().map(|&group| group as u32);
        match self.labels {
            Labels::Class(labels) => groups.zip(labels.iter().copied()).collect(),
            Labels::MultiLabel(labels) => {
                let none = [labels.iter().flatten().max().map_or(0, |class| class + 1)];
                let classes = |(group, classes)| {
                    let classes: &[u32] = classes;
                    let classes = if classes.is_empty() { &none } else { classes };
                    classes.iter().map(|&class| (group, class)).collect::<Vec<_>>()
                };
                groups.zip(labels.iter().map(Vec::as_slice)).flat_map(classes).collect()
            }
            Labels::Value(values) => {
                let least = self.shares.iter().copied().fold(1.0, f64::min);
                let bins = ((values.len() as f64 * least) as usize).clamp(1, 10);
                let mut order: Vec<usize> = (0..values.len()).collect();
                order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
                let mut strata: Vec<(u32, u32)> = groups.map(|group| (group, 0)).collect();
                for (rank, &i) in order.iter().enumerate() {
                    strata[i].1 = (rank * bins / values.len()) as u32;
                }
                strata
            }
        }
    }

    /// The classes of each group with their numbers of examples.
    fn units(&self) -> Units {
        let mut strata = self.strata();
        strata.sort_by_key(|(group, _)| *group);
        let mut units = Units { starts: vec![0], classes: Vec::with_capacity(self.groups.count()) };
        for group in strata.chunk_by(|a, b| a.0 == b.0) {
            let start = units.classes.len();
            for &(_, class) in group {
                match units.classes[start..].iter_mut().find(|(known, _)| *known == class) {
                    Some((_, n)) => *n += 1,
                    None => units.classes.push((class, 1)),
                }
            }
            units.starts.push(units.classes.len() as u32);
        }
        units
    }

    /// Deals the groups out in an order, then moves them while that helps. Returns the part of each group.
    fn deal(&self, units: &Units, order: &[usize]) -> (Cost, Vec<usize>) {
        let mut counts = Counts::new(units, self);
        let mut parts = vec![0; units.len()];
        for &unit in order {
            let costs = (0..self.shares.len()).map(|part| counts.statistic_with(&units[unit], part));
            let costs: Vec<f64> = costs.collect();
            let cheapest = |best, part| if costs[part] < costs[best] - 1e-9 { part } else { best };
            parts[unit] = (1..costs.len()).fold(0, cheapest);
            counts.add(&units[unit], parts[unit]);
        }
        let mut cost = counts.cost();
        loop {
            let mut moved = false;
            for &unit in order {
                let from = parts[unit];
                let before = counts.cost_of(&units[unit]);
                for to in (0..self.shares.len()).filter(|&to| to != from) {
                    counts.remove(&units[unit], parts[unit]);
                    counts.add(&units[unit], to);
                    if counts.cost_of(&units[unit]).is_less(&before) {
                        parts[unit] = to;
                        moved = true;
                        break;
                    }
                    counts.remove(&units[unit], to);
                    counts.add(&units[unit], from);
                }
            }
            let after = counts.cost();
            if !moved || !after.is_less(&cost) {
                return (after, parts);
            }
            cost = after;
        }
    }
}

/// The classes of each group with their numbers of examples.
struct Units {
    /// Where the classes of each group begin, and where the last ones end.
    starts: Vec<u32>,
    classes: Vec<(u32, u32)>,
}

impl Units {
    fn len(&self) -> usize {
        self.starts.len() - 1
    }
}

impl std::ops::Index<usize> for Units {
    type Output = [(u32, u32)];

    fn index(&self, group: usize) -> &Self::Output {
        &self.classes[self.starts[group] as usize..self.starts[group + 1] as usize]
    }
}

/// How far a division is from what is wanted: first the classes that parts lack, then the statistic.
#[derive(Debug, Clone, Copy)]
struct Cost {
    missing: usize,
    statistic: f64,
}

impl Cost {
    fn is_less(&self, other: &Self) -> bool {
        self.missing < other.missing
            || self.missing == other.missing && self.statistic < other.statistic - 1e-9
    }
}

/// The examples of each class in each part.
struct Counts<'a> {
    shares: &'a [f64],
    training_first: bool,
    /// Whether each part needs each class, which parts of a range of numbers are not.
    classes_matter: bool,
    /// `n[class][part]`; the last class stands for all examples.
    n: Vec<Vec<usize>>,
    /// Examples of each class.
    total: Vec<usize>,
    /// Groups of each class.
    n_groups: Vec<usize>,
}

impl<'a> Counts<'a> {
    fn new(units: &Units, dealing: &Dealing<'a>) -> Self {
        let Dealing { shares, training_first, .. } = *dealing;
        let classes = units.classes.iter().map(|(class, _)| class + 1).max().unwrap_or(0) as usize;
        let (mut total, mut n_groups) = (vec![0; classes + 1], vec![0; classes]);
        for &(class, n) in &units.classes {
            let (class, n) = (class as usize, n as usize);
            n_groups[class] += 1;
            total[class] += n;
            total[classes] += n;
        }
        Self {
            shares,
            training_first,
            classes_matter: !matches!(dealing.labels, Labels::Value(_)),
            n: vec![vec![0; shares.len()]; classes + 1],
            total,
            n_groups,
        }
    }

    fn add(&mut self, unit: &[(u32, u32)], part: usize) {
        let all = self.n_groups.len();
        for &(class, n) in unit {
            self.n[class as usize][part] += n as usize;
            self.n[all][part] += n as usize;
        }
    }

    fn remove(&mut self, unit: &[(u32, u32)], part: usize) {
        let all = self.n_groups.len();
        for &(class, n) in unit {
            self.n[class as usize][part] -= n as usize;
            self.n[all][part] -= n as usize;
        }
    }

    /// What the statistic grows by with a group in a part.
    fn statistic_with(&self, unit: &[(u32, u32)], part: usize) -> f64 {
        let growth = |class: usize, n: u32| {
            let (before, n) = (self.n[class][part] as f64, f64::from(n));
            (2.0 * before * n + n * n) / (self.shares[part] * self.total[class] as f64)
        };
        let all = unit.iter().map(|(_, n)| n).sum();
        let classes: f64 = unit.iter().map(|&(class, n)| growth(class as usize, n)).sum();
        classes + WEIGHT_OF_SIZE * growth(self.n_groups.len(), all)
    }

    /// The statistic of one class, less a constant.
    fn statistic(&self, class: usize) -> f64 {
        let total = self.total[class].max(1) as f64;
        let square = |(&n, share): (&usize, &f64)| (n * n) as f64 / (share * total);
        self.n[class].iter().zip(self.shares).map(square).sum()
    }

    /// Parts that could have the class and lack it. Where training is first, it counts twice.
    fn missing(&self, class: usize) -> usize {
        let n = &self.n[class];
        let could = if self.classes_matter { self.n_groups[class].min(n.len()) } else { 0 };
        let lacking = could.saturating_sub(n.iter().filter(|&&n| n > 0).count());
        lacking + usize::from(self.training_first && could > 0 && n[0] == 0)
    }

    /// The cost of some classes.
    fn cost_of_classes(&self, classes: impl Iterator<Item = usize> + Clone) -> Cost {
        let statistic: f64 = classes.clone().map(|class| self.statistic(class)).sum();
        Cost {
            missing: classes.map(|class| self.missing(class)).sum(),
            statistic: statistic + WEIGHT_OF_SIZE * self.statistic(self.n_groups.len()),
        }
    }

    /// The part of the cost that moving a group changes.
    fn cost_of(&self, unit: &[(u32, u32)]) -> Cost {
        self.cost_of_classes(unit.iter().map(|(class, _)| *class as usize))
    }

    fn cost(&self) -> Cost {
        self.cost_of_classes(0..self.n_groups.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_costs_in_a_part_what_the_statistic_grows_by() {
        let labels = Labels::Class(vec![0, 0, 0, 1, 1, 1, 1, 0]);
        let groups = Groups::single(8);
        let dealing =
            Dealing { labels: &labels, groups: &groups, shares: &[0.7, 0.3], training_first: true, seed: 1 };
        let mut counts = Counts::new(&dealing.units(), &dealing);
        counts.add(&[(0, 1)], 0);
        counts.add(&[(1, 2)], 1);
        for (unit, part) in [(&[(0, 2), (1, 1)][..], 0), (&[(1, 2)], 1), (&[(0, 1)], 1)] {
            let (before, grows) = (counts.cost_of(unit).statistic, counts.statistic_with(unit, part));
            counts.add(unit, part);
            let after = counts.cost_of(unit).statistic;
            assert!((after - before - grows).abs() < 1e-12, "{before} and {grows}, but {after}");
            counts.remove(unit, part);
        }
    }
}
