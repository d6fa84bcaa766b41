//! Parzen estimators: mixtures of products of one kernel a parameter.

mod estimate;

use self::estimate::Estimate;
use super::{Bandwidth, truncnorm};
use crate::math::{self, NETWORK, argsort, np_exp, np_log};
use crate::random::RandomState;
use crate::space::Distribution;

/// Settings of an estimator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) prior_weight: f64,
    pub(super) magic_clip: bool,
    pub(super) consider_endpoints: bool,
    /// Whether parameters are drawn together.
    pub(super) together: bool,
    pub(super) bandwidth: Bandwidth,
    pub(super) weights: fn(usize) -> Vec<f64>,
}

/// One weighted kernel for each observation, and one for the prior, which is the last.
pub(super) struct Mixture {
    weights: Vec<f64>,
    dims: Vec<Kernels>,
}

/// The kernels' factors for one parameter.
enum Kernels {
    /// The probability of each choice, kernel by kernel.
    Categorical { probabilities: Vec<f64>, n_choices: usize },
    /// Normals cut off at the range's ends, in the logarithm where the range is logarithmic.
    /// `order` sorts them by `mu`; it is empty where they were not sorted.
    Numeric { mu: Vec<f64>, sigma: Vec<f64>, range: Range, order: Vec<usize> },
}

#[derive(Clone, Copy)]
struct Range {
    low: f64,
    high: f64,
    /// 0 for a continuous range.
    step: f64,
    log: bool,
}

impl Range {
    /// Where the normals are cut off: half a step beyond the range.
    fn ends(&self) -> (f64, f64) {
        let half = self.step / 2.0;
        (self.scale(self.low - half), self.scale(self.high + half))
    }

    fn scale(&self, x: f64) -> f64 {
        if self.log { np_log(x) } else { x }
    }
}

impl Mixture {
    /// The estimator of a space from the observations of each of its parameters, in internal form, or the logarithm of
    /// that where the range is logarithmic.
    ///
    /// `sorted` has the indices of a single parameter's observations, ascending by value, where the caller knows them; if some are
    /// missing, it is not used. `weights` are those of the observations, where they are not the shape's.
    pub(super) fn new(
        space: &[&Distribution],
        observations: &[Vec<f64>],
        sorted: Option<Vec<usize>>,
        weights: Option<Vec<f64>>,
        shape: &Shape,
    ) -> Self {
        let n = observations.first().map_or(0, Vec::len);
        let mut weights = if n == 0 { Vec::new() } else { weights.unwrap_or_else(|| (shape.weights)(n)) };
        weights.truncate(n);
        weights.push(if n == 0 { 1.0 } else { shape.prior_weight });
        let total = math::sum(&weights);
        weights.iter_mut().for_each(|w| *w /= total);
        let dims = space
            .iter()
            .zip(observations)
            .map(|(distribution, seen)| match **distribution {
                Distribution::Categorical { ref choices } => categorical(choices.len(), seen, shape),
                Distribution::Float { low, high, step, log } => numeric(
                    Range { low, high, step: step.unwrap_or(0.0), log },
                    seen,
                    space.len(),
                    sorted.as_deref(),
                    shape,
                ),
                Distribution::Int { low, high, step, log } => {
                    let range = Range { low: low as f64, high: high as f64, step: step as f64, log };
                    numeric(range, seen, space.len(), sorted.as_deref(), shape)
                }
            })
            .collect();
        Self { weights, dims }
    }

