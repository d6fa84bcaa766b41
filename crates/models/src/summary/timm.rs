//! timm's listing: modules by their names with PyTorch's classes.

use std::fmt;

use super::table::{shape, table, thousands};
use super::{Entry, Row, Summary};

pub(super) fn rows(entries: &[Entry]) -> Vec<Row> {
    let modules = entries.iter().filter(|entry| entry.kind.is_module());
    modules.map(|entry| Row::new(entry.name.clone(), entry.kind.torch(), entry)).collect()
}

/// Shapes are (C, H, W) or (F); activations are the outputs of convolutions and dense layers.
pub(super) fn write(summary: &Summary, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{}, input {}", summary.model, shape(&summary.input.channels_first()))?;
    let row = |r: &Row| {
        let output = shape(&r.output.channels_first());
        let (params, macs) = (thousands(r.params as u64), thousands(r.multiply_adds));
        [r.name.clone(), r.kind.to_owned(), output, params, macs]
    };
    table(f, ["module", "class", "output", "params", "MACs"], summary.rows.iter().map(row), 3)?;
    let (params, macs) = (summary.total_params() as f64 / 1e6, summary.multiply_adds() as f64 / 1e9);
    let products = summary.rows.iter().filter(|row| row.multiply_adds > 0);
    let outputs = products.map(|row| row.output.count()).sum::<usize>() as f64 / 1e6;
    writeln!(f, "Params (M): {params:.1}\nGMACs: {macs:.1}\nActivations (M): {outputs:.1}")
}
