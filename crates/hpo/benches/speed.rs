//! Seconds of a TPE search with a trivial objective over ten mixed parameters.
//!
//! `cargo bench --package firstsight-hpo --all-features -- N [ADDRESS] [--optuna5]` prints the seconds that N trials take, in
//! memory or in a storage, and those of the last hundred; with the defaults of Optuna 4, or of Optuna 5.

use std::sync::Arc;
use std::time::Instant;

use firstsight_hpo::{FloatRange, IntRange, Memory, Storage, Study, Suggest, Tpe, TpeConfig, Trial, storage};

/// The search that `benches/peers/optuna_speed.py` times.
fn objective(trial: &mut Trial<'_>) -> firstsight_hpo::Result<f64> {
    let mut value = 0.0;
    for i in 0..4 {
        value += (trial.float(&format!("x{i}"), -5.0..=5.0)? - f64::from(i)).powi(2);
    }
    value += (trial.float("lr", FloatRange::new(1e-5, 1e-1).log())?.log10() + 3.0).abs();
    value += trial.float("d", FloatRange::new(0.0, 0.5).step(0.1))?;
    value += (trial.int("n", 1..=9)? - 4).abs() as f64;
    value += (trial.int("w", IntRange::new(8, 512).log())? - 64).abs() as f64 / 64.0;
    value += trial.categorical("o", &["a", "bb", "ccc"])?.len() as f64;
    value += f64::from(u8::from(trial.categorical("b", &[true, false])?));
    Ok(value)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo passes `--bench`.
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let n: usize = args.next().map_or(Ok(100), |n| n.parse())?;
    let storage: Arc<dyn Storage> = match args.next() {
        None => Arc::new(Memory::new()),
        Some(address) => storage::open(&address)?,
    };
    let config = match std::env::args().any(|arg| arg == "--optuna5") {
        true => TpeConfig::optuna5(1),
        false => TpeConfig::optuna4(1),
    };
    let sampler = Tpe::new(config)?;
    let study = Study::builder("speed").sampler(sampler).storage(storage).create()?;
    let start = Instant::now();
    study.optimize(n.saturating_sub(100), |trial| Ok(objective(trial)?))?;
    let before = start.elapsed();
    study.optimize(n.min(100), |trial| Ok(objective(trial)?))?;
    let all = start.elapsed();
    println!(
        "{n} {:.4} {:.4} {:?}",
        all.as_secs_f64(),
        (all - before).as_secs_f64(),
        study.best_trial()?.value()
    );
    Ok(())
}
