//! GIF files.

use std::io::Cursor;

use super::Picture;
use super::failure::{Failure, check_lost, check_pixels};
use crate::reading::{Damaged, Reading};

/// Width and height from the header.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), Failure> {
    let decoder = gif::DecodeOptions::new().read_info(Cursor::new(bytes))?;
    Ok((decoder.width().into(), decoder.height().into()))
}

/// The first frame on the animation's canvas.
///
/// As in Pillow, the canvas around the frame has the transparent color if there is one, otherwise the first color.
pub(super) fn read(bytes: &[u8], reading: &Reading) -> Result<Picture, Failure> {
    let max_pixels = reading.max_pixels;
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    let mut decoder = options.read_info(Cursor::new(bytes))?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let (screen_width, screen_height) = (u32::from(decoder.width()), u32::from(decoder.height()));
    check_pixels(screen_width, screen_height, max_pixels)?;
    let Some(frame) = decoder.next_frame_info()? else {
        return Err(Failure::Undecodable("expected an image, found none".to_owned()));
    };
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (usize::from(frame.width), usize::from(frame.height));
    let (transparent, is_interlaced) = (frame.transparent, frame.interlaced);
    let background = transparent.unwrap_or(0);
    let colors = frame.palette.clone().or(global).unwrap_or_default();
    let width = screen_width.max((left + frame_width) as u32);
    let height = screen_height.max((top + frame_height) as u32);
    check_pixels(width, height, max_pixels)?;
    check_pixels(frame_width as u32, frame_height as u32, max_pixels)?;

    let mut lost = 0;
    let mut is_cut = bytes.last() != Some(&TRAILER);
    let mut frame = vec![background; decoder.buffer_size()];
    match decoder.read_into_buffer(&mut frame) {
        Ok(()) => is_cut = matches!(decoder.next_frame_info(), Err(gif::DecodingError::UnexpectedEof)),
        Err(error) if reading.damaged == Damaged::Refuse => return Err(error.into()),
        Err(_) => {
            let order = row_order(frame_height, is_interlaced);
            lost = frame_height - rows_found(bytes, &mut frame, frame_width, background, &order)?;
            check_lost(lost, frame_height, "rows", is_cut)?;
        }
    }
    let stride = width as usize;
    let mut canvas = vec![background; stride * height as usize];
    for (row, pixels) in frame.chunks_exact(frame_width).enumerate() {
        let start = (top + row) * stride + left;
        canvas[start..start + frame_width].copy_from_slice(pixels);
    }

    let colors = colors.as_chunks::<3>().0;
    // Beyond the file's colors, Pillow's palette is a gray ramp.
    let palette: [[u8; 3]; 256] =
        std::array::from_fn(|index| colors.get(index).copied().unwrap_or([index as u8; 3]));
    let color = |&index: &u8| {
        let [r, g, b] = palette[usize::from(index)];
        [r, g, b, if transparent == Some(index) { 0 } else { 255 }]
    };
    let data = canvas.iter().flat_map(color).collect();
    let mut picture = Picture::new(width, height, 4, data, reading.alpha);
    let are = if is_cut { "missing" } else { "unreadable" };
    match lost {
        0 if is_cut && reading.damaged == Damaged::Accept => {
            picture.notes.push("repaired: the end is missing".to_owned());
        }
        0 => {}
        _ => picture.notes.push(format!("repaired: {lost} of {frame_height} rows are {are}")),
    }
    Ok(picture)
}

/// The last byte of a file.
const TRAILER: u8 = 0x3b;

/// The rows of a frame in the order of the file: those of an interlaced one in four passes (GIF89a, appendix E).
fn row_order(height: usize, is_interlaced: bool) -> Vec<usize> {
    match is_interlaced {
        false => (0..height).collect(),
        true => {
            let passes = [(0, 8), (4, 8), (2, 4), (1, 2)];
            passes.into_iter().flat_map(|(first, step)| (first..height).step_by(step)).collect()
        }
    }
}

/// Reads the rows of the first frame that a damaged file has, and says how many there are. The others are background or,
/// where the row above them came in an earlier pass, as that.
fn rows_found(
    bytes: &[u8],
    frame: &mut [u8],
    width: usize,
    background: u8,
    order: &[usize],
) -> Result<usize, Failure> {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    let mut decoder = options.read_info(Cursor::new(bytes))?;
    decoder.next_frame_info()?;
    frame.fill(background);
    let is_found = |row: &usize| {
        let pixels = &mut frame[row * width..(row + 1) * width];
        matches!(decoder.fill_buffer(pixels), Ok(true))
    };
    let found = order.iter().copied().take_while(is_found).count();
    let is_interlaced = order.get(1).is_some_and(|row| *row > 1);
    for row in order[found..].iter().copied().filter(|row| is_interlaced && *row > 0) {
        frame.copy_within((row - 1) * width..row * width, row * width);
    }
    Ok(found)
}
