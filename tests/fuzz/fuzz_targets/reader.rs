//! The reader that FIRSTSIGHT_READER names, on the fuzzer's inputs.
#![no_main]

#[path = "../../tests/hostile/readers.rs"]
mod readers;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static READER: LazyLock<readers::Reader> = LazyLock::new(|| {
    // Decoders' panics are caught and become errors; the fuzzer's own hook would end the process before.
    std::panic::set_hook(Box::new(|_| ()));
    let name = std::env::var("FIRSTSIGHT_READER").unwrap_or_default();
    let found = readers::READERS.iter().find(|(known, _)| *known == name);
    *found.unwrap_or_else(|| {
        let names: Vec<&str> = readers::READERS.iter().map(|(name, _)| *name).collect();
        eprintln!("FIRSTSIGHT_READER must be one of {}", names.join(", "));
        std::process::exit(2);
    })
});

fuzz_target!(|bytes: &[u8]| {
    (READER.1)(bytes);
});
