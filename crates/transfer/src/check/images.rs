//! The one pass over all files: each is read, hashed and decoded once.

use std::sync::atomic::{AtomicUsize, Ordering};

use firstsight_data::{
    Alpha, DatasetFolder, DecodeSettings, ImageFacts, ImageHash, Labels, Reading, Sample, decode_bytes,
};
use rayon::prelude::*;

use super::finding::{Finding, FindingKind, Suggestion};
use crate::{ContentHash, Result, Runtime};

/// Side of the thumbnail that is kept of each image.
pub(super) const THUMBNAIL: usize = 32;

/// What is kept of an image after it was read: 3 kB.
#[derive(Debug, Clone)]
pub struct CheckedImage {
    /// The file.
    pub sample: Sample,
    /// Its split: `train`, `val` or `test`.
    pub split: &'static str,
    /// Its class, where images have one each.
    pub label: Option<u32>,
    /// Its label in words: a class, several, or a number.
    pub target: String,
    /// Size of the file.
    pub bytes: u64,
    /// The hash of its content; none where it cannot be read.
    pub content: Option<ContentHash>,
    /// What its header says.
    pub facts: Option<ImageFacts>,
    /// The decoded image, or why there is none.
    pub look: Result<Look, String>,
}

/// What is kept of a decoded image.
#[derive(Debug, Clone)]
pub struct Look {
    /// The hash of what it shows.
    pub hash: ImageHash,
    /// 32 × 32 RGB.
    pub thumbnail: Vec<u8>,
    /// Whether there are pixels that are not opaque.
    pub transparent: bool,
    /// What was repaired.
    pub note: Option<String>,
}

impl CheckedImage {
    /// Whether it could be decoded.
    pub fn is_sound(&self) -> bool {
        self.look.is_ok()
    }

    /// The file, for people.
    pub fn path(&self) -> String {
        self.sample.path.display().to_string()
    }

    fn read(place: &Place<'_>, reading: Reading) -> Self {
        let empty = |reason| Self {
            sample: place.sample.clone(),
            split: place.split,
            label: place.label,
            target: place.target.clone(),
            bytes: 0,
            content: None,
            facts: None,
            look: Err(reason),
        };
        let bytes = match place.sample.read() {
            Ok(bytes) => bytes,
            Err(error) => return empty(error.to_string()),
        };
        let facts = ImageFacts::read(&bytes);
        Self {
            bytes: bytes.len() as u64,
            content: Some(ContentHash::of(&bytes)),
            facts,
            look: Look::of(place.sample, &bytes, facts, reading).map_err(|error| error.to_string()),
            ..empty(String::new())
        }
    }
}

/// Where an image is, and what is known of it.
struct Place<'a> {
    sample: &'a Sample,
    split: &'static str,
    label: Option<u32>,
    target: String,
}

impl<'a> Place<'a> {
    fn all(data: &'a DatasetFolder) -> Vec<Self> {
        let mut places = Vec::new();
        for (split, folder) in data.splits() {
            let class = |&class: &u32| folder.classes()[class as usize].clone();
            for (i, sample) in folder.samples().iter().enumerate() {
                let (label, target) = match folder.targets() {
                    Labels::Class(labels) => (Some(labels[i]), class(&labels[i])),
                    Labels::MultiLabel(labels) => {
                        (None, labels[i].iter().map(class).collect::<Vec<_>>().join("|"))
                    }
                    Labels::Value(values) => (None, values[i].to_string()),
                };
                places.push(Self { sample, split, label, target });
            }
        }
        places
    }
}

impl Look {
    fn of(
        sample: &Sample,
        bytes: &[u8],
        facts: Option<ImageFacts>,
        reading: Reading,
    ) -> firstsight_data::Result<Self> {
        let settings = DecodeSettings { reading, ..ImageHash::decode_settings() };
        let image = decode_bytes(&sample.path, bytes, &settings)?;
        let transparent = match facts {
            // Transparency matters where it makes a difference.
            Some(facts) if facts.alpha => {
                let other = if reading.alpha == Alpha::Blend { Alpha::Drop } else { Alpha::Blend };
                let reading = Reading { alpha: other, ..reading };
                decode_bytes(&sample.path, bytes, &DecodeSettings { reading, ..settings })?.pixels
                    != image.pixels
            }
            _ => false,
        };
        Ok(Self {
            hash: ImageHash::new(&image.pixels)?,
            thumbnail: halved(&image.pixels, settings.width),
            transparent,
            note: image.note,
        })
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

/// Reads and decodes every image of every split, in parallel.
pub(super) fn read(data: &DatasetFolder, reading: Reading, runtime: &Runtime) -> Vec<CheckedImage> {
    let places = Place::all(data);
    let finished = AtomicUsize::new(0);
    let images = runtime.counted("images", |report| {
        let read = |place: &Place<'_>| {
            let image = CheckedImage::read(place, reading);
            report(finished.fetch_add(1, Ordering::Relaxed) + 1, places.len());
            image
        };
        Ok::<_, std::convert::Infallible>(places.par_iter().map(read).collect())
    });
    images.unwrap_or_default()
}

/// The findings about single files.
pub(super) fn findings(
    images: &[CheckedImage],
    of: impl Fn(usize, FindingKind, String) -> Finding,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let areas = areas(images);
    for (i, image) in images.iter().enumerate() {
        let look = match &image.look {
            Ok(look) => look,
            Err(reason) => {
                findings.push(of(i, FindingKind::Broken, reason.clone()).suggest(Suggestion::Remove));
                continue;
            }
        };
        if let Some(note) = &look.note {
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
