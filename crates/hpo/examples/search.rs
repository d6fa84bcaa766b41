//! A search over a conditional space, and its winner rebuilt by the code that sampled it.

use firstsight_hpo::{FloatRange, Replay, Study, Suggest};

/// A learning rate, and one width for each of one to three layers.
fn space(s: &mut impl Suggest) -> firstsight_hpo::Result<(f64, Vec<i64>)> {
    let lr = s.float("lr", FloatRange::new(1e-4, 1e-1).log())?;
    let layers = s.int("layers", 1..=3)?;
    let width = |i| s.categorical(&format!("width_{i}"), &[8, 16, 32, 64]);
    let widths = (0..layers).map(width).collect::<Result<_, _>>()?;
    Ok((lr, widths))
}

/// Stands for a training: returns the validation loss.
fn train(lr: f64, widths: &[i64]) -> f64 {
    (lr.log10() + 2.5).abs() + widths.iter().sum::<i64>() as f64 / 100.0
}

fn main() -> firstsight_hpo::Result<()> {
    // TPE, with the defaults of Optuna 4.
    let study = Study::builder("example").seed(123).create()?;
    study.optimize(40, |trial| {
        let (lr, widths) = space(trial)?;
        Ok(train(lr, &widths))
    })?;
    let best = study.best_trial()?;
    let (lr, widths) = space(&mut Replay::new(&best))?;
    println!("trial {}: lr {lr:.5}, widths {widths:?}, loss {:?}", best.number, best.value());
    Ok(())
}
