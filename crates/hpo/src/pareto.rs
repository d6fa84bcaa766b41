//! Several objectives: non-dominated sorting, hypervolume and the choice of a subset by it.
//!
//! Losses are rows, a number for each objective, and smaller is better. The order of operations is that of Optuna 4.8 and 5.0, whose
//! last bits decide ties. Sources: Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE Trans. Evol.
//! Comput. 6 (2002), for ranks; While et al., A fast way of calculating exact hypervolumes, IEEE Trans. Evol. Comput. 16 (2012);
//! Guerreiro et al., Greedy hypervolume subset selection in low dimensions, Evol. Comput. 24 (2016).

use std::cmp::Ordering;

use crate::math::{argmax, argsort, order};

/// A row of losses.
pub(crate) type Losses = Vec<f64>;

/// The least difference from 0 that Optuna's TPE tells apart.
const EPS: f64 = 1e-12;

/// Rows in lexical order without repetitions, the place of each given row among them, and that of the first equal one.
struct Unique {
    rows: Vec<Losses>,
    place_of: Vec<usize>,
    first: Vec<usize>,
}

fn lexical(a: &[f64], b: &[f64]) -> Ordering {
    let differ = a.iter().zip(b).map(|(a, b)| order(*a, *b));
    differ.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn unique(rows: &[Losses]) -> Unique {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| lexical(&rows[a], &rows[b]));
    let mut found = Unique { rows: Vec::new(), place_of: vec![0; rows.len()], first: Vec::new() };
    for i in order {
        if found.rows.last().is_none_or(|last| lexical(last, &rows[i]).is_ne()) {
            found.rows.push(rows[i].clone());
            found.first.push(i);
        }
        found.place_of[i] = found.rows.len() - 1;
    }
    found
}

/// Whether each row is on the front, of rows that are sorted by their first loss. Of equal ones the first is.
fn front_of_sorted(rows: &[Losses]) -> Vec<bool> {
    let mut on_front = vec![false; rows.len()];
    let mut rest: Vec<usize> = (0..rows.len()).collect();
    while let Some(&next) = rest.first() {
        on_front[next] = true;
        rest.retain(|&i| rows[i].iter().zip(&rows[next]).skip(1).any(|(a, b)| a < b));
    }
    on_front
}

/// Whether each row is on the Pareto front: no other is as good everywhere and better somewhere.
pub(crate) fn front(rows: &[Losses]) -> Vec<bool> {
    let unique = unique(rows);
    let on_front = front_of_sorted(&unique.rows);
    unique.place_of.iter().map(|&place| on_front[place]).collect()
}

/// The rank of each row: 0 on the front, 1 on the front of the rest, and so on until `n_below` rows have theirs; the others have
/// the next one.
pub(crate) fn ranks(rows: &[Losses], n_below: usize) -> Vec<usize> {
    let Unique { rows: mut rest, place_of, .. } = unique(rows);
    let n_unique = rest.len();
    let n_below = n_below.min(n_unique);
    let mut ranks = vec![0; n_unique];
    let mut places: Vec<usize> = (0..n_unique).collect();
    let mut rank = 0;
    while n_unique - places.len() < n_below {
        let on_front = front_of_sorted(&rest);
        places.iter().zip(&on_front).filter(|(_, on)| **on).for_each(|(&place, _)| ranks[place] = rank);
        let mut keep = on_front.iter().map(|on| !on);
        places.retain(|_| keep.next().unwrap_or(false));
        let mut keep = on_front.iter().map(|on| !on);
        rest.retain(|_| keep.next().unwrap_or(false));
        rank += 1;
    }
    places.iter().for_each(|&place| ranks[place] = rank);
    place_of.iter().map(|&place| ranks[place]).collect()
}

/// Somewhat worse than the worst row in each objective.
fn reference_point(rows: &[Losses]) -> Losses {
    let worst = |objective: usize| rows.iter().map(|row| row[objective]).fold(f64::NEG_INFINITY, f64::max);
    let n = rows.first().map_or(0, Vec::len);
    let point = (0..n).map(worst).map(|worst| (1.1 * worst).max(0.9 * worst));
    point.map(|x| if x == 0.0 { EPS } else { x }).collect()
}

