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

#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Command whose page it is, such as `train` or `dataset stats` [default: the page of all]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

/// Prints a page in roff, for `man`.
pub(crate) fn man(args: &ManArgs, context: &Context) -> Result<()> {
    let mut command = context.command.clone();
    // So that subcommands have their whole names and the flags of all commands.
    command.build();
    for name in &args.command {
        let Some(found) = command.find_subcommand(name) else {
            bail!("{} has no command {name}", command.get_name())
        };
        command = found.clone();
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(stdio::write(&page)?)
}
