//! Draws a contact sheet: `cargo run --release -p firstsight-handwriting --example sheet OUT.png [WRITERS]`.
//!
//! Two characters per row, each in its neutral form and then by each of the first WRITERS writers (default 8).

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;

use firstsight_handwriting::{CHARACTERS, Image, Split, Writer, render};

const CELL: u32 = 120;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let out = args.next().ok_or("expected the path of a PNG file to write")?;
    let n: u32 = args.next().map_or(Ok(8), |n| n.parse())?;
    let writers: Vec<Writer> = std::iter::once(Writer::neutral(100.0))
        .chain((0..n).map(|number| Writer::new(123, Split::Train, number)))
        .collect();

    let columns = 2 * writers.len() as u32;
    let rows = CHARACTERS.len().div_ceil(2) as u32;
    let (width, height) = (CELL * columns, CELL * rows);
    let mut sheet = Image { width, height, pixels: vec![255; (width * height) as usize] };
    let cells =
        CHARACTERS.iter().flat_map(|&character| writers.iter().map(move |writer| (character, writer)));
    for (cell, (character, writer)) in cells.enumerate() {
        let (row, column) = (cell as u32 / columns, cell as u32 % columns);
        paste(&mut sheet, &render(character, writer, 0)?, column * CELL, row * CELL);
    }
    sheet.write_png(BufWriter::new(File::create(out)?))?;
    Ok(())
}

/// Puts `image` in the middle of the cell at (x, y), cropped to the cell.
fn paste(sheet: &mut Image, image: &Image, x: u32, y: u32) {
    let (width, height) = (image.width.min(CELL), image.height.min(CELL));
    let (x, y) = (x + (CELL - width) / 2, y + (CELL - height) / 2);
    for row in 0..height {
        let from = (row * image.width) as usize;
        let to = ((y + row) * sheet.width + x) as usize;
        sheet.pixels[to..to + width as usize].copy_from_slice(&image.pixels[from..from + width as usize]);
    }
}