/// The indices of the `n` best rows: by rank, and within the last rank by the hypervolume that they add.
pub(crate) fn best(rows: &[Losses], n: usize) -> Vec<usize> {
    if n == 0 || n >= rows.len() {
        return (0..n.min(rows.len())).collect();
    }
    let ranks = ranks(rows, n);
    let count = |rank: usize| ranks.iter().filter(|r| **r == rank).count();
    let (mut whole, mut rank) = (0, 0);
    while whole + count(rank) <= n && whole < n {
        whole += count(rank);
        rank += 1;
    }
    let mut chosen: Vec<usize> = (0..rows.len()).filter(|&i| ranks[i] < rank).collect();
    if chosen.len() < n {
        let tied: Vec<usize> = (0..rows.len()).filter(|&i| ranks[i] == rank).collect();
        let losses: Vec<Losses> = tied.iter().map(|&i| rows[i].clone()).collect();
        let point = reference_point(&losses);
        chosen.extend(subset(&losses, n - chosen.len(), &point).into_iter().map(|i| tied[i]));
    }
    chosen
}

/// The indices of `size` rows, each chosen for the hypervolume that it adds to those before.
fn subset(rows: &[Losses], size: usize, point: &[f64]) -> Vec<usize> {
    if size == rows.len() {
        return (0..size).collect();
    }
    let Unique { rows: distinct, first, .. } = unique(rows);
    if distinct.len() < size {
        let mut chosen = vec![false; rows.len()];
        first.iter().for_each(|&i| chosen[i] = true);
        let repeated: Vec<usize> = (0..rows.len()).filter(|&i| !chosen[i]).collect();
        repeated.into_iter().take(size - distinct.len()).for_each(|i| chosen[i] = true);
        return (0..rows.len()).filter(|&i| chosen[i]).collect();
    }
    let chosen: Vec<usize> = if distinct.len() == size || !point.iter().all(|x| x.is_finite()) {
        (0..size).collect()
    } else if point.len() == 2 {
        subset_2d(&distinct, size, point)
    } else {
        subset_nd(&distinct, size, point)
    };
    chosen.into_iter().map(|i| first[i]).collect()
}

/// The part of row `a` that row `b` covers too: the worse of both in each objective.
fn cut(a: &[f64], b: &[f64]) -> Losses {
    a.iter().zip(b).map(|(a, b)| a.max(*b)).collect()
}

/// The product of the differences, from the first objective on.
fn volume(point: &[f64], row: &[f64]) -> f64 {
    let mut edges = point.iter().zip(row).map(|(p, x)| p - x);
    let first = edges.next().unwrap_or(1.0);
    edges.fold(first, |product, edge| product * edge)
}

fn subset_2d(rows: &[Losses], size: usize, point: &[f64]) -> Vec<usize> {
    let mut left: Vec<usize> = (0..rows.len()).collect();
    let mut corners = vec![[point[0], point[1]]; rows.len()];
    let mut chosen = Vec::with_capacity(size);
    for _ in 0..size {
        let volumes: Vec<f64> =
            left.iter().zip(&corners).map(|(&i, corner)| volume(corner, &rows[i])).collect();
        let place = argmax(&volumes);
        let row = &rows[left[place]];
        chosen.push(left.remove(place));
        corners.remove(place);
        corners[..place].iter_mut().for_each(|corner| corner[0] = corner[0].min(row[0]));
        corners[place..].iter_mut().for_each(|corner| corner[1] = corner[1].min(row[1]));
    }
    chosen
}

fn subset_nd(rows: &[Losses], size: usize, point: &[f64]) -> Vec<usize> {
    let mut left: Vec<usize> = (0..rows.len()).collect();
    let mut gains: Vec<f64> = rows.iter().map(|row| volume(point, row)).collect();
    let (mut chosen, mut chosen_rows, mut total) = (Vec::new(), Vec::<Losses>::new(), 0.0);
    for k in 0..size {
        let place = argmax(&gains);
        total += gains.remove(place);
        let i = left.remove(place);
        chosen.push(i);
        chosen_rows.push(rows[i].clone());
        if k + 1 < size {
            let candidates: Vec<&Losses> = left.iter().map(|&i| &rows[i]).collect();
            update_gains(&mut gains, &candidates, &chosen_rows, point, total);
        }
    }
    chosen
}

/// What each candidate adds to the chosen ones. Bounds that suffice to tell that it is not the greatest stay bounds.
fn update_gains(gains: &mut [f64], candidates: &[&Losses], chosen: &[Losses], point: &[f64], total: f64) {
    if total.is_infinite() {
        gains.fill(f64::INFINITY);
        return;
    }
    let alone: Vec<f64> = candidates.iter().map(|row| volume(point, row)).collect();
    let Some(last) = chosen.last() else { return };
    for ((gain, row), alone) in gains.iter_mut().zip(candidates).zip(&alone) {
        *gain = gain.min(alone - volume(point, &cut(row, last)));
    }
    let mut greatest = 0.0_f64;
    let negated: Vec<f64> = gains.iter().map(|gain| -gain).collect();
    for i in argsort(&negated) {
        if alone[i].is_infinite() {
            gains[i] = f64::INFINITY;
            greatest = f64::INFINITY;
            continue;
        }
        if gains[i] < greatest {
            continue;
        }
        gains[i] = if point.len() <= 3 {
            let with: Vec<Losses> = chosen.iter().cloned().chain([candidates[i].clone()]).collect();
            hypervolume(&with, point, true) - total
        } else {
            let cuts: Vec<Losses> = chosen.iter().map(|row| cut(candidates[i], row)).collect();
            alone[i] - hypervolume(&cuts, point, false)
        };
        greatest = greatest.max(gains[i]);
    }
}