    /// `size` samples, parameter by parameter.
    pub(super) fn sample(&self, rng: &mut RandomState, size: usize) -> Vec<Vec<f64>> {
        let active = rng.choice_weighted(&self.weights, size);
        let mut samples = vec![Vec::new(); self.dims.len()];
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for (dim, samples) in self.dims.iter().zip(&mut samples) {
            match dim {
                Kernels::Categorical { probabilities, n_choices } => {
                    let quantiles: Vec<f64> = (0..size).map(|_| rng.random_sample()).collect();
                    *samples = active
                        .iter()
                        .zip(quantiles)
                        .map(|(&k, q)| pick(&probabilities[k * n_choices..(k + 1) * n_choices], q))
                        .collect();
                }
                Kernels::Numeric { mu, sigma, range, .. } => {
                    let (low, high) = range.ends();
                    a.extend(active.iter().map(|&k| (low - mu[k]) / sigma[k]));
                    b.extend(active.iter().map(|&k| (high - mu[k]) / sigma[k]));
                }
            }
        }
        let quantiles: Vec<f64> = a.iter().map(|_| rng.random_sample()).collect();
        let standard = truncnorm::ppf(&quantiles, &a, &b);
        let mut batches = standard.chunks_exact(size.max(1));
        for (dim, samples) in self.dims.iter().zip(&mut samples) {
            let Kernels::Numeric { mu, sigma, range, .. } = dim else { continue };
            let Some(batch) = batches.next() else { continue };
            *samples = batch
                .iter()
                .zip(&active)
                .map(|(z, &k)| {
                    let x = z * sigma[k] + mu[k];
                    let x = if range.log { np_exp(x) } else { x };
                    if range.step == 0.0 {
                        return x;
                    }
                    let steps = ((x - range.low) / range.step).round_ties_even();
                    (range.low + steps * range.step).max(range.low).min(range.high)
                })
                .collect();
        }
        samples
    }

    /// The log density of each sample, good to nine digits at least, in a fraction of [`Mixture::log_pdf`]'s
    /// time.
    pub(super) fn estimate(&self, samples: &[Vec<f64>]) -> Vec<f64> {
        Estimate::new(self).log_pdf(samples)
    }

    /// The log density of each sample, in the order of operations of Optuna's `log_pdf`.
    pub(super) fn log_pdf(&self, samples: &[Vec<f64>]) -> Vec<f64> {
        let n = self.weights.len();
        let size = samples.first().map_or(0, Vec::len);
        let mut logs = vec![0.0; size * n];
        let mut continuous = Vec::new();
        for (dim, samples) in self.dims.iter().zip(samples) {
            match dim {
                Kernels::Categorical { probabilities, n_choices } => {
                    for (row, &x) in logs.chunks_exact_mut(n).zip(samples) {
                        for (k, log) in row.iter_mut().enumerate() {
                            *log += np_log(probabilities[k * n_choices + x as usize]);
                        }
                    }
                }
                Kernels::Numeric { mu, sigma, range, .. } if range.step != 0.0 => {
                    let (low, high) = range.ends();
                    let half = range.step / 2.0;
                    let mass = |(&mu, &sigma): (&f64, &f64)| {
                        truncnorm::log_mass((low - mu) / sigma, (high - mu) / sigma)
                    };
                    let masses: Vec<f64> = mu.iter().zip(sigma).map(mass).collect();
                    for (row, &x) in logs.chunks_exact_mut(n).zip(samples) {
                        let (left, right) = (range.scale(x - half), range.scale(x + half));
                        for (k, log) in row.iter_mut().enumerate() {
                            let (mu, sigma) = (mu[k], sigma[k]);
                            *log += truncnorm::log_mass((left - mu) / sigma, (right - mu) / sigma);
                            *log -= masses[k];
                        }
                    }
                }
                Kernels::Numeric { mu, sigma, range, .. } => {
                    let (low, high) = range.ends();
                    let kernels: Vec<_> = mu
                        .iter()
                        .zip(sigma)
                        .map(|(&mu, &sigma)| {
                            let (a, b) = ((low - mu) / sigma, (high - mu) / sigma);
                            (mu, sigma, a, b, truncnorm::log_mass(a, b), np_log(sigma))
                        })
                        .collect();
                    continuous.push((kernels, samples.iter().map(|&x| range.scale(x)).collect::<Vec<f64>>()));
                }
            }
        }
        let mut terms = vec![0.0; continuous.len()];
        let mut out = Vec::with_capacity(size);
        for (i, row) in logs.chunks_exact_mut(n).enumerate() {
            for (k, log) in row.iter_mut().enumerate() {
                for (term, (kernels, x)) in terms.iter_mut().zip(&continuous) {
                    let (mu, sigma, a, b, log_mass, log_sigma) = kernels[k];
                    let z = (x[i] - mu) / sigma;
                    *term = if a == b {
                        f64::NAN
                    } else if z < a || z > b {
                        f64::NEG_INFINITY
                    } else {
                        truncnorm::log_pdf(z) - log_mass - log_sigma
                    };
                }
                *log += math::sum(&terms);
                *log += np_log(self.weights[k]);
            }
            let max =
                row.iter().copied().fold(f64::NEG_INFINITY, |m, x| if m.is_nan() || x <= m { m } else { x });
            let max = if max == f64::NEG_INFINITY { 0.0 } else { max };
            row.iter_mut().for_each(|x| *x = np_exp(*x - max));
            out.push(np_log(math::sum(row)) + max);
        }
        out
    }
}

