//! The cache that Python's `huggingface_hub` shares. Runs where FIRSTSIGHT_PYTHON names a Python that has it.

use std::path::Path;
use std::process::Command;

use super::{COMMIT, content, file, holds, scene, sha256};

const DOWNLOAD: &str = "
import sys
from huggingface_hub import hf_hub_download
print(hf_hub_download('owner/name', sys.argv[1], cache_dir=sys.argv[2]), end='')
";

fn download(python: &str, name: &str, cache: &Path, endpoint: &str, offline: bool) -> String {
    let output = Command::new(python)
        .args(["-c", DOWNLOAD, name])
        .arg(cache)
        .env("HF_ENDPOINT", endpoint)
        .env("HF_HUB_OFFLINE", if offline { "1" } else { "0" })
        .env("HF_HUB_DISABLE_XET", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn python_and_we_find_each_others_files() {
    let Ok(python) = std::env::var("FIRSTSIGHT_PYTHON") else {
        eprintln!("skipped: FIRSTSIGHT_PYTHON names no Python with huggingface_hub");
        return;
    };
    let mut scene = scene();
    let (large, small) = (content(300_000), b"{}".to_vec());
    scene.server.add("ours.bin", &large, true);
    scene.server.add("config.json", &small, false);
    for name in ["ours.bin", "config.json"] {
        let path = scene.fetch(&file(name)).unwrap();
        let found = download(&python, name, &scene.config.cache, &scene.server.address, true);
        assert_eq!(Path::new(&found), path);
    }
    let theirs = content(200_000);
    scene.server.add("theirs.bin", &theirs, true);
    let found = download(&python, "theirs.bin", &scene.config.cache, &scene.server.address, false);
    scene.server.log();
    scene.config.offline = true;
    let path = scene.fetch(&file("theirs.bin")).unwrap();
    assert_eq!(path, Path::new(&found));
    holds(&path, &theirs);
    assert_eq!(scene.server.log(), []);
    assert!(path.parent().unwrap().ends_with(COMMIT));
    assert!(scene.blobs().contains(&sha256(&theirs)));
}
