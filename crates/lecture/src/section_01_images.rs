//! 1. Images as tensors: arrays of bytes.

use firstsight_report::{Column, Figure, Grid, Grids, Image, Report, Section, Sheet, Table, Tile};

use super::drawings::{Picture, SIDE, sprites};
use crate::Result;

const SOURCE: &str = "drawn by this program";

pub(super) fn write(report: &mut Report) -> Result<()> {
    let section = report.section(Some("1"), "Images as tensors");
    let sprites = sprites();
    pictures(section, &sprites)?;
    arrays(section, &sprites)?;
    bytes(section);
    Ok(())
}

fn pictures(section: &mut Section, sprites: &[(&str, Picture)]) -> Result<()> {
    section.text(
        "A picture is a grid of pixels, and a pixel of a color picture is three numbers: how much red, green and blue light \
         it gives off. A program sees nothing else: a picture is an array of shape **(height, width, channels)**, a tensor \
         with three axes.",
    );
    let tile = |(name, picture): &(&str, Picture)| -> Result<Tile> {
        let image = Image::from_pixels(picture.height, picture.width, 3, &picture.pixels)?;
        Ok(Tile::new(image, *name).sublabel(format!("{SIDE} × {SIDE} × 3")))
    };
    let tiles = sprites.iter().map(tile).collect::<Result<_>>()?;
    section.figure(Figure::new(
        Sheet::new(tiles, 4),
        "Four images of 16 × 16 pixels: 16 · 16 · 3 = 768 numbers each",
        SOURCE,
    ));
    Ok(())
}

/// Every channel of a disc and of the ghost, number by number.
fn arrays(section: &mut Section, sprites: &[(&str, Picture)]) -> Result<()> {
    section.subsection("The same images as arrays");
    section.text(
        "Below are the numbers themselves, one 16 × 16 table a channel. Yellow is red and green light without blue, so the \
         disc is there in the first two channels and missing in the third. The ghost's pink has more of red than of the \
         others; its white eyes are full in all three.",
    );
    for (name, picture) in [&sprites[0], &sprites[3]] {
        let grids = ["red", "green", "blue"].into_iter().enumerate().map(|(c, channel)| {
            let cells = picture.pixels.iter().skip(c).step_by(3).map(|&byte| {
                let mut color = [0; 3];
                color[c] = byte;
                (byte.to_string(), color)
            });
            Grid::new(format!("[:, :, {c}], {channel}"), picture.width, cells)
        });
        let caption = format!("The three channels of “{name}”, each number on a square of its own light");
        section.figure(Figure::new(Grids::new(grids.collect::<Result<Vec<_>, _>>()?), caption, SOURCE));
    }
    let mut table = Table::new(
        "The four arrays",
        [
            Column::text("image"),
            Column::text("shape (H,\u{a0}W,\u{a0}C)"),
            Column::text("type"),
            Column::number("bytes"),
            Column::number("least"),
            Column::number("most"),
            Column::number("mean"),
        ],
    );
    for (name, Picture { height, width, pixels }) in sprites {
        let mean = pixels.iter().map(|&byte| f64::from(byte)).sum::<f64>() / pixels.len() as f64;
        let extreme = |byte: Option<&u8>| byte.map(|&byte| u32::from(byte)).into();
        table.row([
            (*name).into(),
            format!("({height},\u{a0}{width},\u{a0}3)").into(),
            "uint8".into(),
            pixels.len().into(),
            extreme(pixels.iter().min()),
            extreme(pixels.iter().max()),
            mean.into(),
        ]);
    }
    section.table(table);
    Ok(())
}

fn bytes(section: &mut Section) {
    section.subsection("Why 255");
    section.text(
        "Each number is one **byte**: eight bits, each 0 or 1, which makes 2⁸ = 256 values, 0 to 255. Two hexadecimal digits \
         write a byte, since one stands for four bits; a color is three bytes, six digits: yellow is `#ffff00`.",
    );
    let mut table = Table::new(
        "Bytes in three notations, and as a signed byte",
        [
            Column::number("uint8"),
            Column::text("bits"),
            Column::text("hexadecimal"),
            Column::number("the same bits as int8"),
        ],
    );
    for byte in [0u8, 1, 15, 16, 127, 128, 160, 180, 254, 255] {
        table.row([
            u32::from(byte).into(),
            format!("{:04b}\u{a0}{:04b}", byte >> 4, byte & 15).into(),
            format!("0x{byte:02x}").into(),
            i32::from(byte.cast_signed()).into(),
        ]);
    }
    section.table(table);
    section.text(
        "What does not fit into eight bits is cut off: numbers **wrap around**. 255 + 1 = 256 needs a ninth bit; the eight \
         that remain are all 0. A signed byte, int8, counts from −128 to 127, and 128 comes out as −128. No error is raised, \
         so a picture that is made brighter in uint8 gets black spots where it was brightest. Arithmetic on pixels belongs \
         in wider numbers, and networks compute in 32-bit floats.",
    );
    let mut table = Table::new(
        "Numbers forced into a byte, as this program's processor does it",
        [
            Column::number("number"),
            Column::text("bits"),
            Column::number("as uint8"),
            Column::number("as int8"),
        ],
    );
    for number in [127i32, 128, 255, 256, 257, 300, 511, 512, -1] {
        let row = [
            number.into(),
            format!("{:010b}", number & 0x3ff).into(),
            u32::from(number as u8).into(),
            i32::from(number as i8).into(),
        ];
        if number == 256 || number == 128 {
            table.highlighted_row(row)
        } else {
            table.row(row)
        };
    }
    section.table(table);
    brighter(section);
}

/// Brightness by adding 64, wrapping and saturating.
fn brighter(section: &mut Section) {
    let mut table = Table::new(
        "Made brighter by 64",
        [
            Column::number("pixel"),
            Column::number("pixel + 64"),
            Column::number("wrapped into uint8"),
            Column::number("clipped at 255"),
        ],
    );
    for byte in [0u8, 100, 180, 191, 192, 255] {
        table.row([
            u32::from(byte).into(),
            (u32::from(byte) + 64).into(),
            u32::from(byte.wrapping_add(64)).into(),
            u32::from(byte.saturating_add(64)).into(),
        ]);
    }
    section.table(table);
}
