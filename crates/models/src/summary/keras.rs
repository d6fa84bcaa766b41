//! The listing of Keras's `model.summary()`.

use std::fmt;

use super::table::{table, thousands};
use super::{Row, Summary};

/// Running statistics count as parameters that are not trainable.
pub(super) fn write(summary: &Summary, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "Model: \"{}\"", summary.model)?;
    let row = |r: &Row| {
        let axes: Vec<String> = r.output.channels_last().iter().map(usize::to_string).collect();
        let count = thousands((r.params + r.buffers) as u64);
        [format!("{} ({})", r.name, r.kind), format!("(None, {})", axes.join(", ")), count]
    };
    table(f, ["Layer (type)", "Output Shape", "Param #"], summary.rows.iter().map(row), 2)?;
    let (total, trainable) = (summary.total_params() + summary.buffers(), summary.trainable_params());
    for (what, n) in [("Total", total), ("Trainable", trainable), ("Non-trainable", total - trainable)] {
        writeln!(f, "{what} params: {}", thousands(n as u64))?;
    }
    Ok(())
}
