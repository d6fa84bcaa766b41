//! What this crate reads of image files: `decoded FOLDER [viewer]` takes the files' names from its input, a line each, writes
//! the pixels of the n-th as `FOLDER/n` and prints width, height and a note, or the error. `benches/peers/decoding.py` compares
//! them with Pillow's.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use firstsight_data::{DecodeSettings, OnError, Reading, decode_bytes};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("expected a folder to write to")?);
    let reading =
        if args.next().as_deref() == Some("viewer") { Reading::viewer() } else { Reading::pillow() };
    for (i, line) in std::io::stdin().lock().lines().enumerate() {
        let path = PathBuf::from(line?);
        let answer = match pixels(&path, reading) {
            Ok((pixels, (width, height), note)) => {
                std::fs::write(folder.join(i.to_string()), pixels)?;
                format!("ok\t{width}\t{height}\t{}", note.unwrap_or_default())
            }
            Err(error) => format!("error\t{}", error.to_string().replace(['\n', '\t'], " ")),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

type Decoded = (Vec<u8>, (u32, u32), Option<String>);

/// RGB at the file's own size, which a first decoding to one pixel tells.
fn pixels(path: &Path, reading: Reading) -> Result<Decoded, Box<dyn std::error::Error>> {
    let bytes = std::fs::read(path)?;
    let settings = |height, width| DecodeSettings {
        reading,
        on_error: OnError::Fail,
        ..DecodeSettings::rgb(height, width)
    };
    let (width, height) = decode_bytes(path, &bytes, &settings(1, 1))?.size;
    let image = decode_bytes(path, &bytes, &settings(height as usize, width as usize))?;
    Ok((image.pixels, image.size, image.note))
}
