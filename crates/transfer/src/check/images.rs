//! The one pass over all files: each is read, hashed and decoded once.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use firstsight_data::{
    Alpha, DatasetFolder, DecodeSettings, DecodedImage, ImageDataset, ImageFacts, ImageFolder, ImageHash,
    Labels, PixelStore, Reading, Sample, decode_bytes,
};
use rayon::prelude::*;

use super::finding::{Finding, FindingKind, Suggestion};
use crate::splits::label;
use crate::{ContentHash, Error, Result, Runtime, Split};

/// Side of the thumbnails that the small network sees.
pub(super) const THUMBNAIL: usize = 32;

/// Images that are read before their thumbnails are kept.
const CHUNK: usize = 2048;

/// What is kept of an image after it was read: some 150 bytes, and its entry in the index of files.
#[derive(Debug, Clone)]
pub struct CheckedImage {
    /// The file.
    pub sample: Sample,
    /// Its split.
    pub split: Split,
    /// Its class, where images have one each.
    pub label: Option<u32>,
    /// Its label in words, by index among [`CheckResult::targets`](super::CheckResult::targets).
    pub target: u32,
    /// Size of the file.
    pub bytes: u64,
    /// The hash of its content; none where it cannot be read.
    pub content: Option<ContentHash>,
    /// What its header says.
    pub facts: Option<ImageFacts>,
    /// The decoded image, or why there is none.
    pub look: Result<Look, Box<str>>,
}

/// What is kept of a decoded image.
#[derive(Debug, Clone)]
pub struct Look {
    /// The hash of what it shows.
    pub hash: ImageHash,
    /// Whether there are pixels that are not opaque.
    pub transparent: bool,
}

impl CheckedImage {
    /// Whether it could be decoded.
    pub fn is_sound(&self) -> bool {
        self.look.is_ok()
    }

    /// The file, for people.
    pub fn path(&self) -> String {
        self.sample.path().display().to_string()
    }

    /// The image, its pixels where it could be decoded, and what was repaired.
    fn read(sample: &Sample, split: Split, reading: Reading) -> (Self, Option<DecodedImage>) {
        let unread = |reason: String| Self {
            sample: sample.clone(),
            split,
            label: None,
            target: 0,
            bytes: 0,
            content: None,
            facts: None,
            look: Err(reason.into()),
        };
        let bytes = match sample.read() {
            Ok(bytes) => bytes,
            Err(error) => return (unread(error.to_string()), None),
        };
        let facts = ImageFacts::read(&bytes);
        let (look, decoded) = match Look::of(sample, &bytes, facts, reading) {
            Ok((look, decoded)) => (Ok(look), Some(decoded)),
            Err(error) => (Err(error.to_string().into()), None),
        };
        let (content, length) = (Some(ContentHash::of(&bytes)), bytes.len() as u64);
        (Self { bytes: length, content, facts, look, ..unread(String::new()) }, decoded)
    }
}

