//! NumPy's legacy random numbers, draw for draw.
//!
//! `RandomState` of NumPy is frozen: the same seed gives the same numbers in every release. It is MT19937
//! with the draws of `numpy/random/src/legacy` and `_mt19937.pyx`.

use rand_mt::Mt;

/// NumPy's `numpy.random.RandomState(seed)`.
///
/// ```
/// use firstsight_hpo::RandomState;
/// let mut rng = RandomState::new(123);
/// assert_eq!(rng.random_sample(), 0.6964691855978616); // numpy.random.RandomState(123).random_sample()
/// ```
#[derive(Clone, Debug)]
pub struct RandomState {
    mt: Mt,
    /// The second deviate of the polar method's pair, kept for the next call as NumPy keeps it.
    gauss: Option<f64>,
}

impl RandomState {
    /// A generator seeded as `RandomState(seed)`.
    pub fn new(seed: u32) -> Self {
        Self { mt: Mt::new(seed), gauss: None }
    }

    /// A float in [0, 1) with 53 random bits: `random_sample()`, `rand()`, `uniform()`.
    pub fn random_sample(&mut self) -> f64 {
        let a = f64::from(self.mt.next_u32() >> 5);
        let b = f64::from(self.mt.next_u32() >> 6);
        (a * 67_108_864.0 + b) / 9_007_199_254_740_992.0
    }

    /// A float in [low, high): `uniform(low, high)`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.random_sample()
    }

    /// An integer in [0, max], by masked rejection: what `randint(0, max + 1)` and `shuffle` draw.
    pub fn interval(&mut self, max: u64) -> u64 {
        if max == 0 {
            return 0;
        }
        let mask = u64::MAX >> max.leading_zeros();
        loop {
            let value = if max <= u64::from(u32::MAX) {
                u64::from(self.mt.next_u32())
            } else {
                (u64::from(self.mt.next_u32()) << 32) | u64::from(self.mt.next_u32())
            } & mask;
            if value <= max {
                return value;
            }
        }
    }

    /// An integer in [low, high): `randint(low, high)`. `None` if the interval is empty.
    pub fn randint(&mut self, low: i64, high: i64) -> Option<i64> {
        let span = high.checked_sub(low).filter(|&span| span > 0)?;
        Some(low + self.interval(span as u64 - 1) as i64)
    }

    /// `size` indices drawn with the given probabilities, which must sum to 1: `choice(len, size, p=p)`.
    pub fn choice_weighted(&mut self, p: &[f64], size: usize) -> Vec<usize> {
        let mut cdf: Vec<f64> = p
            .iter()
            .scan(0.0, |sum, &p| {
                *sum += p;
                Some(*sum)
            })
            .collect();
        let total = cdf.last().copied().unwrap_or(1.0);
        cdf.iter_mut().for_each(|c| *c /= total);
        (0..size)
            .map(|_| {
                let u = self.random_sample();
                cdf.partition_point(|&c| c <= u)
            })
            .collect()
    }

    /// Shuffles in place: `shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.interval(i as u64) as usize);
        }
    }

    /// The numbers from 0 to `n` - 1 in random order: `permutation(n)`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        self.shuffle(&mut order);
        order
    }

    /// A standard normal deviate by the polar method: `standard_normal()`, `randn()`.
    pub fn standard_normal(&mut self) -> f64 {
        if let Some(kept) = self.gauss.take() {
            return kept;
        }
        loop {
            let x = 2.0 * self.random_sample() - 1.0;
            let y = 2.0 * self.random_sample() - 1.0;
            let r2 = x * x + y * y;
            if r2 < 1.0 && r2 != 0.0 {
                let f = (-2.0 * r2.ln() / r2).sqrt();
                self.gauss = Some(f * x);
                return f * y;
            }
        }
    }
}
