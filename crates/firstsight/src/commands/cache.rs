use anyhow::{Context as _, Result};

use crate::{context::Context, values};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum Action {
    /// Remove all decoded images and features
    Clear,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let cache = context.runtime.cache.as_ref().context("there is no cache folder: name one with --cache")?;
    let folder = cache.path().display();
    if let Some(Action::Clear) = args.action {
        let (files, bytes) = cache.clear().with_context(|| format!("cannot clear {folder}"))?;
        let removed = serde_json::json!({"folder": cache.path(), "removed": files, "bytes": bytes});
        match args.json {
            true => out!("{}", serde_json::to_string_pretty(&removed)?)?,
            false => out!("removed {files} files, {}, from {folder}", values::size(bytes))?,
        }
        return Ok(());
    }
    let files = cache.files().with_context(|| format!("cannot list {folder}"))?;
    let total: u64 = files.iter().map(|file| file.bytes).sum();
    if args.json {
        let list = files.iter().map(|file| serde_json::json!({"path": file.path, "bytes": file.bytes}));
        let document = serde_json::json!({
            "folder": cache.path(), "bytes": total, "limit": cache.size_limit(), "files": list.collect::<Vec<_>>(),
        });
        out!("{}", serde_json::to_string_pretty(&document)?)?;
        return Ok(());
    }
    let limit = cache.size_limit().map(|limit| format!(" of at most {}", values::size(limit)));
    out!("{folder}: {} files, {}{}", files.len(), values::size(total), limit.unwrap_or_default())?;
    for file in &files {
        let name = file.path.file_name().unwrap_or_default().display().to_string();
        out!("{}\t{name}", values::size(file.bytes))?;
    }
    Ok(())
}
