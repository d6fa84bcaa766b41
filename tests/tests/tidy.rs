//! The invariants of ARCHITECTURE.md, absences included, read from the sources and from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The arrows of the house, and no others.
const ARROWS: [(&str, &[&str]); 15] = [
    ("firstsight-ops", &[]),
    // There is one way to write a file.
    ("firstsight-files", &[]),
    ("firstsight-data", &["firstsight-files"]),
    ("firstsight-hpo", &["firstsight-files"]),
    ("firstsight-handwriting", &["firstsight-files"]),
    ("firstsight-report", &["firstsight-files"]),
    // An `InputSpec` says how an image file becomes a network's input; networks need it without codecs.
    ("firstsight-models", &["firstsight-ops", "firstsight-data"]),
    ("firstsight-train", &["firstsight-ops", "firstsight-data"]),
    ("firstsight-insight", &["firstsight-models", "firstsight-train"]),
    // A program gets the same report.html in its run folder as the command line.
    (
        "firstsight-transfer",
        &["firstsight-models", "firstsight-train", "firstsight-data", "firstsight-report"],
    ),
    ("firstsight-export", &["firstsight-ops", "firstsight-data", "firstsight-models", "firstsight-transfer"]),
    ("firstsight-log", &["firstsight-files", "firstsight-train", "firstsight-transfer"]),
    (
        "firstsight-serve",
        &[
            "firstsight-data",
            "firstsight-export",
            "firstsight-insight",
            "firstsight-transfer",
            "firstsight-report",
        ],
    ),
    (
        "firstsight-lecture",
        &[
            "firstsight-ops",
            "firstsight-data",
            "firstsight-models",
            "firstsight-train",
            "firstsight-hpo",
            "firstsight-insight",
            "firstsight-transfer",
            "firstsight-report",
            "firstsight-handwriting",
        ],
    ),
    (
        "firstsight",
        &[
            "firstsight-data",
            "firstsight-export",
            "firstsight-log",
            "firstsight-models",
            "firstsight-ops",
            "firstsight-train",
            "firstsight-hpo",
            "firstsight-insight",
            "firstsight-transfer",
            "firstsight-report",
            "firstsight-handwriting",
            "firstsight-serve",
            "firstsight-lecture",
        ],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The normal dependencies of each package of the workspace.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let normal = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|d| d["kind"].is_null()).map(|d| text(&d["name"])).collect()
    };
    metadata()["packages"].as_array().unwrap().iter().map(|p| (text(&p["name"]), normal(p))).collect()
}

#[test]
fn the_arrows_between_crates_are_those_of_the_plan() {
    let packages = dependencies();
    let libraries: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    let found: BTreeSet<&str> =
        packages.keys().map(String::as_str).filter(|n| n.starts_with("firstsight")).collect();
    let programs = ["firstsight-tests", "firstsight-python"];
    let expected: BTreeSet<&str> = libraries.iter().copied().chain(programs).collect();
    assert_eq!(found, expected);
    for (name, allowed) in ARROWS {
        for dependency in packages[name].iter().filter(|d| d.starts_with("firstsight") || *d == "xtask") {
            assert!(allowed.contains(&dependency.as_str()), "{name} may not depend on {dependency}");
        }
    }
}

#[test]
fn anyhow_and_clap_live_in_the_command_line_alone() {
    for (name, dependencies) in dependencies() {
        if name != "xtask" && name != "firstsight" {
            for banned in ["anyhow", "clap", "indicatif", "ctrlc"] {
                assert!(!dependencies.contains(banned), "{name} depends on {banned}");
            }
        }
    }
    assert!(dependencies()["firstsight"].contains("anyhow"));
}

#[test]
fn hpo_report_and_handwriting_know_no_tensors() {
    let packages = dependencies();
    for name in ["firstsight-hpo", "firstsight-report", "firstsight-handwriting"] {
        assert!(!packages[name].iter().any(|d| d.starts_with("candle")), "{name} depends on candle");
    }
}

