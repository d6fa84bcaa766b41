#![doc = include_str!("../README.md")]

mod digits;
mod error;
mod folder;
mod pen;
mod random;
mod strokes;
mod writer;

use std::fmt;

pub use error::{Error, Result};
pub use folder::{Manifest, Settings, generate};
pub use pen::Image;
pub use writer::Writer;

/// The characters, in the order of their classes.
pub const CHARACTERS: [char; 55] = [
    '人', '从', '众', '大', '夫', '天', '口', '太', '因', '鱼', '犬', '吠', '哭', '火', '炎', '啖', '木',
    '林', '森', '本', '竹', '羊', '美', '羔', '山', '出', '女', '囡', '鸟', '日', '东', '月', '朋', '明',
    '肉', '肤', '工', '白', '虎', '门', '闪', '问', '闲', '水', '牛', '马', '吗', '妈', '玉', '王', '国',
    '主', '川', '舟', '虫',
];

/// The digits, which [`render`] and [`outline_svg`] draw too.
pub const DIGITS: [char; 10] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'];

/// The number of training images of each of [`CHARACTERS`].
const TRAIN: [usize; 55] = [
    597, 598, 600, 603, 599, 598, 597, 596, 603, 602, 598, 601, 584, 599, 602, 240, 598, 598, 598, 604, 600,
    600, 591, 597, 598, 602, 597, 240, 598, 597, 601, 604, 595, 596, 598, 601, 600, 604, 597, 597, 597, 601,
    598, 597, 599, 597, 596, 595, 602, 601, 600, 599, 593, 601, 602,
];

/// The number of test images of each of [`CHARACTERS`].
const TEST: [usize; 55] = [
    144, 142, 143, 144, 141, 143, 143, 143, 144, 143, 141, 141, 138, 142, 143, 60, 144, 143, 144, 143, 142,
    144, 144, 141, 144, 142, 144, 59, 143, 143, 142, 144, 144, 144, 143, 140, 141, 141, 143, 144, 143, 143,
    142, 143, 144, 144, 143, 142, 142, 145, 142, 141, 142, 143, 144,
];

/// A part of the data set; each has its own writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Split {
    /// Images to train and validate on.
    Train,
    /// Images to test on.
    Test,
}

impl Split {
    /// Both splits.
    pub const ALL: [Split; 2] = [Split::Train, Split::Test];

    /// The number of writers who share the split's images of a character: image `i` is by writer `i % writers()`,
    /// counted from 0.
    pub fn writers(self) -> usize {
        match self {
            Split::Train => 150,
            Split::Test => 36,
        }
    }
}

/// The name of the split's folder: `Train` or `Test`.
impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Split::Train => "Train",
            Split::Test => "Test",
        })
    }
}

/// The number of images of each character in the full data set, 32,206 for training and 7,684 for testing.
///
/// ```
/// use firstsight_handwriting::{Split, counts};
/// assert_eq!(counts(Split::Train).next(), Some(('人', 597)));
/// assert_eq!(counts(Split::Train).map(|(_, n)| n).sum::<usize>(), 32_206);
/// ```
pub fn counts(split: Split) -> impl Iterator<Item = (char, usize)> {
    let numbers = match split {
        Split::Train => TRAIN,
        Split::Test => TEST,
    };
    CHARACTERS.into_iter().zip(numbers)
}

/// Draws a writer's `sample`-th image of a character or digit: a pure function of its arguments.
///
/// # Errors
///
/// [`Error::Character`] for a character that is not among [`CHARACTERS`] or [`DIGITS`].
///
/// ```
/// use firstsight_handwriting::{Split, Writer, render};
/// let writer = Writer::new(123, Split::Train, 0);
/// let image = render('虎', &writer, 0)?;
/// assert_eq!(image.pixels.len(), (image.width * image.height) as usize);
/// # Ok::<(), firstsight_handwriting::Error>(())
/// ```
pub fn render(character: char, writer: &Writer, sample: u64) -> Result<Image> {
    let strokes = strokes::strokes(character).ok_or(Error::Character { found: character })?;
    let (lines, mut random) = writer.write(character, &strokes, sample);
    let margins = [0; 4].map(|_| random.between(3.0, 12.0));
    Ok(pen::draw(&lines, &writer.ink, margins, &mut random))
}

/// The neutral form of a character as SVG path data, in a box from 0 to 1000 with y down, to be filled with the
/// rule `nonzero`; `None` for one that is not among [`CHARACTERS`] or [`DIGITS`].
///
/// Use it for labels and legends where no font has the characters.
///
/// ```
/// use firstsight_handwriting::outline_svg;
/// let path = outline_svg('山').ok_or("in the table")?;
/// let svg = format!(r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 1000"><path d="{path}"/></svg>"#);
/// assert!(svg.contains(r#"d="M"#));
/// # Ok::<(), &str>(())
/// ```
pub fn outline_svg(character: char) -> Option<String> {
    Some(pen::outline(&strokes::strokes(character)?, 0.075))
}

#[cfg(test)]
mod tests;
