//! A crate outside the workspace implements a network, registers it, trains it and fine-tunes it.

mod common;

use std::path::Path;
use std::process::Command;

use common::text;
use image::{Rgb, RgbImage};

/// The manifest of such a crate: our crates by their paths, and the workspace's profile, so that what is compiled already
/// is not compiled again.
fn manifest(root: &Path) -> String {
    let workspace = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let profiles = workspace.find("[profile.").map_or("", |start| &workspace[start..]);
    let ours = |name: &str, features: &str| {
        let path = root.join("crates").join(name);
        format!("firstsight-{name} = {{ path = {path:?}, features = [{features}] }}\n")
    };
    let ours: String = ["models", "train"].map(|name| ours(name, "")).concat()
        + &ours("data", r#""candle", "decode""#)
        + &ours("transfer", r#""candle-transformers""#);
    format!(
        "[package]\nname = \"outside\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n\
         candle-core = {{ version = \"0.11.1\", default-features = false }}\ncandle-nn = \"0.11.1\"\n{ours}\n{profiles}"
    )
}

/// Reddish and bluish noise.
fn photos(folder: &Path) {
    for (class, tinted) in [("blue", 2), ("red", 0)] {
        std::fs::create_dir_all(folder.join(class)).unwrap();
        for i in 0..12u32 {
            let image = RgbImage::from_fn(24, 20, |x, y| {
                let place = |c: usize| x * 31 + y * 17 + i * 101 + c as u32 * 57;
                let noise = |c: usize| (place(c).wrapping_mul(2_654_435_761) >> 25) as u8;
                Rgb([0, 1, 2].map(|c| noise(c) + if c == tinted { 100 } else { 0 }))
            });
            image.save(folder.join(class).join(format!("{i}.png"))).unwrap();
        }
    }
}

#[test]
#[ignore = "compiles a crate, which can take minutes"]
fn a_crate_outside_the_workspace_trains_and_fine_tunes_its_own_network() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::create_dir(here.join("src")).unwrap();
    std::fs::copy(root.join("tests/outside-crate/main.rs"), here.join("src/main.rs")).unwrap();
    std::fs::write(here.join("Cargo.toml"), manifest(root)).unwrap();
    std::fs::copy(root.join("Cargo.lock"), here.join("Cargo.lock")).unwrap();
    photos(&here.join("photos"));
    let target = Path::new(env!("CARGO_BIN_EXE_firstsight-tests")).parent().and_then(Path::parent).unwrap();
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["run", "--release", "--offline", "--quiet", "--manifest-path"])
        .arg(here.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .arg("--")
        .args([here.join("photos"), here.join("out")])
        .current_dir(here)
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    for words in [
        "outside-tiny, input (16, 16, 3)",
        "trained: accuracy Some(1.0)",
        r#"blocks: ["conv1", "conv2", "fc"]"#,
        "blue: blue",
        "red: red",
    ] {
        assert!(said.contains(words), "should say {words:?}: {said}");
    }
    assert!(here.join("out/run/model.safetensors").is_file());
}
