//! The cost of a TPE search without an objective to speak of: `speed N` prints seconds for N trials of ten
//! mixed parameters.

use std::time::Instant;

use firstsight_hpo::{FloatRange, IntRange, Study, Suggest, Tpe, TpeConfig, Trial};

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
    let n: usize = std::env::args().nth(1).ok_or("usage: speed N")?.parse()?;
    let study = Study::builder("speed").sampler(Tpe::new(TpeConfig::optuna4(1))?).create()?;
    let start = Instant::now();
    study.optimize(n, |trial| Ok(objective(trial)?))?;
    println!("{n} {} {:?}", start.elapsed().as_secs_f64(), study.best_trial()?.value);
    Ok(())
}
