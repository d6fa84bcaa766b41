//! A fine-tuning with event files for TensorBoard:
//! `cargo run --release -p firstsight-log --example fine_tune -- WEIGHTS PHOTOS RUN`.

use candle_core::Device;
use firstsight_log::{Ending, LogTarget, TrainingLog};
use firstsight_transfer::{Evaluation, FineTuning, Preset, Pretrained, RunFolder, Runtime, Splits};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, photos, run] = &arguments[..] else { return Err("expected WEIGHTS PHOTOS RUN".into()) };
    let runtime = Runtime::new(Device::Cpu).progress(|event| println!("{event:?}"));
    let (pretrained, photos) = (Pretrained::folder(weights.as_ref())?, Splits::scan(photos.as_ref(), 1)?);
    let run = RunFolder::create(run.as_ref(), false)?;
    let settings = vec![("preset".to_owned(), "standard".to_owned())];
    let mut log = TrainingLog::new(&[LogTarget::TensorBoard], (&run, false), settings, &runtime);
    let tuning = FineTuning::preset(Preset::Standard, 1);
    let place = Some((&run, false));
    let result = tuning.fit_observed::<Evaluation>(&pretrained, &photos, place, &mut log, &runtime)?;
    result.save_to(&run)?;
    log.end(Ending::Finished);
    Ok(())
}