/// The volume between the rows and a point that none exceeds. `is_front` says that no row is behind another.
fn hypervolume(rows: &[Losses], point: &[f64], is_front: bool) -> f64 {
    if !point.iter().all(|x| x.is_finite()) {
        return f64::INFINITY;
    }
    if rows.is_empty() {
        return 0.0;
    }
    let sorted: Vec<Losses> = if is_front {
        let first: Vec<f64> = rows.iter().map(|row| row[0]).collect();
        argsort(&first).into_iter().map(|i| rows[i].clone()).collect()
    } else {
        let distinct = unique(rows).rows;
        let on_front = front_of_sorted(&distinct);
        distinct.into_iter().zip(on_front).filter(|(_, on)| *on).map(|(row, _)| row).collect()
    };
    let found = match point.len() {
        2 => volume_2d(&sorted, point),
        3 => volume_3d(&sorted, point),
        _ => volume_nd(&sorted, point),
    };
    if found.is_finite() { found } else { f64::INFINITY }
}

fn volume_2d(rows: &[Losses], point: &[f64]) -> f64 {
    let above = std::iter::once(point[1]).chain(rows.iter().map(|row| row[1]));
    let edges: Vec<(f64, f64)> =
        rows.iter().zip(above).map(|(row, above)| (point[0] - row[0], above - row[1])).collect();
    dot(edges.into_iter())
}

/// The rows' projections on the first two objectives cut the plane into cells; over each lies the highest of the rows below it.
fn volume_3d(rows: &[Losses], point: &[f64]) -> f64 {
    let n = rows.len();
    let ys: Vec<f64> = rows.iter().map(|row| row[1]).collect();
    let by_y = argsort(&ys);
    let mut heights = vec![vec![0.0; n]; n];
    for (column, &row) in by_y.iter().enumerate() {
        heights[row][column] = point[2] - rows[row][2];
    }
    for x in 1..n {
        let (before, from) = heights.split_at_mut(x);
        for (height, before) in from[0].iter_mut().zip(&before[x - 1]) {
            *height = height.max(*before);
        }
    }
    for row in &mut heights {
        for y in 1..n {
            row[y] = row[y].max(row[y - 1]);
        }
    }
    let widths = |values: &[f64], end: f64| -> Vec<f64> {
        (0..n).map(|i| values.get(i + 1).copied().unwrap_or(end) - values[i]).collect()
    };
    let xs: Vec<f64> = rows.iter().map(|row| row[0]).collect();
    let ys: Vec<f64> = by_y.iter().map(|&i| ys[i]).collect();
    let (dx, dy) = (widths(&xs, point[0]), widths(&ys, point[1]));
    let areas: Vec<f64> =
        heights.iter().map(|row| dot(row.iter().copied().zip(dy.iter().copied()))).collect();
    dot(areas.into_iter().zip(dx))
}

/// A scalar product, one product after the other.
fn dot(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    pairs.fold(0.0, |total, (a, b)| total + a * b)
}

fn volume_nd(rows: &[Losses], point: &[f64]) -> f64 {
    match rows {
        [row] => point.iter().zip(row).fold(1.0, |product, (p, x)| product * (p - x)),
        [a, b] => {
            let (mut of_a, mut of_b, mut of_both) = (1.0, 1.0, 1.0);
            for ((p, a), b) in point.iter().zip(a).zip(b) {
                of_a *= p - a;
                of_b *= p - b;
                of_both *= p - if b > a { b } else { a };
            }
            of_a + of_b - of_both
        }
        _ => {
            let alone: Vec<f64> = rows.iter().map(|row| volume(point, row)).collect();
            let last = alone.len() - 1;
            let exclusive = |i: usize| {
                let cuts: Vec<Losses> = rows[i + 1..].iter().map(|row| cut(&rows[i], row)).collect();
                alone[i] - volume_of_cuts(cuts, point)
            };
            alone[last] + (0..last).map(exclusive).fold(0.0, |total, volume| total + volume)
        }
    }
}

