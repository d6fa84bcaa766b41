//! Fine-tunes a network on a folder of photos, saves the run, and labels one image with it:
//! `cargo run --release --example fine_tune -- WEIGHTS PHOTOS RUN IMAGE`.

use std::error::Error;
use std::path::PathBuf;

use candle_core::Device;
use firstsight_transfer::{Classifier, Event, FineTuning, Preset, Pretrained, Runtime, Splits};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [weights, photos, run, image] = &paths[..] else {
        return Err("expected WEIGHTS PHOTOS RUN IMAGE".into());
    };
    let runtime = Runtime::new(Device::Cpu).progress(|event| {
        if let Event::Message(text) = event {
            eprintln!("{text}");
        }
    });
    let pretrained = Pretrained::folder(weights)?;
    let photos = Splits::scan(photos, 1)?;
    let result = FineTuning::preset(Preset::Standard, 1).fit(&pretrained, &photos, &runtime)?;
    result.save(run)?;
    for guess in Classifier::open(run, &Device::Cpu)?.predict(image)? {
        println!("{:.4} {}", guess.probability, guess.label);
    }
    Ok(())
}
