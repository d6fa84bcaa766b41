//! Search spaces: the ranges of an objective, and their distributions.

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::decimal::Decimal;
use crate::error::{Error, Result};

/// The floats from `low` to `high`, both included.
///
/// ```
/// use firstsight_hpo::FloatRange;
/// let rate = FloatRange::new(1e-5, 1e-1).log();
/// let dropout = FloatRange::new(0.0, 0.5).step(0.1);
/// let slope: FloatRange = (-1.0..=1.0).into();
/// # let _ = (rate, dropout, slope);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloatRange {
    /// The smallest value.
    pub low: f64,
    /// The largest value; with a step that does not divide the range, the last multiple below it.
    pub high: f64,
    /// Whether values are spread evenly in their logarithm; `low` must then be positive.
    pub log: bool,
    /// The distance between neighboring values, for a grid of values; excludes `log`.
    pub step: Option<f64>,
}

impl FloatRange {
    /// A linear range without steps.
    pub fn new(low: f64, high: f64) -> Self {
        Self { low, high, log: false, step: None }
    }

    /// The same range, spread evenly in the logarithm.
    pub fn log(self) -> Self {
        Self { log: true, ..self }
    }

    /// The same range in steps from `low`.
    pub fn step(self, step: f64) -> Self {
        Self { step: Some(step), ..self }
    }
}

impl From<RangeInclusive<f64>> for FloatRange {
    fn from(range: RangeInclusive<f64>) -> Self {
        Self::new(*range.start(), *range.end())
    }
}

/// The integers from `low` to `high`, both included.
///
/// ```
/// use firstsight_hpo::IntRange;
/// let width = IntRange::new(4, 256).log();
/// let batch = IntRange::new(16, 256).step(16);
/// let layers: IntRange = (1..=3).into();
/// # let _ = (width, batch, layers);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntRange {
    /// The smallest value.
    pub low: i64,
    /// The largest value; with a step that does not divide the range, the last multiple below it.
    pub high: i64,
    /// Whether values are spread evenly in their logarithm; `low` must then be at least 1.
    pub log: bool,
    /// The distance between neighboring values; 1 with `log`.
    pub step: i64,
}

impl IntRange {
    /// A linear range of every integer.
    pub fn new(low: i64, high: i64) -> Self {
        Self { low, high, log: false, step: 1 }
    }

    /// The same range, spread evenly in the logarithm.
    pub fn log(self) -> Self {
        Self { log: true, ..self }
    }

    /// The same range in steps from `low`.
    pub fn step(self, step: i64) -> Self {
        Self { step, ..self }
    }
}

impl From<RangeInclusive<i64>> for IntRange {
    fn from(range: RangeInclusive<i64>) -> Self {
        Self::new(*range.start(), *range.end())
    }
}

/// The values that a parameter can take: Optuna's `FloatDistribution`, `IntDistribution`, `CategoricalDistribution`,
/// and, through serde, their JSON.
///
/// A parameter's value is kept in Optuna's internal form, an `f64`: the number itself, or the index of
/// the choice.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "name", content = "attributes", try_from = "Stated")]
pub enum Distribution {
    /// Floats.
    #[serde(rename = "FloatDistribution")]
    Float {
        /// The grid's step.
        step: Option<f64>,
        /// The smallest value.
        low: f64,
        /// The largest value.
        high: f64,
        /// Whether values are spread evenly in their logarithm.
        log: bool,
    },
    /// Integers.
    #[serde(rename = "IntDistribution")]
    Int {
        /// Whether values are spread evenly in their logarithm.
        log: bool,
        /// The grid's step.
        step: i64,
        /// The smallest value.
        low: i64,
        /// The largest value.
        high: i64,
    },
    /// Choices.
    #[serde(rename = "CategoricalDistribution")]
    Categorical {
        /// The choices: null, booleans, numbers or strings.
        choices: Arc<[Value]>,
    },
}

/// A distribution as a file states it, which may be none.
#[derive(Deserialize)]
#[serde(tag = "name", content = "attributes")]
enum Stated {
    #[serde(rename = "FloatDistribution")]
    Float {
        #[serde(default)]
        step: Option<f64>,
        low: f64,
        high: f64,
        #[serde(default)]
        log: bool,
    },
    #[serde(rename = "IntDistribution")]
    Int {
        #[serde(default)]
        log: bool,
        #[serde(default = "one")]
        step: i64,
        low: i64,
        high: i64,
    },
    #[serde(rename = "CategoricalDistribution")]
    Categorical { choices: Arc<[Value]> },
}

fn one() -> i64 {
    1
}

