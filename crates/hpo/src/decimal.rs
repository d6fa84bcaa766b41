//! Just enough decimal arithmetic to compute the last step of a float range as Python's `decimal` does.

/// `digits * 10^exponent`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decimal {
    digits: i128,
    exponent: i32,
}

impl Decimal {
    /// The shortest decimal that reads back as `x`. `None` if `x` is not finite.
    pub(crate) fn of(x: f64) -> Option<Self> {
        let text = format!("{x:e}");
        let (mantissa, exponent) = text.split_once('e')?;
        let decimals = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i32);
        let digits = mantissa.replace('.', "").parse().ok()?;
        Some(Self { digits, exponent: exponent.parse::<i32>().ok()? - decimals })
    }

    /// Both over one exponent. `None` if they lie too far apart for 128 bits.
    fn aligned(self, other: Self) -> Option<(i128, i128, i32)> {
        let exponent = self.exponent.min(other.exponent);
        let scale = |d: Self| 10_i128.checked_pow((d.exponent - exponent) as u32)?.checked_mul(d.digits);
        Some((scale(self)?, scale(other)?, exponent))
    }

    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        let (a, b, exponent) = self.aligned(other)?;
        Some(Self { digits: a.checked_add(b)?, exponent })
    }

    pub(crate) fn minus(self, other: Self) -> Option<Self> {
        self.plus(Self { digits: -other.digits, ..other })
    }

    pub(crate) fn times(self, k: i128) -> Option<Self> {
        Some(Self { digits: self.digits.checked_mul(k)?, ..self })
    }

    /// Whole times that `other`, which is positive, fits into `self`.
    pub(crate) fn div_floor(self, other: Self) -> Option<i128> {
        let (a, b, _) = self.aligned(other)?;
        Some(a.div_euclid(b))
    }

    pub(crate) fn to_f64(self) -> Option<f64> {
        format!("{}e{}", self.digits, self.exponent).parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Decimal;

    #[test]
    fn a_tenth_fits_three_times_into_three_tenths() {
        let (range, step) = (Decimal::of(0.3).unwrap(), Decimal::of(0.1).unwrap());
        assert_eq!(range.div_floor(step), Some(3));
        assert_eq!((0.3_f64 / 0.1).floor(), 2.0, "which floats get wrong");
        assert_eq!(step.times(3).unwrap().to_f64(), Some(0.3));
    }

    #[test]
    fn numbers_too_far_apart_are_refused() {
        assert!(Decimal::of(1e300).unwrap().plus(Decimal::of(1e-300).unwrap()).is_none());
    }
}
