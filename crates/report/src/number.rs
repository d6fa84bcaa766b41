//! Numbers as the report prints them: thousands separated by commas, a true minus sign, four decimals.
//!
//! ```
//! use firstsight_report::number;
//! assert_eq!(number::count(264_055), "264,055");
//! assert_eq!((number::of(1, "image"), number::of(3, "class")), ("1 image".to_owned(), "3 classes".to_owned()));
//! assert_eq!(number::decimal(-1_234.567_89, 4), "−1,234.5679");
//! assert_eq!(number::percent(0.934_33, 2), "93.43 %");
//! assert_eq!(number::duration(std::time::Duration::from_secs(192)), "3 min 12 s");
//! assert_eq!(number::bytes(877_140), "877 kB");
//! ```

use std::time::Duration;

/// A whole number, its thousands separated.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of things by their noun in the singular, which gets an `s`, or `es` after an `s`.
pub fn of(n: usize, noun: &str) -> String {
    match (n, noun.ends_with('s')) {
        (1, _) => format!("1 {noun}"),
        (n, false) => format!("{n} {noun}s"),
        (n, true) => format!("{n} {noun}es"),
    }
}

/// A whole number with its sign, its thousands separated.
pub fn integer(n: i64) -> String {
    let sign = if n < 0 { "−" } else { "" };
    format!("{sign}{}", count(n.unsigned_abs()))
}

/// `x` rounded to `places` decimals. A result of zero has no sign; NaN is printed as `NaN`.
pub fn decimal(x: f64, places: usize) -> String {
    if x.is_nan() {
        return "NaN".into();
    }
    let rounded = format!("{:.places$}", x.abs());
    let sign = if x < 0.0 && rounded.bytes().any(|b| (b'1'..=b'9').contains(&b)) { "−" } else { "" };
    if x.is_infinite() {
        return if x < 0.0 { "−∞".into() } else { "∞".into() };
    }
    let (whole, fraction) = rounded.split_once('.').unwrap_or((&rounded, ""));
    // Beyond u64 the digits stand as they are.
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), count);
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// A share in 0 to 1 as a percentage with `places` decimals.
pub fn percent(share: f64, places: usize) -> String {
    format!("{} %", decimal(100.0 * share, places))
}

/// A time: `85 ms`, `12.3 s`, `3 min 12 s`, `1 h 02 min`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let whole = seconds.round() as u64;
    if seconds < 0.9995 {
        format!("{:.0} ms", 1000.0 * seconds)
    } else if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else if whole < 3600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        let minutes = (seconds / 60.0).round() as u64;
        format!("{} h {:02} min", count(minutes / 60), minutes % 60)
    }
}

/// A size in bytes, in powers of 1,000: `512 B`, `877 kB`, `1.2 MB`.
pub fn bytes(n: u64) -> String {
    match n {
        0..=999 => format!("{n} B"),
        1_000..=999_499 => format!("{:.0} kB", n as f64 / 1e3),
        999_500..=999_949_999 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{} GB", decimal(n as f64 / 1e9, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(integer(i64::MIN), "−9,223,372,036,854,775,808");
    }

    #[test]
    fn decimals() {
        assert_eq!(decimal(0.0042, 4), "0.0042");
        assert_eq!(decimal(-0.00001, 4), "0.0000");
        assert_eq!(decimal(999.99996, 4), "1,000.0000");
        assert_eq!(decimal(12_345.5, 0), "12,346");
        assert_eq!(decimal(f64::NAN, 4), "NaN");
        assert_eq!(decimal(f64::NEG_INFINITY, 4), "−∞");
        assert_eq!(decimal(1e20, 1), "100000000000000000000.0");
    }

    #[test]
    fn units_carry_over() {
        assert_eq!(duration(Duration::from_millis(999)), "999 ms");
        assert_eq!(duration(Duration::from_micros(999_900)), "1.0 s");
        assert_eq!(duration(Duration::from_millis(59_960)), "1 min 00 s");
        assert_eq!(duration(Duration::from_secs(3_719)), "1 h 02 min");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(999_499), "999 kB");
        assert_eq!(bytes(999_500), "1.0 MB");
        assert_eq!(bytes(1_500_000_000), "1.5 GB");
    }
}
