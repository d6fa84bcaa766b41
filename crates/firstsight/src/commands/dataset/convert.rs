//! `dataset convert`.

use std::path::PathBuf;

use anyhow::Result;
use firstsight_data::convert::{Archive, convert as write, published};

use crate::context::Context;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A .gnt file, a folder or a zip of them; a folder with MNIST's four files; CIFAR's folder or tar
    source: PathBuf,
    /// Folder to write to, which must not exist: train/CLASS/NAME.png and so on
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn convert(args: &Args, context: &Context) -> Result<()> {
    let archive = Archive::open(&args.source)?;
    for file in published(&args.source)? {
        let is =
            if file.is_same() { "is the published file" } else { "is not the published file of this name" };
        context.runtime.message(&format!("{} {is} (MD5 {})", file.path.display(), file.md5));
    }
    let content = context.runtime.counted("writing images", |report| {
        write(&archive, &args.out, &mut |done, total| report(done, total))
    })?;
    for (split, classes) in &content.splits {
        let images: usize = classes.values().sum();
        let split = if split.is_empty() { "all" } else { split };
        out!("{split}: {images} images of {} classes", classes.len())?;
    }
    out!("{}", args.out.display())?;
    Ok(())
}