#[test]
fn every_version_is_stated_once() {
    for manifest in files(&root(), "Cargo.toml") {
        if manifest.parent() == Some(root().as_path()) {
            continue;
        }
        let text = std::fs::read_to_string(&manifest).unwrap();
        // What cannot be a member, such as the fuzzer, is a workspace by itself.
        if text.contains("\n[workspace]\n") {
            continue;
        }
        for stated in ["version.workspace = true", "[lints]\nworkspace = true"] {
            assert!(text.contains(stated), "{} has no {stated:?}", manifest.display());
        }
        let mut in_dependencies = false;
        for line in text.lines() {
            if line.starts_with('[') {
                in_dependencies = line.contains("dependencies");
            } else if in_dependencies && line.contains('=') {
                assert!(line.contains("workspace = true"), "{}: {line}", manifest.display());
            }
        }
    }
}

/// The lines of library code: the sources of `crates/*/src` up to a file's `#[cfg(test)]`, without comments.
fn library_lines() -> Vec<(PathBuf, usize, String)> {
    let mut lines = Vec::new();
    for file in files(&root().join("crates"), ".rs") {
        let inner = file.strip_prefix(root().join("crates")).unwrap().to_path_buf();
        if inner.components().nth(1).is_none_or(|part| part.as_os_str() != "src") {
            continue;
        }
        // The command line prints, and knows the environment.
        if inner.starts_with("firstsight") {
            continue;
        }
        if inner.components().any(|part| part.as_os_str() == "tests.rs" || part.as_os_str() == "tests") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for (i, line) in text.lines().enumerate() {
            if line.trim() == "#[cfg(test)]" {
                break;
            }
            if !line.trim_start().starts_with("//") {
                lines.push((inner.clone(), i + 1, line.to_owned()));
            }
        }
    }
    assert!(lines.len() > 1000, "the sources were not found");
    lines
}

#[test]
fn libraries_do_not_panic_or_print() {
    let banned = [
        ".unwrap()",
        ".expect(",
        "panic!(",
        "println!(",
        "print!(",
        "eprintln!(",
        "dbg!(",
        "todo!(",
        "unimplemented!(",
    ];
    for (file, number, line) in library_lines() {
        for word in banned {
            assert!(!line.contains(word), "{}:{number} has {word}", file.display());
        }
    }
}

#[test]
fn there_is_one_training_loop() {
    let places = |call: &str| {
        let mut places = BTreeSet::new();
        for (file, _, line) in library_lines() {
            if line.contains(call) {
                places.insert(file);
            }
        }
        let programs = [root().join("xtask/src"), root().join("crates/firstsight/src")];
        for file in programs.iter().flat_map(|folder| files(folder, ".rs")) {
            if std::fs::read_to_string(&file).unwrap().contains(call) {
                places.insert(file);
            }
        }
        places
    };
    assert_eq!(places("ops::backward("), BTreeSet::from([PathBuf::from("train/src/fit.rs")]));
    assert_eq!(places(".backward()"), BTreeSet::from([PathBuf::from("ops/src/autograd/mod.rs")]));
}

/// Ascent on an input takes single steps; nothing else in the libraries does.
#[test]
fn single_steps_are_taken_in_one_place() {
    let callers = library_lines().into_iter().filter(|(_, _, line)| line.contains("backward_step("));
    let places: BTreeSet<PathBuf> = callers.map(|(file, _, _)| file).collect();
    let allowed = ["insight/src/feature_vis.rs", "train/src/fit.rs"].map(PathBuf::from);
    assert_eq!(places, BTreeSet::from(allowed));
}

#[test]
fn libraries_read_no_environment_and_no_global_path() {
    for (file, number, line) in library_lines() {
        for word in [
            "env::var",
            "env::home_dir",
            "temp_dir()",
            "env::current_dir",
            "thread_rng",
            "rand::rng()",
            "from_os_rng",
        ] {
            assert!(!line.contains(word), "{}:{number} has {word}", file.display());
        }
    }
}

