//! A JSON list that is printed as it grows.

use std::io::Write as _;

use anyhow::Result;
use firstsight_transfer::files;
use serde::Serialize;

pub(super) struct JsonRows {
    is_empty: bool,
}

impl JsonRows {
    pub(super) fn begin() -> Self {
        print!("[");
        Self { is_empty: true }
    }

    pub(super) fn print(&mut self, row: &impl Serialize) -> Result<()> {
        let row = files::json(row)?.replace('\n', "\n  ");
        print!("{}\n  {row}", if self.is_empty { "" } else { "," });
        std::io::stdout().flush()?;
        self.is_empty = false;
        Ok(())
    }

    pub(super) fn end(&self) {
        println!("{}]", if self.is_empty { "" } else { "\n" });
    }
}
