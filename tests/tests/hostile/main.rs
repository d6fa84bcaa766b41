//! Bytes that others made, through every reader: those that the fuzzer in `tests/fuzz` has found to take ways of their own, and the
//! seeds that it begins with.

#[allow(unreachable_pub, reason = "the fuzzer uses the same file")]
mod readers;
mod seeds;

use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use readers::{READERS, Reader};

/// What a reader may take for a few kilobytes, on a machine that does other work.
const LONGEST: Duration = Duration::from_secs(5);

/// Reads an input, and returns whether it was accepted.
fn take((name, read): Reader, input: &str, bytes: &[u8]) -> bool {
    let started = Instant::now();
    let outcome = std::panic::catch_unwind(|| read(bytes));
    assert!(started.elapsed() < LONGEST, "{name}: {input} took {:?}", started.elapsed());
    outcome.unwrap_or_else(|_| panic!("{name}: {input} of {} bytes", bytes.len()))
}

fn corpus(reader: &str) -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("goldens/hostile/{reader}.tar.gz"));
    let Ok(file) = std::fs::File::open(&path) else { return Vec::new() };
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let member = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    };
    archive.entries().unwrap().map(member).filter(|(_, bytes)| !bytes.is_empty()).collect()
}

#[test]
fn what_the_fuzzer_found_is_read_or_refused() {
    std::thread::scope(|scope| {
        for &reader in READERS {
            scope.spawn(move || {
                let seeds = seeds::seeds(reader.0).into_iter().enumerate();
                let accepted: Vec<bool> =
                    seeds.map(|(i, seed)| take(reader, &format!("seed {i}"), &seed)).collect();
                assert!(accepted.contains(&true), "{} refuses all seeds", reader.0);
                for (input, bytes) in corpus(reader.0) {
                    take(reader, &input, &bytes);
                }
            });
        }
    });
}

#[test]
#[ignore = "writes the seeds where the fuzzer looks for them: tests/fuzz/run.sh calls it with FIRSTSIGHT_SEEDS=FOLDER"]
fn write_seeds() {
    let folder = std::env::var_os("FIRSTSIGHT_SEEDS").expect("FIRSTSIGHT_SEEDS, a folder");
    for (reader, _) in READERS {
        let folder = Path::new(&folder).join(reader);
        std::fs::create_dir_all(&folder).unwrap();
        for (i, bytes) in seeds::seeds(reader).into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{i:03}")), bytes).unwrap();
        }
        for (name, bytes) in corpus(reader) {
            std::fs::write(folder.join(Path::new(&name).file_name().unwrap()), bytes).unwrap();
        }
    }
}