impl TryFrom<Stated> for Distribution {
    type Error = Error;

    fn try_from(stated: Stated) -> Result<Self> {
        const NAME: &str = "in a distribution";
        Ok(match stated {
            Stated::Float { step, low, high, log } => {
                Self::float(NAME, FloatRange { low, high, log, step })?;
                // As it is stated: the same to the last bit.
                Self::Float { step, low, high, log }
            }
            Stated::Int { log, step, low, high } => {
                Self::int(NAME, IntRange { low, high, log, step })?;
                Self::Int { log, step, low, high }
            }
            Stated::Categorical { choices } if choices.is_empty() => {
                return Err(invalid(NAME, "one or more choices", "none".into()));
            }
            Stated::Categorical { choices } => Self::Categorical { choices },
        })
    }
}

impl Distribution {
    /// The distribution of a float parameter.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSpace`] if the ends are not finite, `low > high`, `log` with `low <= 0` or with a
    /// step, or `step <= 0`.
    pub fn float(name: &str, range: FloatRange) -> Result<Self> {
        let FloatRange { low, mut high, log, step } = range;
        let wrong = |rule| Err(invalid(name, rule, format!("low={low:?}, high={high:?}, step={step:?}")));
        if !(low.is_finite() && high.is_finite()) {
            return wrong("finite `low` and `high`");
        }
        if log && step.is_some() {
            return wrong("no `step` with a logarithmic range");
        }
        if low > high {
            return wrong("`low <= high`");
        }
        if log && low <= 0.0 {
            return wrong("`low > 0` for a logarithmic range");
        }
        if let Some(step) = step {
            if !(step > 0.0 && step.is_finite()) {
                return wrong("`step > 0`");
            }
            high = last_step(low, high, step);
        }
        Ok(Self::Float { step, low, high, log })
    }

    /// The distribution of an integer parameter.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSpace`] if `low > high`, `log` with `low < 1` or with a step, or `step <= 0`.
    pub fn int(name: &str, range: IntRange) -> Result<Self> {
        let IntRange { low, high, log, step } = range;
        let wrong = |rule| Err(invalid(name, rule, format!("low={low}, high={high}, step={step}")));
        if log && step != 1 {
            return wrong("`step == 1` for a logarithmic range");
        }
        if low > high {
            return wrong("`low <= high`");
        }
        if log && low < 1 {
            return wrong("`low >= 1` for a logarithmic range");
        }
        if step <= 0 {
            return wrong("`step > 0`");
        }
        let Some(width) = high.checked_sub(low) else {
            return wrong("`high - low` within 64 bits");
        };
        Ok(Self::Int { log, step, low, high: low + width / step * step })
    }

    /// The distribution of a categorical parameter. Choices that JSON has no plain form for (structs,
    /// tuples) are kept as the text of their JSON.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSpace`] if there are no choices, [`Error::Json`] if one cannot be written as JSON.
    pub fn categorical<T: Serialize>(name: &str, choices: &[T]) -> Result<Self> {
        if choices.is_empty() {
            return Err(invalid(name, "one or more choices", "none".into()));
        }
        let plain = |choice: &T| {
            let value = serde_json::to_value(choice)
                .map_err(|source| Error::Json { what: format!("a choice of parameter `{name}`"), source })?;
            Ok(if value.is_array() || value.is_object() { Value::String(value.to_string()) } else { value })
        };
        Ok(Self::Categorical { choices: choices.iter().map(plain).collect::<Result<_>>()? })
    }

    /// Whether there is one value only.
    pub fn is_single(&self) -> bool {
        match self {
            Self::Float { low, high, step: None, .. } => low == high,
            Self::Float { low, high, step: Some(step), .. } => {
                low == high || steps_between(*low, *high, *step) == 0
            }
            Self::Int { low, high, log, step } => low == high || !log && high - low < *step,
            Self::Categorical { choices } => choices.len() == 1,
        }
    }

    /// Whether values are spread evenly in their logarithm.
    pub(crate) fn is_log(&self) -> bool {
        matches!(self, Self::Float { log: true, .. } | Self::Int { log: true, .. })
    }

    /// The internal form of a single value.
    pub(crate) fn first(&self) -> f64 {
        match self {
            Self::Float { low, .. } => *low,
            Self::Int { low, .. } => *low as f64,
            Self::Categorical { .. } => 0.0,
        }
    }

