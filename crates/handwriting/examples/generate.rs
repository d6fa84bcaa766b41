//! Writes a tenth of the data set: `cargo run --release --package firstsight-handwriting --example generate -- DIR`.

use firstsight_handwriting::{Settings, generate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: generate DIR")?;
    let settings = Settings { seed: 123, scale: 0.1 };
    let manifest = generate(folder.as_ref(), &settings, &|done, total| {
        if done % 1000 == 0 {
            println!("{done} of {total}");
        }
    })?;
    println!("{} images in {folder}/Train/人, …; checksum {}", manifest.images(), manifest.checksum);
    Ok(())
}
