//! What a damaged JPEG file has lost, and whether the rest is worth reading.

use libjpeg_turbo_rs::{DecodeWarning, Decoder};

use crate::decode::exif::jpeg_segments;
use crate::decode::failure::{Failure, check_lost};

/// Whether the markers of a JPEG file lead to an end-of-image marker (ITU-T T.81, annex B).
///
/// A search for the marker's two bytes would also find the one of an embedded thumbnail.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    markers(bytes).any(|(marker, _)| marker == END)
}

const END: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
const RESTART_INTERVAL: u8 = 0xdd;

/// The markers of a JPEG file, those between scans too: the marker's second byte and what follows it.
fn markers(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    // In a scan's data 0xff precedes 0 or a restart marker; elsewhere any marker may follow, after fill bytes.
    let is_data = |byte: u8| matches!(byte, 0 | 0xd0..=0xd7);
    let mut position = 2;
    let mut in_scan = false;
    std::iter::from_fn(move || {
        while let Some([first, second, ..]) = bytes.get(position..) {
            if *first != 0xff || *second == 0xff || (in_scan && is_data(*second)) {
                position += 1;
                continue;
            }
            let marker = *second;
            let after = &bytes[position + 2..];
            position = match after {
                _ if marker == END => bytes.len(),
                [high, low, ..] => position + 2 + usize::from(u16::from_be_bytes([*high, *low])),
                _ => bytes.len(),
            };
            in_scan = marker == START_OF_SCAN;
            return Some((marker, after));
        }
        None
    })
}

/// Checks what a file without its end, or with errors, has lost; the note for what is left.
///
/// A tenth of the blocks may be gone. Of a progressive file every coefficient must have arrived in at least its first pass,
/// the last scan in nine tenths of its blocks.
pub(super) fn check_scans(
    bytes: &[u8],
    decoder: &Decoder<'_>,
    warnings: &[DecodeWarning],
) -> Result<String, Failure> {
    let (mut lost, mut total, mut errors) = (0, 0, 0);
    let interval = restart_interval(bytes);
    for warning in warnings {
        match warning {
            DecodeWarning::TruncatedData { decoded_mcus, total_mcus } => {
                let rest = total_mcus.saturating_sub(*decoded_mcus);
                lost += interval.map_or(rest, |interval| rest.min(interval - decoded_mcus % interval));
                total = total.max(*total_mcus);
            }
            DecodeWarning::HuffmanError { .. } => errors += 1,
            DecodeWarning::WarningsSuppressed { count } => errors += count,
            DecodeWarning::UnsupportedRecovered { detail } => {
                return Err(Failure::Undecodable(detail.clone()));
            }
            _ => {}
        }
    }
    if let (Some(interval), true) = (interval, lost > 0) {
        // The warning is about one segment. Those after the end of the file have none.
        let found = 1 + bytes.windows(2).filter(|pair| matches!(pair, [0xff, 0xd0..=0xd7])).count();
        lost += total.div_ceil(interval).saturating_sub(found) * interval;
    }
    let lost = lost.min(total);
    let header = decoder.header();
    if total == 0 {
        // Blocks of a scan where nobody counted them: those of the largest component.
        let of = |sampling: fn(&libjpeg_turbo_rs::ComponentInfo) -> u8| {
            header.components.iter().map(|c| usize::from(sampling(c))).max().unwrap_or(1)
        };
        let across = usize::from(header.width).div_ceil(8 * of(|c| c.horizontal_sampling));
        total = across * usize::from(header.height).div_ceil(8 * of(|c| c.vertical_sampling));
    }
    if header.is_progressive {
        let complete = lost * 10 <= total;
        let is_refined = check_first_passes(bytes, header.components.len(), complete)?;
        return Ok(match (is_refined, lost, errors) {
            (true, 0, 0) => "repaired: the end marker is missing".to_owned(),
            (true, 0, _) => format!("repaired: {errors} of {total} blocks have errors"),
            _ => "repaired: the file is cut off, and fine detail is missing".to_owned(),
        });
    }
    check_lost(lost + errors, total, "blocks", lost > 0)?;
    Ok(match (lost, errors) {
        (0, 0) => "repaired: the end marker is missing".to_owned(),
        (0, _) => format!("repaired: {errors} of {total} blocks have errors"),
        _ => format!("repaired: {} of {total} blocks are missing", lost + errors),
    })
}

/// Blocks between restart markers, of a file with one scan.
fn restart_interval(bytes: &[u8]) -> Option<usize> {
    let scans = markers(bytes).filter(|(marker, _)| *marker == START_OF_SCAN).count();
    let intervals = jpeg_segments(bytes)
        .filter(|(marker, _)| *marker == RESTART_INTERVAL)
        .filter_map(|(_, data)| Some(usize::from(u16::from_be_bytes([*data.first()?, *data.get(1)?]))));
    intervals.last().filter(|interval| *interval > 0 && scans == 1)
}

/// Checks that each coefficient of each component has a first pass. Returns whether each has its last pass too.
fn check_first_passes(bytes: &[u8], n_components: usize, last_is_complete: bool) -> Result<bool, Failure> {
    // The bits of each coefficient that are still to come.
    let mut seen = vec![[None::<u8>; 64]; n_components];
    let mut names: Vec<u8> = Vec::new();
    let scans: Vec<&[u8]> =
        markers(bytes).filter(|(marker, _)| *marker == START_OF_SCAN).map(|(_, data)| data).collect();
    let n = scans.len() - usize::from(!last_is_complete).min(scans.len());
    for data in &scans[..n] {
        let components = usize::from(data.get(2).copied().unwrap_or(0));
        let Some([from, to, approximation, ..]) = data.get(3 + 2 * components..) else { continue };
        for name in data[3..].iter().step_by(2).take(components) {
            let index = names.iter().position(|known| known == name).unwrap_or_else(|| {
                names.push(*name);
                names.len() - 1
            });
            if let Some(band) =
                seen.get_mut(index).and_then(|s| s.get_mut(usize::from(*from)..=usize::from(*to)))
            {
                band.fill(Some(approximation & 15));
            }
        }
    }
    match seen.iter().flatten().all(Option::is_some) {
        true => Ok(seen.iter().flatten().all(|left| *left == Some(0))),
        false => Err(Failure::Undecodable(
            "the file is cut off, and scans of a progressive image are missing".to_owned(),
        )),
    }
}
