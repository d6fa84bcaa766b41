//! Weights in several files, joined by an index: `model.safetensors.index.json` as Hugging Face writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{Error, Result};

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Whether a file is an index of others, by its name.
pub(super) fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".safetensors.index.json"))
}

/// The files of an index, each once, beside it.
pub(super) fn files(index: &Path) -> Result<Vec<PathBuf>> {
    let bad = |reason: String| Error::WeightsHeader { path: index.to_path_buf(), reason };
    let text = std::fs::read(index).map_err(|source| Error::Io { path: index.to_path_buf(), source })?;
    let Index { weight_map } =
        serde_json::from_slice(&text).map_err(|e| bad(format!("it is no index of files of weights: {e}")))?;
    let names: BTreeSet<String> = weight_map.into_values().collect();
    let beside = |name: String| match Path::new(&name).file_name() {
        Some(plain) if plain.to_str() == Some(&name) => Ok(index.with_file_name(name)),
        _ => Err(bad(format!("it names {name:?}, which is no file beside it"))),
    };
    let files: Vec<PathBuf> = names.into_iter().map(beside).collect::<Result<_>>()?;
    match files.is_empty() {
        true => Err(bad("it names no file".to_owned())),
        false => Ok(files),
    }
}
