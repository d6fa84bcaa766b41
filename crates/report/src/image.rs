//! Pictures as PNG files.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::{Error, Result, raster};

/// A picture as a PNG file, with its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    png: Vec<u8>,
    height: usize,
    width: usize,
}

impl Image {
    /// Encodes `pixels` of shape (height, width, channels), row by row; one channel is gray, three are red,
    /// green and blue.
    ///
    /// # Errors
    ///
    /// [`Error::Pixels`] when there is no pixel, another number of channels, or another number of bytes.
    ///
    /// ```
    /// use firstsight_report::Image;
    /// let checkerboard = Image::from_pixels(2, 2, 1, &[0, 255, 255, 0])?;
    /// assert_eq!((checkerboard.height(), checkerboard.width()), (2, 2));
    /// assert!(Image::from_pixels(2, 2, 3, &[0; 4]).is_err());
    /// # Ok::<(), firstsight_report::Error>(())
    /// ```
    pub fn from_pixels(height: usize, width: usize, channels: usize, pixels: &[u8]) -> Result<Self> {
        let refused = || Error::Pixels { height, width, channels, found: pixels.len() };
        let color = match channels {
            1 => png::ColorType::Grayscale,
            3 => png::ColorType::Rgb,
            _ => return Err(refused()),
        };
        let expected = height.checked_mul(width).and_then(|n| n.checked_mul(channels));
        if pixels.is_empty() || expected != Some(pixels.len()) {
            return Err(refused());
        }
        Ok(Self { png: raster::encode(height, width, color, [Ok(pixels)])?, height, width })
    }

    /// A picture from the bytes of a PNG file, of which only the header is read.
    ///
    /// # Errors
    ///
    /// [`Error::NotPng`] when the header is not a PNG file's.
    pub fn from_png(png: Vec<u8>) -> Result<Self> {
        let reader = png::Decoder::new(std::io::Cursor::new(&png)).read_info()?;
        let (height, width) = (reader.info().height as usize, reader.info().width as usize);
        Ok(Self { png, height, width })
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The PNG file.
    pub fn png(&self) -> &[u8] {
        &self.png
    }

    pub(crate) fn data_uri(&self) -> String {
        format!("data:image/png;base64,{}", STANDARD.encode(&self.png))
    }
}
