//! Image formats by content.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Png,
    Jpeg,
    Gif,
    Bmp,
    WebP,
    Tiff,
    Pnm,
}

impl Format {
    /// Guesses the format from the first bytes, as Pillow does: a PNG file named `.jpg` is a PNG file.
    pub(crate) fn guess(start: &[u8]) -> Option<Self> {
        match start {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'B', b'M', ..] => Some(Self::Bmp),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::WebP),
            // Raw files of cameras are TIFF files too, but what lies first in them is a thumbnail.
            [b'I', b'I', 0x2a, 0, _, _, _, _, b'C', b'R', ..] => None,
            [b'I', b'I', 0x2a | 0x2b, 0, ..] | [b'M', b'M', 0, 0x2a | 0x2b, ..] => Some(Self::Tiff),
            [b'P', b'1'..=b'6', b'\t'..=b'\r' | b' ' | b'#', ..] => Some(Self::Pnm),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::WebP => "WebP",
            Self::Tiff => "TIFF",
            Self::Pnm => "PNM",
        }
    }
}

/// A file that is not read here, by its first bytes, with the way out.
pub(super) fn other(start: &[u8]) -> Option<&'static str> {
    Some(match start {
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f' | b's', ..] => {
            "an AVIF image (convert it: `magick photo.avif photo.jpg`)"
        }
        [_, _, _, _, b'f', b't', b'y', b'p', b'h', b'e', _, _, ..]
        | [_, _, _, _, b'f', b't', b'y', b'p', b'm', b'i' | b's', b'f', b'1', ..] => {
            "a HEIC image (convert it: `heif-convert photo.heic photo.jpg`, or set the phone to \"most compatible\")"
        }
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => {
            "a JPEG XL image (convert it: `djxl photo.jxl photo.png`)"
        }
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => {
            "a JPEG 2000 image (convert it: `magick photo.jp2 photo.png`)"
        }
        [_, _, _, _, b'f', b't', b'y', b'p', b'c', b'r', b'x', ..]
        | [b'I', b'I', 0x2a, 0, _, _, _, _, b'C', b'R', ..]
        | [b'F', b'U', b'J', b'I', b'F', b'I', b'L', b'M', ..] => {
            "a camera's raw data (develop it to JPEG or TIFF first)"
        }
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "a video, or another file of its kind",
        [b'8', b'B', b'P', b'S', ..] => "a Photoshop file (export it as PNG or JPEG)",
        [b'%', b'P', b'D', b'F', ..] => "a PDF file",
        [b'P', b'K', 3, 4, ..] => "a ZIP archive (unpack it)",
        [0x1f, 0x8b, ..] => "a gzip file (unpack it)",
        _ if is_svg(start) => "an SVG drawing (render it: `rsvg-convert -o drawing.png drawing.svg`)",
        _ if is_html(start) => "an HTML page (a download that failed?)",
        _ if start.starts_with(b"version https://git-lfs") => "a Git LFS pointer (run `git lfs pull`)",
        _ => return None,
    })
}

fn head(start: &[u8]) -> String {
    String::from_utf8_lossy(&start[..start.len().min(512)]).trim_start().to_lowercase()
}

fn is_svg(start: &[u8]) -> bool {
    let head = head(start);
    head.starts_with("<svg") || (head.starts_with("<?xml") && head.contains("<svg"))
}

fn is_html(start: &[u8]) -> bool {
    let head = head(start);
    head.starts_with("<!doctype html") || head.starts_with("<html")
}
