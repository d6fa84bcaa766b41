//! The project's own listing: modules by the prefix of their variables, with work and memory.

use std::fmt;

use super::table::{bytes, shape, table, thousands};
use super::{Entry, Row, Summary};

pub(super) fn rows(entries: &[Entry]) -> Vec<Row> {
    let modules = entries.iter().filter(|entry| entry.kind.is_module());
    modules.map(|entry| Row::new(entry.name.clone(), entry.kind.keras(), entry)).collect()
}

/// Shapes are (H, W, C) or (F); memory is in float32, for one input.
pub(super) fn write(summary: &Summary, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{}, input {}", summary.model, shape(&summary.input.channels_last()))?;
    let header = ["layer", "kind", "output shape", "parameters", "multiply-adds", "output", "weights"];
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
    table(f, header, summary.rows.iter().map(row), 3)?;
    let (total, trainable) = (summary.total_params(), summary.trainable_params());
    let [total, trainable, frozen] = [total, trainable, total - trainable].map(|n| thousands(n as u64));
    write!(f, "parameters {total}, trainable {trainable}, frozen {frozen}")?;
    if summary.buffers() > 0 {
        write!(f, ", running statistics {}", thousands(summary.buffers() as u64))?;
    }
    let multiply_adds = thousands(summary.multiply_adds());
    let (outputs, weights) = (bytes(summary.output_bytes()), bytes(summary.weight_bytes()));
    writeln!(f, "\nmultiply-adds {multiply_adds}, outputs {outputs}, weights {weights}")
}
