//! Trains a small network on a spiral: `cargo run --release -p firstsight-train --example spiral`.

use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap, linear, seq};
use firstsight_data::{Sampling, TensorBatches};
use firstsight_train::callbacks::{EarlyStopping, StopOnNan};
use firstsight_train::{Accuracy, CrossEntropy, FitConfig, Monitor, OptimizerConfig, Trainable, fit};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Three arms of a spiral in the plane, one class each.
    let arm = |i: u32| (i % 3, i as f32 / 300.0);
    let angle = |(class, t): (u32, f32)| 5.0 * t + 2.1 * class as f32;
    let point = |i: u32| [arm(i).1 * angle(arm(i)).cos(), arm(i).1 * angle(arm(i)).sin()];
    let inputs = Tensor::from_iter((0..300).flat_map(point), &Device::Cpu)?.reshape((300, 2))?;
    let labels = Tensor::from_iter((0..300u32).map(|i| arm(i).0), &Device::Cpu)?;
    let train = TensorBatches::new(inputs.clone(), labels.clone(), 32, Sampling::Shuffled { seed: 1 })?;
    let val = TensorBatches::new(inputs, labels, 300, Sampling::Sequential)?;

    // Any candle module; here, the variables live in candle-nn's VarMap.
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let network =
        seq().add(linear(2, 32, vb.pp("0"))?).add_fn(|xs| xs.relu()).add(linear(32, 3, vb.pp("1"))?);
    let mut named: Vec<_> = vars.data().lock().unwrap().clone().into_iter().collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let model = Trainable::new(&network, named);

    let config = FitConfig::new(100, CrossEntropy, OptimizerConfig::adam_torch(0.01)).metric(Accuracy);
    let mut stopping = EarlyStopping::new(Monitor::val(Accuracy), 15);
    let history = fit(&model, &train, Some(&val), &config, &mut [&mut StopOnNan, &mut stopping])?;
    for (i, epoch) in history.epochs.iter().enumerate().step_by(10) {
        let val = epoch.val.as_ref().and_then(|val| val.get(&Accuracy)).unwrap_or(f64::NAN);
        println!("epoch {i}: loss {:.3}, validation accuracy {val:.3}", epoch.train.loss);
    }
    Ok(())
}