fn volume_of_cuts(cuts: Vec<Losses>, point: &[f64]) -> f64 {
    if cuts.len() <= 3 {
        return volume_nd(&cuts, point);
    }
    let on_front = front_of_sorted(&cuts);
    let front: Vec<Losses> =
        cuts.into_iter().zip(on_front).filter(|(_, on)| *on).map(|(row, _)| row).collect();
    volume_nd(&front, point)
}

/// The weights of good trials in Optuna 4's estimator: what each adds to the hypervolume of the others, relative to the greatest, and
/// next to nothing for those that are not on the front.
pub(crate) fn weights(rows: &[Losses]) -> Vec<f64> {
    let n = rows.len();
    if n <= 1 {
        return vec![1.0; n];
    }
    let point = reference_point(rows);
    let on_front = front(rows);
    let places: Vec<usize> = (0..n).filter(|&i| on_front[i]).collect();
    let solutions: Vec<Losses> = places.iter().map(|&i| rows[i].clone()).collect();
    let total = hypervolume(&solutions, &point, true);
    if total.is_infinite() {
        return vec![1.0; n];
    }
    let mut gains = vec![0.0; n];
    for (k, &place) in places.iter().enumerate() {
        let others = solutions.iter().enumerate().filter(|(other, _)| *other != k).map(|(_, row)| row);
        gains[place] = if point.len() <= 3 {
            total - hypervolume(&others.cloned().collect::<Vec<_>>(), &point, true)
        } else {
            let cuts: Vec<Losses> = others.map(|row| cut(row, &solutions[k])).collect();
            volume(&point, &solutions[k]) - hypervolume(&cuts, &point, false)
        };
    }
    let greatest = gains.iter().copied().fold(f64::NEG_INFINITY, f64::max).max(EPS);
    gains.iter().map(|gain| (gain / greatest).max(EPS)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// What Optuna makes of the same losses: `tests/goldens/make_pareto.py`.
    #[test]
    fn ranks_fronts_subsets_volumes_and_weights_are_optunas() {
        let text = std::fs::read_to_string("tests/goldens/pareto.json").unwrap();
        let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
        let number = |x: &Value| x.as_f64().unwrap_or(f64::INFINITY);
        let numbers = |x: &Value| -> Vec<usize> {
            x.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect()
        };
        let near = |a: f64, b: f64| a == b || (a - b).abs() <= 1e-12 * b.abs().max(1.0);
        let (mut exact, mut all) = (0, 0);
        for (n, case) in cases.iter().enumerate() {
            let rows: Vec<Losses> = case["losses"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row.as_array().unwrap().iter().map(number).collect())
                .collect();
            let below = case["below"].as_u64().unwrap() as usize;
            assert_eq!(ranks(&rows, below), numbers(&case["ranks"]), "ranks of case {n}");
            let on_front: Vec<bool> =
                case["front"].as_array().unwrap().iter().map(|x| x.as_bool().unwrap()).collect();
            assert_eq!(front(&rows), on_front, "front of case {n}");
            let point = reference_point(&rows);
            let best: Vec<Losses> =
                rows.iter().zip(&on_front).filter(|(_, on)| **on).map(|(row, _)| row.clone()).collect();
            let size = case["size"].as_u64().unwrap() as usize;
            let chosen = subset(&best, size, &reference_point(&best));
            assert_eq!(chosen, numbers(&case["subset"]), "subset of case {n}");
            let (ours, theirs) = (hypervolume(&rows, &point, false), number(&case["volume"]));
            assert!(near(ours, theirs), "volume of case {n}: {ours} for {theirs}");
            (exact, all) = (exact + usize::from(ours == theirs), all + 1);
            for (ours, theirs) in weights(&rows).into_iter().zip(case["weights"].as_array().unwrap()) {
                let theirs = number(theirs);
                assert!(near(ours, theirs), "weights of case {n}: {ours} for {theirs}");
                (exact, all) = (exact + usize::from(ours == theirs), all + 1);
            }
        }
        println!("{exact} of {all} volumes and weights to the last bit");
        assert_eq!(cases.len(), 60);
    }

    #[test]
    fn the_best_rows_are_those_of_the_first_ranks() {
        let rows = [[0.0, 3.0], [1.0, 1.0], [3.0, 0.0], [2.0, 2.0], [4.0, 4.0]].map(|row| row.to_vec());
        assert_eq!(best(&rows, 3), [0, 1, 2]);
        assert_eq!(best(&rows, 4), [0, 1, 2, 3]);
        assert_eq!(best(&rows, 1), [1], "the one with the largest volume");
        assert_eq!(best(&rows, 0), [0; 0]);
        assert_eq!(best(&rows, 9), [0, 1, 2, 3, 4]);
    }
}
