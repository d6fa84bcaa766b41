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
    /// Those of them that training changes: all, unless [`Summary::freeze`] says otherwise.
    pub trainable: usize,
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
            Some(Row { name, kind, output, params, trainable: params, buffers, multiply_adds })
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

    /// Parameters that training changes.
    pub fn trainable_params(&self) -> usize {
        self.rows.iter().map(|row| row.trainable).sum()
    }

    /// The same table with the layers frozen whose names `select` accepts.
    pub fn freeze(mut self, select: impl Fn(&str) -> bool) -> Self {
        for row in self.rows.iter_mut().filter(|row| select(&row.name)) {
            row.trainable = 0;
        }
        self
    }

    /// The rows up to the last maps: Keras's `include_top=False`, timm's `forward_features`.
    pub fn without_head(mut self) -> Self {
        let maps = self.rows.iter().rposition(|row| matches!(row.output, Dims::Map { .. }));
        self.rows.truncate(maps.map_or(0, |last| last + 1));
        self
    }

    /// Bytes in float32 of the parameters and running statistics.
    pub fn weight_bytes(&self) -> usize {
        self.rows.iter().map(Row::weight_bytes).sum()
    }

    /// Bytes in float32 of the outputs of all layers for one input, which training keeps for the backward pass.
    pub fn output_bytes(&self) -> usize {
        self.rows.iter().map(Row::output_bytes).sum()
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
    /// A table for the terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.style {
            Style::Firstsight => self.ours(f),
            Style::Keras => self.keras(f),
            Style::Timm => self.timm(f),
        }
    }
}

impl Summary {
    /// Shapes are (H, W, C) or (F); memory is in float32, for one input.
    fn ours(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, input {}", self.model, shape(&self.input.channels_last()))?;
        let header = ["layer", "kind", "output shape", "parameters", "multiply-adds", "output", "weights"]
            .map(str::to_owned);
        let row = |r: &Row| {
            [
                r.name.clone(),
                r.kind.to_owned(),
                shape(&r.output.channels_last()),
                thousands(r.params as u64),
                thousands(r.multiply_adds),
                bytes(r.output_bytes()),
                bytes(r.weight_bytes()),
            ]
        };
        table(f, header, self.rows.iter().map(row), 3)?;
        let (total, trainable) = (self.total_params(), self.trainable_params());
        let [total, trainable, frozen] = [total, trainable, total - trainable].map(|n| thousands(n as u64));
        write!(f, "parameters {total}, trainable {trainable}, frozen {frozen}")?;
        if self.buffers() > 0 {
            write!(f, ", running statistics {}", thousands(self.buffers() as u64))?;
        }
        let multiply_adds = thousands(self.multiply_adds());
        let (outputs, weights) = (bytes(self.output_bytes()), bytes(self.weight_bytes()));
        writeln!(f, "\nmultiply-adds {multiply_adds}, outputs {outputs}, weights {weights}")
    }

    /// As Keras counts: running statistics are parameters that are not trainable.
    fn keras(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Model: \"{}\"", self.model)?;
        let header = ["Layer (type)", "Output Shape", "Param #"].map(str::to_owned);
        let row = |r: &Row| {
            let axes: Vec<String> = r.output.channels_last().iter().map(usize::to_string).collect();
            let count = thousands((r.params + r.buffers) as u64);
            [format!("{} ({})", r.name, r.kind), format!("(None, {})", axes.join(", ")), count]
        };
        table(f, header, self.rows.iter().map(row), 2)?;
        let (total, trainable) = (self.total_params() + self.buffers(), self.trainable_params());
        for (what, n) in [("Total", total), ("Trainable", trainable), ("Non-trainable", total - trainable)] {
            writeln!(f, "{what} params: {}", thousands(n as u64))?;
        }
        Ok(())
    }

    /// Shapes are channels first, as PyTorch has them; activations are the outputs of convolutions and dense layers.
    fn timm(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, input {}", self.model, shape(&self.input.channels_first()))?;
        let header = ["module", "class", "output", "params", "MACs"].map(str::to_owned);
        let row = |r: &Row| {
            let output = shape(&r.output.channels_first());
            let (params, macs) = (thousands(r.params as u64), thousands(r.multiply_adds));
            [r.name.clone(), r.kind.to_owned(), output, params, macs]
        };
        table(f, header, self.rows.iter().map(row), 3)?;
        let (params, macs) = (self.total_params() as f64 / 1e6, self.multiply_adds() as f64 / 1e9);
        let products = self.rows.iter().filter(|row| row.multiply_adds > 0);
        let outputs = products.map(|row| row.output.count()).sum::<usize>() as f64 / 1e6;
        writeln!(f, "Params (M): {params:.1}\nGMACs: {macs:.1}\nActivations (M): {outputs:.1}")
    }
}

/// Rows under a header, the columns from `numbers` on set to the right.
fn table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    header: [String; N],
    rows: impl Iterator<Item = [String; N]>,
    numbers: usize,
) -> fmt::Result {
    let rows: Vec<[String; N]> = std::iter::once(header).chain(rows).collect();
    let widths: [usize; N] =
        std::array::from_fn(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    for (n, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
            let gap = if i == 0 { "" } else { "  " };
            line += &match i < numbers {
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

fn shape(axes: &[usize]) -> String {
    let axes: Vec<String> = axes.iter().map(usize::to_string).collect();
    format!("({})", axes.join(", "))
}

/// `1536` as `1.5 KiB`.
fn bytes(n: usize) -> String {
    match n {
        0..1024 => format!("{n} B"),
        1024..1_048_576 => format!("{:.1} KiB", n as f64 / 1024.0),
        _ => format!("{:.1} MiB", n as f64 / 1_048_576.0),
    }
}

/// `264055` as `264,055`.
fn thousands(n: u64) -> String {
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
