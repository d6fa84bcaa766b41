//! Writes the data set: `cargo run --release -p firstsight-handwriting --example generate OUT [SCALE [SEED]]`.

use std::error::Error;
use std::time::Instant;

use firstsight_handwriting::{Settings, generate};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let out = args.next().ok_or("expected the folder to write")?;
    let scale = args.next().map_or(Ok(1.0), |scale| scale.parse())?;
    let seed = args.next().map_or(Ok(123), |seed| seed.parse())?;
    let start = Instant::now();
    let manifest = generate(out.as_ref(), &Settings { seed, scale }, &|done, all| {
        if done % 5000 == 0 {
            println!("{done} of {all}");
        }
    })?;
    println!(
        "{} images, {} bytes, {:.1} s",
        manifest.images(),
        manifest.bytes,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