    /// Whether the distribution has the value, given in its internal form.
    pub fn contains(&self, value: f64) -> bool {
        match self {
            Self::Float { low, high, step, .. } => {
                let inside = *low <= value && value <= *high;
                inside
                    && step.is_none_or(|step| {
                        let k = (value - low) / step;
                        (k - k.round_ties_even()).abs() < 1e-8
                    })
            }
            Self::Int { low, high, step, .. } => {
                let (low, high) = (*low as f64, *high as f64);
                low <= value && value <= high && (value - low) % *step as f64 == 0.0
            }
            Self::Categorical { choices } => value > -1.0 && value < choices.len() as f64,
        }
    }

    /// The value itself, from its internal form.
    pub fn external(&self, value: f64) -> Value {
        match self {
            Self::Float { .. } => serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number),
            Self::Int { .. } => Value::from(value as i64),
            Self::Categorical { choices } => choices.get(value as usize).cloned().unwrap_or(Value::Null),
        }
    }

    /// The internal form of a value; `None` if the value is of another type, not among the choices, or has no logarithm where the
    /// range is logarithmic. It may lie beyond the range.
    pub fn internal(&self, value: &Value) -> Option<f64> {
        match self {
            Self::Float { log, .. } => number(value).filter(|x| x.is_finite() && !(*log && *x <= 0.0)),
            Self::Int { log, .. } => number(value).filter(|x| x.fract() == 0.0 && !(*log && *x <= 0.0)),
            Self::Categorical { choices } => choices.iter().position(|c| same(c, value)).map(|i| i as f64),
        }
    }

    /// The distribution as Optuna's JSON.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Optuna's rule for one name in several trials: the same kind, the same `log`, the same choices.
    pub(crate) fn check_compatible(&self, name: &str, now: &Self) -> Result<()> {
        let rule = match (self, now) {
            (Self::Float { log: a, .. }, Self::Float { log: b, .. })
            | (Self::Int { log: a, .. }, Self::Int { log: b, .. }) => {
                if a == b {
                    return Ok(());
                }
                "a parameter keeps its `log`"
            }
            (Self::Categorical { .. }, Self::Categorical { .. }) => {
                if self == now {
                    return Ok(());
                }
                "a categorical parameter keeps its choices"
            }
            _ => "a parameter keeps its kind",
        };
        Err(Error::Incompatible { name: name.into(), rule, before: self.to_string(), now: now.to_string() })
    }
}

impl PartialEq for Distribution {
    /// Numbers and booleans are compared as Python compares them: 1, 1.0 and true are the same choice.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Float { step, low, high, log },
                Self::Float { step: step2, low: low2, high: high2, log: log2 },
            ) => step == step2 && low == low2 && high == high2 && log == log2,
            (
                Self::Int { step, low, high, log },
                Self::Int { step: step2, low: low2, high: high2, log: log2 },
            ) => step == step2 && low == low2 && high == high2 && log == log2,
            (Self::Categorical { choices: a }, Self::Categorical { choices: b }) => {
                Arc::ptr_eq(a, b) || a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(a, b))
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Float { step, low, high, log } => {
                write!(f, "floats from {low:?} to {high:?}")?;
                if let Some(step) = step {
                    write!(f, " by {step:?}")?;
                }
                if *log { write!(f, ", logarithmic") } else { Ok(()) }
            }
            Self::Int { log, step, low, high } => {
                write!(f, "integers from {low} to {high}")?;
                if *step != 1 {
                    write!(f, " by {step}")?;
                }
                if *log { write!(f, ", logarithmic") } else { Ok(()) }
            }
            Self::Categorical { choices } => {
                write!(f, "one of {}", Value::from(choices.to_vec()))
            }
        }
    }
}

fn invalid(name: &str, rule: &'static str, found: String) -> Error {
    Error::InvalidSpace { name: name.into(), rule, found }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(b) => Some(f64::from(u8::from(*b))),
        other => other.as_f64(),
    }
}

/// Python's `==` between choices.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// The number of whole steps that fit, counted in decimal, so that 0.1 fits into 0.3 three times.
fn steps_between(low: f64, high: f64, step: f64) -> i128 {
    match (Decimal::of(low), Decimal::of(high), Decimal::of(step)) {
        (Some(low), Some(high), Some(step)) => high.minus(low).and_then(|range| range.div_floor(step)),
        _ => None,
    }
    .unwrap_or(((high - low) / step).floor() as i128)
}

/// The greatest `low + k * step` up to `high`, computed in decimal.
fn last_step(low: f64, high: f64, step: f64) -> f64 {
    let k = steps_between(low, high, step);
    let exact = || {
        let (low, step) = (Decimal::of(low)?, Decimal::of(step)?);
        step.times(k)?.plus(low)?.to_f64()
    };
    exact().unwrap_or(low + k as f64 * step).min(high)
}
