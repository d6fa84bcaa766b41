//! A JSON list that is printed as it grows.

use anyhow::Result;
use firstsight_transfer::files;
use serde::Serialize;

use crate::stdio;

pub(super) struct JsonRows {
    is_empty: bool,
}

impl JsonRows {
    pub(super) fn begin() -> Result<Self> {
        stdio::write(b"[")?;
        Ok(Self { is_empty: true })
    }

    pub(super) fn print(&mut self, row: &impl Serialize) -> Result<()> {
        let row = files::json(row)?.replace('\n', "\n  ");
        stdio::write(format!("{}\n  {row}", if self.is_empty { "" } else { "," }).as_bytes())?;
        self.is_empty = false;
        Ok(())
    }

    pub(super) fn end(&self) -> Result<()> {
        Ok(out!("{}]", if self.is_empty { "" } else { "\n" })?)
    }
}