/// Labels in words, each once.
#[derive(Default)]
struct Targets {
    texts: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Targets {
    /// The number of a label's words.
    fn number(&mut self, text: String) -> u32 {
        let texts = &mut self.texts;
        *self.numbers.entry(text).or_insert_with_key(|text| {
            texts.push(text.clone());
            texts.len() as u32 - 1
        })
    }
}

fn decode(sample: &Sample, bytes: &[u8], reading: Reading) -> firstsight_data::Result<DecodedImage> {
    decode_bytes(&sample.path(), bytes, &DecodeSettings { reading, ..ImageHash::decode_settings() })
}

fn thumbnail(image: &DecodedImage) -> Vec<u8> {
    halved(&image.pixels, ImageHash::decode_settings().width)
}

impl Look {
    /// What there is to keep of an image, and its pixels.
    fn of(
        sample: &Sample,
        bytes: &[u8],
        facts: Option<ImageFacts>,
        reading: Reading,
    ) -> firstsight_data::Result<(Self, DecodedImage)> {
        let image = decode(sample, bytes, reading)?;
        let transparent = match facts {
            // Transparency matters where it makes a difference.
            Some(facts) if facts.alpha => {
                let other = if reading.alpha == Alpha::Blend { Alpha::Drop } else { Alpha::Blend };
                decode(sample, bytes, Reading { alpha: other, ..reading })?.pixels != image.pixels
            }
            _ => false,
        };
        Ok((Self { hash: ImageHash::new(&image.pixels)?, transparent }, image))
    }
}

/// An RGB image at half its width and height.
fn halved(pixels: &[u8], width: usize) -> Vec<u8> {
    let rows: Vec<&[u8]> = pixels.chunks_exact(3 * width).collect();
    let mut half = Vec::with_capacity(pixels.len() / 4);
    for pair in rows.chunks_exact(2) {
        for x in 0..width / 2 {
            for channel in 0..3 {
                let left = 6 * x + channel;
                let sum: u16 = pair.iter().map(|row| u16::from(row[left]) + u16::from(row[left + 3])).sum();
                half.push(((sum + 2) / 4) as u8);
            }
        }
    }
    half
}

/// What came of reading a data set.
pub(super) struct Checked {
    pub(super) images: Vec<CheckedImage>,
    /// The labels in words.
    pub(super) targets: Vec<String>,
    /// Images that were repaired, with what was.
    pub(super) notes: BTreeMap<usize, String>,
    /// Where they are wanted; black ones of images that could not be decoded.
    pub(super) thumbnails: Option<ImageDataset>,
}

/// Reads and decodes every image of every split, in parallel. The thumbnails are kept if they are `wanted`.
pub(super) fn read(
    data: &DatasetFolder,
    reading: Reading,
    wanted: bool,
    runtime: &Runtime,
) -> Result<Checked> {
    let total = data.splits().map(|(_, folder)| folder.len()).sum();
    let size = (THUMBNAIL, THUMBNAIL, 3);
    let mut store = match wanted && total > 0 {
        true => Some(PixelStore::begin(total, size, runtime.cache.as_ref())?),
        false => None,
    };
    let black = vec![0; THUMBNAIL * THUMBNAIL * 3];
    let finished = AtomicUsize::new(0);
    let (mut images, mut targets, mut notes) =
        (Vec::with_capacity(total), Targets::default(), BTreeMap::new());
    runtime.counted("images", |report| {
        for (split, folder) in parts(data) {
            let read = |i: usize| {
                let (image, decoded) = CheckedImage::read(&folder.samples()[i], split, reading);
                let shown = decoded.as_ref().filter(|_| wanted).map(thumbnail);
                report(finished.fetch_add(1, Ordering::Relaxed) + 1, total);
                (image, shown, decoded.and_then(|decoded| decoded.note))
            };
            for start in (0..folder.len()).step_by(CHUNK) {
                let chunk = start..folder.len().min(start + CHUNK);
                let read: Vec<_> = chunk.clone().into_par_iter().map(read).collect();
                for (i, (image, shown, note)) in chunk.zip(read) {
                    notes.extend(note.map(|note| (images.len(), note)));
                    let target = targets.number(label(folder, i));
                    images.push(CheckedImage { label: folder.labels().get(i).copied(), target, ..image });
                    if let Some(store) = &mut store {
                        store.push(shown.as_ref().unwrap_or(&black));
                    }
                }
            }
        }
        Ok::<_, Error>(())
    })?;
    let thumbnails = |store: PixelStore| {
        let samples: Vec<Sample> = images.iter().map(|image| image.sample.clone()).collect();
        let again = move |i: usize| Ok(thumbnail(&decode(&samples[i], &samples[i].read()?, reading)?));
        store.finish(Labels::Class(vec![0; total]), vec![String::new()], again)
    };
    let thumbnails = store.map(thumbnails).transpose()?;
    Ok(Checked { images, targets: targets.texts, notes, thumbnails })
}

/// The images of each split.
pub(super) fn parts(data: &DatasetFolder) -> impl Iterator<Item = (Split, &ImageFolder)> {
    let parts = [(Split::Train, &data.train), (Split::Val, &data.val), (Split::Test, &data.test)];
    parts.into_iter().filter_map(|(split, folder)| Some((split, folder.as_ref()?)))
}

/// The findings about single files.
pub(super) fn findings(
    images: &[CheckedImage],
    notes: &BTreeMap<usize, String>,
    of: impl Fn(usize, FindingKind, String) -> Finding,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let areas = areas(images);
    for (i, image) in images.iter().enumerate() {
        let look = match &image.look {
            Ok(look) => look,
            Err(reason) => {
                findings.push(of(i, FindingKind::Broken, reason.to_string()).suggest(Suggestion::Remove));
                continue;
            }
        };
        if let Some(note) = notes.get(&i) {
            findings
                .push(of(i, FindingKind::Repaired, note.replace("repaired: ", "")).suggest(Suggestion::Look));
        }
        if look.hash.detail() == 0 {
            findings.push(of(i, FindingKind::Blank, "is of one color".to_owned()).suggest(Suggestion::Look));
        }
        if look.transparent {
            findings.push(of(i, FindingKind::Transparent, "has transparent pixels".to_owned()));
        }
        let Some(facts) = image.facts else { continue };
        if facts.orientation != 1 {
            let reason = format!("EXIF orientation {}", facts.orientation);
            findings.push(of(i, FindingKind::Turned, reason));
        }
        if facts.bits == 16 && facts.colors == firstsight_data::Colors::Gray {
            findings.push(of(i, FindingKind::SixteenBit, "gray of 16 bits".to_owned()));
        }
        if let Some(reason) = odd_size(facts, areas) {
            findings.push(of(i, FindingKind::OddSize, reason).suggest(Suggestion::Look));
        }
    }
    findings
}

/// The median number of pixels.
fn areas(images: &[CheckedImage]) -> u64 {
    let facts = images.iter().filter(|image| image.is_sound()).filter_map(|image| image.facts);
    let mut areas: Vec<u64> = facts.map(|facts| u64::from(facts.width) * u64::from(facts.height)).collect();
    areas.sort_unstable();
    areas.get(areas.len() / 2).copied().unwrap_or(0)
}

fn odd_size(facts: ImageFacts, median: u64) -> Option<String> {
    /// How many times as many pixels as the median, or as few.
    const AREA: u64 = 20;
    /// How many times as long as wide.
    const LENGTH: u32 = 6;
    let (width, height) = facts.shown();
    let area = u64::from(width) * u64::from(height);
    let long = width.max(height) >= LENGTH * width.min(height);
    if area > median * AREA || area * AREA < median {
        Some(format!("{width}×{height}, where the median is {median} pixels"))
    } else if long {
        Some(format!("{width}×{height}: much longer than wide"))
    } else {
        None
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn facts([width, height]: [u32; 2]) -> ImageFacts {
        let [width, height] = [width, height].map(u32::to_be_bytes);
        let header = [&b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"[..], &width, &height, &[8, 0, 0, 0, 0, 0, 0, 0, 0]];
        ImageFacts::read(&header.concat()).unwrap()
    }

    /// An image of class 0 that could be read.
    pub(in crate::check) fn image(size: [u32; 2], bytes: u64) -> CheckedImage {
        let hash = ImageHash::new(&[0; 3 * 64 * 64]).unwrap();
        CheckedImage {
            sample: Sample::file("a.png"),
            split: Split::Train,
            label: Some(0),
            target: 0,
            bytes,
            content: None,
            facts: Some(facts(size)),
            look: Ok(Look { hash, transparent: false }),
        }
    }

    #[test]
    fn the_median_is_of_the_pixels_of_images_that_can_be_read() {
        assert_eq!(areas(&[]), 0);
        let broken = CheckedImage { look: Err("cut off".into()), ..image([1, 1], 0) };
        let mut images = vec![broken.clone(), image([7, 3], 0), broken, image([5, 2], 0), image([4, 1], 0)];
        assert_eq!(areas(&images), 10);
        images.push(image([9, 9], 0));
        assert_eq!(areas(&images), 21, "the upper of two");
    }

    #[test]
    fn a_size_is_odd_from_twentyfold_or_a_sixth_on() {
        let odd = |width, height, median| odd_size(facts([width, height]), median);
        for (median, is_odd) in
            [(499, true), (500, false), (10_000, false), (200_000, false), (200_001, true)]
        {
            assert_eq!(odd(100, 100, median).is_some(), is_odd, "{median}");
        }
        assert_eq!(odd(59, 10, 590), None);
        assert_eq!(odd(10, 60, 600).unwrap(), "10×60: much longer than wide");
    }
}
