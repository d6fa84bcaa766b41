//! Confidence intervals of shares.

/// The 95 % confidence interval of a share, `right` of `n` (Wilson 1927, without continuity correction), in [0, 1]. It holds for
/// few examples and for shares near 0 and 1. (0, 1) for n = 0.
///
/// ```
/// // 38 of 40 recognized: the true accuracy may well be 84 %.
/// let (low, high) = firstsight_train::wilson_interval(38, 40);
/// assert!((low - 0.8350).abs() < 1e-4 && (high - 0.9862).abs() < 1e-4);
/// ```
pub fn wilson_interval(right: usize, n: usize) -> (f64, f64) {
    /// The 97.5 % quantile of the normal distribution.
    const Z: f64 = 1.959_963_984_540_054;
    if n == 0 {
        return (0.0, 1.0);
    }
    let (share, n) = (right as f64 / n as f64, n as f64);
    let center = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    (((center - half) / scale).max(0.0), ((center + half) / scale).min(1.0))
}
