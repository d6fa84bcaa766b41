//! Seconds of a TPE search with a trivial objective over ten mixed parameters.
//!
//! `cargo bench --package firstsight-hpo --all-features -- N [ADDRESS] [--optuna5] [--two]` prints the seconds that N trials
//! take, in memory or in a storage, and those of the last hundred; with the defaults of Optuna 4, or of Optuna 5, of one objective or
//! of two.

use std::sync::Arc;
use std::time::Instant;

use firstsight_hpo::{
    Direction, FloatRange, IntRange, Memory, Stop, Storage, Study, Suggest, Tpe, TpeConfig, Trial, storage,
};

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
    let has = |flag: &str| std::env::args().any(|arg| arg == flag);
    let storage: Arc<dyn Storage> = match args.next() {
        None => Arc::new(Memory::new()),
        Some(address) => storage::open(&address)?,
    };
    let config = match has("--optuna5") {
        true => TpeConfig::optuna5(1),
        false => TpeConfig::optuna4(1),
    };
    let sampler = Tpe::new(config)?;
    let objectives = if has("--two") { 2 } else { 1 };
    let builder = Study::builder("speed").sampler(sampler).shared_storage(storage);
    let study = builder.directions([Direction::Minimize; 2].into_iter().take(objectives)).create()?;
    let values = |trial: &mut Trial<'_>| -> Result<Vec<f64>, Stop> {
        let value = objective(trial)?;
        // The second objective is least far from where the first is.
        let other = (trial.float("x0", -5.0..=5.0)? - 3.0).powi(2);
        Ok([value, other].into_iter().take(objectives).collect())
    };
    let start = Instant::now();
    study.optimize(n.saturating_sub(100), values)?;
    let before = start.elapsed();
    study.optimize(n.min(100), values)?;
    let all = start.elapsed();
    println!(
        "{n} {:.4} {:.4} {:?}",
        all.as_secs_f64(),
        (all - before).as_secs_f64(),
        study.best_trials()?.first().map(|best| best.values.clone())
    );
    Ok(())
}