/// The first choice whose cumulative probability reaches the quantile.
fn pick(probabilities: &[f64], quantile: f64) -> f64 {
    let mut cumulative = 0.0;
    for (i, p) in probabilities[..probabilities.len() - 1].iter().enumerate() {
        cumulative += p;
        if cumulative >= quantile {
            return i as f64;
        }
    }
    (probabilities.len() - 1) as f64
}

fn categorical(n_choices: usize, seen: &[f64], shape: &Shape) -> Kernels {
    let n_kernels = seen.len() + 1;
    if seen.is_empty() {
        return Kernels::Categorical { probabilities: vec![1.0 / n_choices as f64; n_choices], n_choices };
    }
    let mut probabilities = vec![shape.prior_weight / n_kernels as f64; n_kernels * n_choices];
    for (row, &choice) in probabilities.chunks_exact_mut(n_choices).zip(seen) {
        row[choice as usize] += 1.0;
    }
    for row in probabilities.chunks_exact_mut(n_choices) {
        let total = math::sum(row);
        row.iter_mut().for_each(|p| *p /= if total == 0.0 { 1.0 } else { total });
    }
    Kernels::Categorical { probabilities, n_choices }
}

fn numeric(range: Range, seen: &[f64], n_dims: usize, sorted: Option<&[usize]>, shape: &Shape) -> Kernels {
    let (low, high) = range.ends();
    let width = high - low;
    let n = seen.len();
    let mut mu = seen.to_vec();
    mu.push(0.5 * (low + high));
    let mut order = Vec::new();
    let mut sigma = match shape.bandwidth {
        Bandwidth::Optuna4 if shape.together => {
            let exponent = -1.0 / (n_dims as f64 + 4.0);
            vec![0.2 * (n.max(1) as f64).powf(exponent) * width; n]
        }
        Bandwidth::Optuna4 => {
            order = with_last(sorted, &mu).unwrap_or_else(|| argsort(&mu));
            neighbor_distances(&mu, &order, low, high, shape.consider_endpoints)
        }
        Bandwidth::Optuna5 => {
            let observed = &mu[..n];
            neighbor_distances(observed, &argsort(observed), low, high, shape.consider_endpoints)
        }
    };
    sigma.truncate(n);
    let least = if shape.magic_clip { width / (1.0 + (n as f64 + 1.0)).min(100.0) } else { 1e-12 };
    sigma.iter_mut().for_each(|s| *s = s.max(least).min(width));
    sigma.push(width);
    Kernels::Numeric { mu, sigma, range, order }
}

