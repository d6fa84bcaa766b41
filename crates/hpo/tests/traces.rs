//! Traces of Optuna's samplers, proposal for proposal: those beside this file, and, where the environment
//! variable `FIRSTSIGHT_SHARED` names a folder with more of them in `golden/optuna`, those too.

#[path = "../examples/replay.rs"]
#[allow(dead_code)]
mod replay;

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Equal, or floats that differ by 1e-9 relative: NumPy's elementary functions differ in the last bit between
/// processors, and so do the floats that it draws.
fn near(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(x), Some(y)) if a.is_f64() && b.is_f64() => (x - y).abs() <= 1e-9 * y.abs(),
        _ => a == b,
    }
}

/// The number of trials, and of those whose floats are equal to the last digit.
fn check(path: &Path) -> (usize, usize) {
    let text = std::fs::read_to_string(path).unwrap();
    let trace: replay::Trace = serde_json::from_str(&text).unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    let expected = whole["trials"].as_array().unwrap();
    let (ours, best) = replay::replay(&trace).unwrap();
    assert_eq!(ours.len(), expected.len());
    if let Some(front) = whole["best"].as_array() {
        let front: Vec<usize> = front.iter().map(|n| n.as_u64().unwrap() as usize).collect();
        assert_eq!(best, front, "{}: the Pareto front", path.display());
    }
    let mut exact = 0;
    for (number, (ours, theirs)) in ours.iter().zip(expected).enumerate() {
        let (ours, theirs) = (ours["params"].as_object().unwrap(), theirs["params"].as_object().unwrap());
        let same = ours.len() == theirs.len()
            && theirs.iter().all(|(name, value)| ours.get(name).is_some_and(|v| near(v, value)));
        assert!(same, "{}, trial {number}: {ours:?} for {theirs:?}", path.display());
        exact += usize::from(ours == theirs);
    }
    (expected.len(), exact)
}

fn check_folder(folder: &Path) -> (usize, usize, usize) {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "json"));
    files.sort();
    let counts: Vec<_> = files.iter().map(|f| check(f)).collect();
    (files.len(), counts.iter().map(|c| c.0).sum(), counts.iter().map(|c| c.1).sum())
}

#[test]
fn the_committed_traces_come_out() {
    let (files, trials, exact) = check_folder(Path::new("tests/goldens/traces"));
    println!("{files} traces, {trials} trials, {exact} of them to the last digit");
    assert_eq!(files, 47);
}

#[test]
fn the_shared_traces_come_out() {
    let Some(shared) = std::env::var_os("FIRSTSIGHT_SHARED") else {
        eprintln!("FIRSTSIGHT_SHARED is not set: the shared traces are not checked");
        return;
    };
    let (files, trials, exact) = check_folder(&Path::new(&shared).join("golden/optuna"));
    println!("{files} traces, {trials} trials, {exact} of them to the last digit");
    assert!(files >= 58);
}
