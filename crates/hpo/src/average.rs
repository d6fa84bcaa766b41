//! An objective averaged over seeds, to tell a good configuration from a lucky seed.

/// The values of an objective at several seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Averaged {
    /// The mean of the values.
    pub mean: f64,
    /// The standard error of the mean; NaN for one value.
    pub standard_error: f64,
    /// The values, in the order of the seeds.
    pub values: Vec<f64>,
}

/// Evaluates the objective once per seed. Without seeds, the mean is NaN.
///
/// # Errors
///
/// The first error of the objective.
///
/// ```
/// use firstsight_hpo::over_seeds;
/// let averaged = over_seeds([1, 2, 3], |seed| Ok::<_, std::io::Error>(seed as f64))?;
/// assert_eq!(averaged.mean, 2.0);
/// assert!((averaged.standard_error - (1.0_f64 / 3.0).sqrt()).abs() < 1e-15);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn over_seeds<E>(
    seeds: impl IntoIterator<Item = u64>,
    objective: impl FnMut(u64) -> Result<f64, E>,
) -> Result<Averaged, E> {
    let values = seeds.into_iter().map(objective).collect::<Result<Vec<f64>, E>>()?;
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Ok(Averaged { mean, standard_error: (variance / n).sqrt(), values })
}

#[cfg(test)]
mod tests {
    use super::over_seeds;

    #[test]
    fn the_error_of_the_mean_has_a_degree_of_freedom_less_than_values() {
        let of = |values: &[f64]| {
            let at = |seed| Ok::<_, std::io::Error>(values[seed as usize]);
            over_seeds(0..values.len() as u64, at).unwrap()
        };
        let averaged = of(&[1.0, 2.0, 3.0, 6.0]);
        assert_eq!((averaged.mean, &averaged.values[..]), (3.0, &[1.0, 2.0, 3.0, 6.0][..]));
        assert!((averaged.standard_error - (14.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-15);
        assert!(of(&[5.0]).standard_error.is_nan() && of(&[]).mean.is_nan());
    }
}
