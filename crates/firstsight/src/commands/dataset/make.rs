//! `dataset make`.

use std::path::Path;

use anyhow::Result;

use crate::context::Context;

/// Draws the handwriting into `out`, unless it is there already.
pub(crate) fn make(out: &Path, scale: f64, context: &Context) -> Result<()> {
    let settings = firstsight_handwriting::Settings { seed: context.seed, scale };
    context
        .runtime
        .counted("drawing characters", |report| firstsight_handwriting::generate(out, &settings, report))?;
    Ok(())
}
