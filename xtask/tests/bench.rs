//! `cargo xtask bench`: what it prints, and what it says to bad input.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).arg("bench").args(args).output().unwrap()
}

fn refuses(args: &[&str], expected: &[&str]) {
    let output = bench(args);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in expected {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn steps_are_timed_and_their_work_is_counted() {
    let output = bench(&["--item", "B", "--rounds", "2", "--seconds", "0.01", "--threads", "1", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let timings: Value = serde_json::from_slice(&output.stdout).unwrap();
    let [timing] = timings.as_array().unwrap().as_slice() else { panic!("one item, found {timings}") };
    assert_eq!(
        (&timing["item"], &timing["mode"], &timing["threads"]),
        (&"B".into(), &"train".into(), &1.into())
    );
    assert!(timing["ms"].as_f64().unwrap() > 0.0);
    assert_eq!(timing["turns"].as_array().unwrap().len(), 2);
    // Forward and the weights' gradient: 2 · 2 · 128 · 4800 · 55.
    assert_eq!(timing["gflop"].as_f64().unwrap(), 0.135168);
    assert!(timing["arithmetic_share"].as_f64().unwrap() > 0.0);
}

#[test]
fn unknown_items_and_programs_are_named() {
    refuses(&["--item", "Z"], &["'Z' is none of"]);
    let nowhere = ["--item", "B", "--seconds", "0.01", "--python", "no/such/python"];
    refuses(&nowhere, &["no/such/python", "does not run"]);
}
