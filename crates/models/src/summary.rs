//! Layer tables with output shapes and parameter counts.

use std::fmt;

use crate::Dims;

/// A network's layers with what comes out of each and how many parameters it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The network.
    pub model: String,
    /// The shape of one input.
    pub input: Dims,
    /// One row a layer, in order.
    pub rows: Vec<Row>,
}

/// A layer of a [`Summary`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The layer's name.
    pub name: String,
    /// Its kind, by Keras's name.
    pub kind: String,
    /// The shape of one output.
    pub output: Dims,
    /// Its parameters, trainable or not.
    pub params: usize,
    /// Those of them that training changes.
    pub trainable: usize,
}

impl Summary {
    /// Parameters of all layers.
    pub fn total_params(&self) -> usize {
        self.rows.iter().map(|row| row.params).sum()
    }

    /// Parameters that training changes.
    pub fn trainable_params(&self) -> usize {
        self.rows.iter().map(|row| row.trainable).sum()
    }
}

impl fmt::Display for Summary {
    /// A table for the terminal; shapes are (H, W, C) or (F).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["layer", "kind", "output shape", "parameters"].map(str::to_owned);
        let rows: Vec<[String; 4]> = std::iter::once(header)
            .chain(
                self.rows
                    .iter()
                    .map(|r| [r.name.clone(), r.kind.clone(), shape(r.output), thousands(r.params)]),
            )
            .collect();
        let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2), width(3)];
        writeln!(f, "{}, input {}", self.model, shape(self.input))?;
        for (i, [name, kind, output, params]) in rows.iter().enumerate() {
            let [w0, w1, w2, w3] = widths;
            writeln!(f, "{name:w0$}  {kind:w1$}  {output:w2$}  {params:>w3$}")?;
            if i == 0 {
                writeln!(f, "{}", "─".repeat(w0 + w1 + w2 + w3 + 6))?;
            }
        }
        let (total, trainable) = (self.total_params(), self.trainable_params());
        writeln!(
            f,
            "total {}, trainable {}, frozen {}",
            thousands(total),
            thousands(trainable),
            thousands(total - trainable)
        )
    }
}

fn shape(dims: Dims) -> String {
    let axes: Vec<String> = dims.channels_last().iter().map(usize::to_string).collect();
    format!("({})", axes.join(", "))
}

/// `264055` as `264,055`.
fn thousands(n: usize) -> String {
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
    #[test]
    fn thousands_are_grouped_from_the_right() {
        assert_eq!(
            ["0", "999", "1,000", "22,855,952"],
            [0, 999, 1000, 22_855_952].map(super::thousands).as_slice()
        );
    }
}