#[test]
fn files_are_written_by_one_crate() {
    let allowed = [
        "files/src",
        // A draft of a folder, which takes its name when it is whole.
        "handwriting/src/folder.rs",
        // A lock, which has no content.
        "transfer/src/hub/web.rs",
        // `ops` has no crate of ours below it.
        "ops/src/cuda/device/compile.rs",
    ];
    for (file, number, line) in library_lines() {
        let is_allowed = allowed.iter().any(|place| file.starts_with(place));
        for word in ["fs::write(", " File::create(", "fs::File::create("] {
            assert!(is_allowed || !line.contains(word), "{}:{number} has {word}", file.display());
        }
    }
}

#[test]
fn exit_codes_are_in_one_file() {
    for file in files(&root().join("crates/firstsight/src"), ".rs") {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = |line: &str| {
            let after = ["process::exit(", "ExitCode::from("].iter().find_map(|call| line.split(call).nth(1));
            after.is_some_and(|argument| argument.starts_with(|c: char| c.is_ascii_digit()))
        };
        let found = text.lines().find(|line| code(line));
        assert!(file.ends_with("exit.rs") || found.is_none(), "{}: {found:?}", file.display());
    }
}

/// The stems of words that British spelling writes otherwise.
#[test]
fn spelling_is_american() {
    let stems = [
        "neighbo",
        "normali",
        "synchroni",
        "colo",
        "behavio",
        "initiali",
        "optimi",
        "recogni",
        "favo",
        "vectori",
        "minimi",
        "maximi",
        "standardi",
        "quanti",
        "seriali",
        "visuali",
        "summari",
        "randomi",
        "generali",
    ];
    let british: Vec<String> =
        stems.iter().flat_map(|stem| ["se", "sa", "si", "ur"].map(|end| format!("{stem}{end}"))).collect();
    let endings = [".rs", ".md", ".py", ".js", ".css", ".html", ".toml"];
    for file in endings.iter().flat_map(|ending| files(&root(), ending)) {
        let text = std::fs::read_to_string(&file).unwrap().to_lowercase();
        for word in text.split(|c: char| !c.is_alphabetic()) {
            let is_british = british.iter().any(|british| word.starts_with(british.as_str()));
            assert!(!is_british, "{}: {word}", file.display());
        }
    }
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    for file in files(&root(), ".rs") {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            if line.contains("unsafe {") && !line.trim_start().starts_with("//") && !line.contains('"') {
                let above = &lines[i.saturating_sub(6)..=i];
                assert!(
                    above.iter().any(|l| l.contains("SAFETY:")),
                    "{}:{} says no SAFETY",
                    file.display(),
                    i + 1
                );
            }
        }
    }
}

#[test]
fn the_architecture_page_lists_every_crate() {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (name, _) in ARROWS {
        assert!(page.contains(name), "ARCHITECTURE.md does not name {name}");
        let crate_folder = root().join("crates").join(name.trim_start_matches("firstsight-"));
        assert!(crate_folder.join("README.md").is_file(), "{name} has no README.md");
    }
}

/// A crate's README shows an example that is compiled and short.
#[test]
fn readmes_show_their_crates_examples() {
    for (name, _) in ARROWS {
        let folder = root().join("crates").join(name.trim_start_matches("firstsight-"));
        let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
        let Some((_, block)) = readme.split_once("```rust") else {
            panic!("the README of {name} shows no code")
        };
        let shown = block.split_once('\n').unwrap().1.split_once("```").unwrap().0.trim();
        let examples = match folder.join("examples") {
            examples if examples.is_dir() => files(&examples, ".rs"),
            _ => Vec::new(),
        };
        let is_shown = |file: &PathBuf| {
            let text = std::fs::read_to_string(file).unwrap();
            let code: Vec<&str> = text.lines().filter(|line| !line.starts_with("//!")).collect();
            code.join("\n").trim() == shown
        };
        assert!(
            examples.iter().any(is_shown),
            "the first code block of {name}'s README is none of its examples"
        );
        assert!(shown.lines().count() <= 40, "{name}'s example has more than 40 lines");
    }
}

/// Files under `folder` whose names end in `ending`, outside build folders and hidden ones.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.') || name.starts_with("target") {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}
