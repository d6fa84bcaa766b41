//! Tables and numbers as text.

use std::fmt;

/// Writes rows under a header. Columns from `first_number` on are aligned to the right.
pub(super) fn table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    first_number: usize,
) -> fmt::Result {
    let rows: Vec<[String; N]> = std::iter::once(header.map(str::to_owned)).chain(rows).collect();
    let widths: [usize; N] =
        std::array::from_fn(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    for (n, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
            let gap = if i == 0 { "" } else { "  " };
            line += &match i < first_number {
                true => format!("{gap}{cell:width$}"),
                false => format!("{gap}{cell:>width$}"),
            };
        }
        writeln!(f, "{}", line.trim_end())?;
        if n == 0 {
            writeln!(f, "{}", "─".repeat(widths.iter().sum::<usize>() + 2 * (N - 1)))?;
        }
    }
    writeln!(f)
}

pub(super) fn shape(axes: &[usize]) -> String {
    let axes: Vec<String> = axes.iter().map(usize::to_string).collect();
    format!("({})", axes.join(", "))
}

/// `1536` as `1.5 KiB`.
pub(super) fn bytes(n: usize) -> String {
    match n {
        0..1024 => format!("{n} B"),
        1024..1_048_576 => format!("{:.1} KiB", n as f64 / 1024.0),
        _ => format!("{:.1} MiB", n as f64 / 1_048_576.0),
    }
}

/// `264055` as `264,055`.
pub(super) fn thousands(n: u64) -> String {
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

#[cfg(test)]
mod tests {
    use std::fmt;

    struct Example;

    impl fmt::Display for Example {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let rows = [["conv", "(3, 4)", "1,024"], ["é", "()", "7"]].map(|row| row.map(str::to_owned));
            super::table(f, ["name", "shape", "n"], rows.into_iter(), 2)
        }
    }

    #[test]
    fn thousands_are_grouped_from_the_right() {
        assert_eq!(
            ["0", "999", "1,000", "22,855,952"],
            [0, 999, 1000, 22_855_952].map(super::thousands).as_slice()
        );
    }

    #[test]
    fn columns_of_words_are_aligned_to_the_left_and_numbers_to_the_right() {
        let lines =
            ["name  shape       n", "───────────────────", "conv  (3, 4)  1,024", "é     ()          7", ""];
        assert_eq!(Example.to_string(), lines.map(|line| format!("{line}\n")).concat());
    }
}
