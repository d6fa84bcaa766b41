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
    let is_cut = bytes.last() != Some(&0x3b);
    let mut frame = vec![background; decoder.buffer_size()];
    if let Err(error) = decoder.read_into_buffer(&mut frame) {
        if reading.damaged == Damaged::Refuse || is_interlaced {
            return Err(error.into());
        }
        lost = frame_height - rows_found(bytes, &mut frame, frame_width, background)?;
        check_lost(lost, frame_height, "rows", is_cut)?;
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
    if lost > 0 {
        let are = if is_cut { "missing" } else { "unreadable" };
        picture.notes.push(format!("repaired: {lost} of {frame_height} rows are {are}"));
    }
    Ok(picture)
}

/// Reads the rows of the first frame that a file which is cut off has, and says how many there are.
fn rows_found(bytes: &[u8], frame: &mut [u8], width: usize, background: u8) -> Result<usize, Failure> {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    let mut decoder = options.read_info(Cursor::new(bytes))?;
    decoder.next_frame_info()?;
    frame.fill(background);
    let mut found = 0;
    for row in frame.chunks_exact_mut(width) {
        match decoder.fill_buffer(row) {
            Ok(true) => found += 1,
            _ => break,
        }
    }
    Ok(found)
}