/// The order of `mu` from that of all but its last. `None` where that is not known of them all, or where NumPy's order of ties
/// is another.
fn with_last(sorted: Option<&[usize]>, mu: &[f64]) -> Option<Vec<usize>> {
    let last = mu.len().checked_sub(1)?;
    let sorted = sorted.filter(|sorted| sorted.len() == last && mu.len() > NETWORK)?;
    let place = sorted.partition_point(|&k| mu[k] <= mu[last]);
    let mut order = Vec::with_capacity(mu.len());
    order.extend_from_slice(&sorted[..place]);
    order.push(last);
    order.extend_from_slice(&sorted[place..]);
    Some(order)
}

/// The greater of the distances to the neighbors on both sides.
fn neighbor_distances(
    mu: &[f64],
    order: &[usize],
    low: f64,
    high: f64,
    consider_endpoints: bool,
) -> Vec<f64> {
    let last = order.len().saturating_sub(1);
    let mut distances = vec![0.0; mu.len()];
    for (place, &k) in order.iter().enumerate() {
        let below = if place == 0 { low } else { mu[order[place - 1]] };
        let above = if place == last { high } else { mu[order[place + 1]] };
        let (left, right) = (mu[k] - below, above - mu[k]);
        distances[k] = if consider_endpoints || last == 0 {
            left.max(right)
        } else if place == 0 {
            right
        } else if place == last {
            left
        } else {
            left.max(right)
        };
    }
    distances
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value of the distribution, equal ones among them where it has steps.
    fn draw(distribution: &Distribution, rng: &mut RandomState) -> f64 {
        let stepped = |low: f64, high: f64, step: f64, rng: &mut RandomState| {
            low + step * rng.randint(0, ((high - low) / step) as i64 + 1).unwrap() as f64
        };
        match *distribution {
            Distribution::Float { low, high, step: Some(step), .. } => stepped(low, high, step, rng),
            Distribution::Float { low, high, .. } => rng.uniform(low, high),
            Distribution::Int { low, high, step, .. } => stepped(low as f64, high as f64, step as f64, rng),
            Distribution::Categorical { ref choices } => rng.randint(0, choices.len() as i64).unwrap() as f64,
        }
    }

    #[test]
    fn estimates_are_the_exact_densities_to_nine_digits() {
        let float = |step, log| Distribution::Float { low: 0.5, high: 8.0, step, log };
        let int = |step, log| Distribution::Int { low: 1, high: 65, step, log };
        let spaces = [
            vec![float(None, false)],
            vec![float(None, true)],
            vec![float(Some(0.5), false)],
            vec![int(16, false)],
            vec![int(1, true)],
            vec![float(None, false), int(1, true), float(None, true), int(16, false)],
        ];
        let mut rng = RandomState::new(3);
        for space in &spaces {
            for n in [0, 3, 40, 300] {
                let scaled = |d: &Distribution, x: f64| match d {
                    Distribution::Float { log: true, .. } | Distribution::Int { log: true, .. } => np_log(x),
                    _ => x,
                };
                let seen: Vec<Vec<f64>> =
                    space.iter().map(|d| (0..n).map(|_| scaled(d, draw(d, &mut rng))).collect()).collect();
                let shape = Shape {
                    prior_weight: 1.0,
                    magic_clip: true,
                    consider_endpoints: false,
                    together: space.len() > 1,
                    bandwidth: Bandwidth::Optuna4,
                    weights: |n| (1..=n).map(|i| i as f64).collect(),
                };
                let mixture = Mixture::new(&space.iter().collect::<Vec<_>>(), &seen, None, None, &shape);
                let samples: Vec<Vec<f64>> =
                    space.iter().map(|d| (0..30).map(|_| draw(d, &mut rng)).collect()).collect();
                let (exact, estimates) = (mixture.log_pdf(&samples), mixture.estimate(&samples));
                let constant = estimates[0] - exact[0];
                for (exact, estimate) in exact.iter().zip(estimates) {
                    let difference = estimate - exact - constant;
                    assert!(difference.abs() < 2e-9, "{space:?} with {n}: {difference:e}");
                }
            }
        }
    }
}
