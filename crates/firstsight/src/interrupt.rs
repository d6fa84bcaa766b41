//! Ctrl-C: a training ends after its batch and leaves its checkpoint, predictions after theirs; anything else ends at once,
//! and says what is left.

use anyhow::{Context as _, Result};
use firstsight_transfer::InterruptFlag;

use crate::exit;

/// Installs the process's Ctrl-C handler, which raises the flag. Where no work heeds it, and for the second time, it ends
/// the process, and says so if it `speaks`.
pub(crate) fn install(speaks: bool) -> Result<InterruptFlag> {
    let flag = InterruptFlag::default();
    let handler = flag.clone();
    ctrlc::set_handler(move || {
        let again = handler.is_raised();
        if !handler.raise() || again {
            if speaks {
                log!("interrupted; what was finished is kept");
            }
            std::process::exit(exit::INTERRUPTED.into());
        }
    })
    .context("cannot install the Ctrl-C handler")?;
    Ok(flag)
}
