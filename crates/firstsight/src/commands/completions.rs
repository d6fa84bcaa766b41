use anyhow::{Result, bail};
use clap_complete::Shell;

use crate::{context::Context, stdio};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shell to complete in
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let mut command = context.command.clone();
    let name = command.get_name().to_owned();
    if name.contains(' ') {
        bail!("a shell completes one word: expected the installed command, found `{name}`");
    }
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    Ok(stdio::write(&script)?)
}

/// Prints the page in roff, for `man`.
pub(crate) fn man(context: &Context) -> Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(context.command.clone()).render(&mut page)?;
    Ok(stdio::write(&page)?)
}
