use std::io::Write as _;

use anyhow::Result;
use clap_complete::Shell;

use crate::context::Context;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shell to complete in
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let mut command = context.command.clone();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}

/// Prints the page in roff, for `man`.
pub(crate) fn man(context: &Context) -> Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(context.command.clone()).render(&mut page)?;
    Ok(std::io::stdout().write_all(&page)?)
}
