//! Layer tables with output shapes and parameter counts.

use std::fmt;

use crate::Dims;
use crate::trace::{Entry, Trace};

/// A network's layers with what comes out of each and how many parameters it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The network.
    pub model: String,
    /// The shape of one input.
    pub input: Dims,
    /// Whose names and classes the rows have.
    pub style: Style,
    /// One row a layer, in order.
    pub rows: Vec<Row>,
}

/// Whose view of a network a summary gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Ours: the modules that have tensors or change the shape, by the prefix of their tensors.
    Firstsight,
    /// Keras's `model.summary()`: every layer, additions and activations too, by Keras's names.
    Keras,
    /// timm's modules by their names and PyTorch's classes, shapes channels first.
    Timm,
}

/// A layer of a [`Summary`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The layer's name.
    pub name: String,
    /// Its class, by Keras's name or PyTorch's.
    pub kind: &'static str,
    /// The shape of one output.
    pub output: Dims,
    /// Its parameters; running statistics are no parameters.
    pub params: usize,
    /// Values that are saved but not trained: running statistics.
    pub buffers: usize,
    /// Multiplications with an addition for one input.
    pub multiply_adds: u64,
}

impl Row {
    /// Bytes of one output in float32.
    pub fn output_bytes(&self) -> usize {
        4 * self.output.count()
    }

    /// Bytes of the parameters and running statistics in float32.
    pub fn weight_bytes(&self) -> usize {
        4 * (self.params + self.buffers)
    }
}

impl Summary {
    /// The view of a walk that `style` gives.
    pub(crate) fn new(model: &str, input: Dims, style: Style, trace: Trace) -> Self {
        let row = |entry: Entry| {
            let (name, kind) = match style {
                Style::Firstsight => (entry.module?, entry.kind.keras()),
                Style::Keras => (entry.keras?, entry.kind.keras()),
                Style::Timm => (entry.module?, entry.kind.torch()),
            };
            let Entry { output, params, buffers, multiply_adds, .. } = entry;
            Some(Row { name, kind, output, params, buffers, multiply_adds })
        };
        Self {
            model: model.to_owned(),
            input,
            style,
            rows: trace.into_entries().into_iter().filter_map(row).collect(),
        }
    }

    /// Parameters of all layers, which training may change. Running statistics are no parameters, as in PyTorch.
    pub fn total_params(&self) -> usize {
        self.rows.iter().map(|row| row.params).sum()
    }

    /// Running statistics of all layers, which Keras counts as parameters that are not trainable.
    pub fn buffers(&self) -> usize {
        self.rows.iter().map(|row| row.buffers).sum()
    }

    /// Multiply-adds for one input.
    pub fn multiply_adds(&self) -> u64 {
        self.rows.iter().map(|row| row.multiply_adds).sum()
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
                    .map(|r| [r.name.clone(), r.kind.to_owned(), shape(r.output), thousands(r.params)]),
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
        write!(f, "{} parameters", thousands(self.total_params()))?;
        match self.buffers() {
            0 => writeln!(f),
            n => writeln!(f, ", {} running statistics", thousands(n)),
        }
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
