//! Hashes that are alike for pictures that look alike, and the search for near ones.

use std::sync::LazyLock;

use rayon::prelude::*;

use crate::decode_settings::{DecodeSettings, Interpolation};
use crate::error::{Error, Result};
use crate::raster::luma;
use crate::split::groups::Sets;

/// Side of the picture that is hashed.
const SIDE: usize = 64;
/// Frequencies in each direction.
const FREQUENCIES: usize = 16;
/// Frequencies in each direction that make up the index.
const LOW: usize = 8;
/// Largest distance of the index's 64 bits between near pictures.
const LOW_DISTANCE: u32 = 11;
/// Bits of a part of the index, which is searched by its parts.
const PART_BITS: u32 = 16;
const PARTS: u32 = u64::BITS / PART_BITS;
/// Pairs that are kept of one picture with later ones, the nearest. Of the others those are kept that alone connect two pictures.
const PAIRS_OF_ONE: usize = 16;
/// Pictures whose pairs are in memory at the same time.
const BLOCK: usize = 64;

/// A hash of what a picture shows, the same or nearly so after another compression, another size, a small change of
/// brightness or a small crop.
///
/// The 256 bits are those of PDQ (Meta, "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", 2019):
/// the 16 × 16 lowest frequencies but the constant ones of a gray picture of 64 × 64, each as whether it is above the median. PDQ's
/// reduction of the picture is replaced by an antialiased one.
///
/// # Examples
///
/// ```
/// use firstsight_data::{ImageHash, decode_image};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let picture = |x: u32, y: u32| image::Luma([((x * x / 37 + 3 * y) % 251) as u8 / 2 + if x > y { 90 } else { 0 }]);
/// # image::GrayImage::from_fn(200, 150, picture).save(folder.path().join("a.png")).unwrap();
/// # image::GrayImage::from_fn(200, 150, picture).save(folder.path().join("b.bmp")).unwrap();
/// let hash = |name| -> firstsight_data::Result<ImageHash> {
///     ImageHash::new(&decode_image(&folder.path().join(name), &ImageHash::decode_settings())?)
/// };
/// assert_eq!(hash("a.png")?.distance(&hash("b.bmp")?), 0);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageHash {
    /// The 8 × 8 lowest frequencies, compared with their own median: Zauner's pHash, the index of the search. In bytes, as the
    /// other bits, since words would take room for their alignment.
    low: [u8; 8],
    bits: [[u8; 8]; 4],
    detail: u8,
}

impl ImageHash {
    /// Largest distance at which two pictures count as near. Of 125,000 pairs of different photos the nearest is 92 apart; of the
    /// 794 million pairs of 39,843 handwritten characters the first with different characters is 56 apart. A photo without 2 % of
    /// its width and height all around is 18 bits away in the median, without 4 % 36.
    pub const NEAR: u32 = 54;

    /// The least [`detail`](Self::detail) at which a hash says something. Of smooth pictures with a detail of 25 a copy at another
    /// size differs by 22 bits at most. PDQ asks for 50.
    pub const LEAST_DETAIL: u8 = 20;

    /// The settings that decode a file to the picture that is hashed.
    pub fn decode_settings() -> DecodeSettings {
        DecodeSettings { interpolation: Interpolation::Bilinear, ..DecodeSettings::rgb(SIDE, SIDE) }
    }

    /// The hash of an RGB picture of 64 × 64, row by row.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for another number of bytes.
    pub fn new(rgb: &[u8]) -> Result<Self> {
        const BYTES: usize = 3 * SIDE * SIDE;
        if rgb.len() != BYTES {
            return Err(Error::invalid("rgb", format!("{BYTES} bytes"), rgb.len()));
        }
        let gray: Vec<u8> = rgb.as_chunks::<3>().0.iter().map(luma).collect();
        let frequencies = transform(&gray);
        let low = std::array::from_fn(|i| frequencies[i / LOW * FREQUENCIES + i % LOW]);
        let [low] = above_median::<{ LOW * LOW }, 1>(low);
        let bits = above_median::<{ FREQUENCIES * FREQUENCIES }, 4>(frequencies);
        Ok(Self { low: low.to_le_bytes(), bits: bits.map(u64::to_le_bytes), detail: detail(&gray) })
    }

    /// The number of bits that differ, from 0 to 256. Two unrelated pictures are about 128 apart.
    pub fn distance(&self, other: &Self) -> u32 {
        let differing =
            |(a, b): (&[u8; 8], &[u8; 8])| (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)).count_ones();
        self.bits.iter().zip(&other.bits).map(differing).sum()
    }

    /// How much there is to see, from 0 for one color to 100: PDQ's quality, the sum of gradients. Below
    /// [`LEAST_DETAIL`](Self::LEAST_DETAIL) a picture is nearly of one color, and its hash says little.
    pub fn detail(&self) -> u8 {
        self.detail
    }

    fn low(&self) -> u64 {
        u64::from_le_bytes(self.low)
    }

    fn part(&self, part: u32) -> u16 {
        (self.low() >> (part * PART_BITS)) as u16
    }
}

/// Two pictures that look alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NearPair {
    /// Index of the first.
    pub first: usize,
    /// Index of the second, which is larger.
    pub second: usize,
    /// Bits by which they differ.
    pub distance: u32,
}

/// The pairs of pictures that are at most [`ImageHash::NEAR`] apart, by index, without pictures of too little detail. Of a
/// picture with many copies the nearest few pairs are given, and others where these do not connect the two.
///
/// The search is by multi-index hashing (Norouzi, Punjani and Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", 2012):
/// two hashes of 64 bits that differ in 11 at most differ in 2 at most in one of their four parts. Up to some hundred thousand
/// pictures the time is nearly proportional to their number, beyond that to its square: a hash is compared with 1 in 120 of all.
pub fn near_pairs(hashes: &[ImageHash]) -> Vec<NearPair> {
    near_pairs_of(hashes.len(), |picture| Some(&hashes[picture]))
}

/// As [`near_pairs`], of `n` pictures whose hashes lie elsewhere. Those without one are near none.
pub fn near_pairs_of<'a>(n: usize, hash: impl Fn(usize) -> Option<&'a ImageHash> + Sync) -> Vec<NearPair> {
    let detailed = |picture| hash(picture).filter(|hash| hash.detail >= ImageHash::LEAST_DETAIL);
    let flips = flips(LOW_DISTANCE / PARTS);
    let mut all: Vec<NearPair> = Vec::new();
    let mut connected = Sets::new(n);
    // One part of the index is in memory at a time.
    for part in 0..PARTS {
        let index = PartIndex::new(n, detailed, part);
        let near = |first: u32, connected: &Sets| {
            let mut pairs = Vec::new();
            let first = first as usize;
            let Some(of_first) = detailed(first) else { return pairs };
            let low_of_first = of_first.low();
            for (lows, pictures) in flips.iter().map(|flip| index.bucket(of_first.part(part) ^ flip)) {
                for (low, &second) in lows.iter().zip(pictures) {
                    let second = second as usize;
                    if (low_of_first ^ low).count_ones() > LOW_DISTANCE || second <= first {
                        continue;
                    }
                    let Some(of_second) = detailed(second) else { continue };
                    let distance = of_first.distance(of_second);
                    if distance <= ImageHash::NEAR {
                        pairs.push(NearPair { first, second, distance });
                    }
                }
            }
            pairs.sort_unstable_by_key(|pair| (pair.distance, pair.second));
            let mut rank = 0..;
            pairs.retain(|pair| {
                rank.next() < Some(PAIRS_OF_ONE) || connected.root(pair.first) != connected.root(pair.second)
            });
            pairs
        };
        // In the order of the index: pictures of one value are compared with the same others, which are then in the processor's cache.
        for block in index.pictures.chunks(BLOCK) {
            let pairs = block.par_iter().flat_map_iter(|&first| near(first, &connected)).collect();
            all.extend(thinned(pairs, &mut connected));
        }
    }
    let mut pairs = thinned(all, &mut Sets::new(n));
    pairs.par_sort_unstable();
    pairs
}

/// The nearest pairs of each picture, and of the others, the nearest first, those of pictures that are not yet connected.
fn thinned(mut pairs: Vec<NearPair>, connected: &mut Sets) -> Vec<NearPair> {
    pairs.par_sort_unstable_by_key(|pair| (pair.first, pair.distance, pair.second));
    pairs.dedup();
    let (mut kept, mut others) = (Vec::new(), Vec::new());
    for of_one in pairs.chunk_by(|a, b| a.first == b.first) {
        let (nearest, rest) = of_one.split_at(of_one.len().min(PAIRS_OF_ONE));
        kept.extend_from_slice(nearest);
        others.extend_from_slice(rest);
    }
    for pair in &kept {
        connected.join(pair.first, pair.second);
    }
    others.par_sort_unstable_by_key(|pair| (pair.distance, pair.first, pair.second));
    kept.extend(others.into_iter().filter(|pair| connected.join(pair.first, pair.second)));
    kept
}

/// The pictures of each value of one part of the index.
struct PartIndex {
    /// Where the pictures of each value begin.
    starts: Vec<u32>,
    pictures: Vec<u32>,
    /// Their whole indexes, which lie side by side: nearly all of them are too far away.
    lows: Vec<u64>,
}

impl PartIndex {
    fn new<'a>(n: usize, hash: impl Fn(usize) -> Option<&'a ImageHash>, part: u32) -> Self {
        let hashed = || (0..n).filter_map(|picture| Some((picture, hash(picture)?)));
        let mut starts = vec![0u32; (1 << PART_BITS) + 1];
        for (_, hash) in hashed() {
            starts[usize::from(hash.part(part)) + 1] += 1;
        }
        for value in 1..starts.len() {
            starts[value] += starts[value - 1];
        }
        let mut next = starts.clone();
        let n = starts.last().copied().unwrap_or(0) as usize;
        let (mut pictures, mut lows) = (vec![0; n], vec![0; n]);
        for (picture, hash) in hashed() {
            let place = &mut next[usize::from(hash.part(part))];
            pictures[*place as usize] = picture as u32;
            lows[*place as usize] = hash.low();
            *place += 1;
        }
        Self { starts, pictures, lows }
    }

    fn bucket(&self, value: u16) -> (&[u64], &[u32]) {
        let value = usize::from(value);
        let range = self.starts[value] as usize..self.starts[value + 1] as usize;
        (&self.lows[range.clone()], &self.pictures[range])
    }
}

/// All changes of at most `n` bits.
fn flips(n: u32) -> Vec<u16> {
    (0..=u16::MAX).filter(|flip| flip.count_ones() <= n).collect()
}

/// The cosine transform's frequencies 1 to 16 in both directions, rows first.
fn transform(gray: &[u8]) -> [f32; FREQUENCIES * FREQUENCIES] {
    static COSINES: LazyLock<[[f32; SIDE]; FREQUENCIES]> = LazyLock::new(|| {
        let step = std::f64::consts::PI / (2 * SIDE) as f64;
        std::array::from_fn(|i| std::array::from_fn(|j| (step * ((i + 1) * (2 * j + 1)) as f64).cos() as f32))
    });
    // Along rows, then along columns.
    let mut rows = [[0f32; FREQUENCIES]; SIDE];
    for (row, pixels) in rows.iter_mut().zip(gray.chunks_exact(SIDE)) {
        for (value, cosines) in row.iter_mut().zip(COSINES.iter()) {
            *value = cosines.iter().zip(pixels).map(|(cosine, &pixel)| cosine * f32::from(pixel)).sum();
        }
    }
    std::array::from_fn(|i| {
        let (down, across) = (i / FREQUENCIES, i % FREQUENCIES);
        COSINES[down].iter().zip(&rows).map(|(cosine, row)| cosine * row[across]).sum()
    })
}

/// Whether each of `N` values is above the median, 64 in a word.
fn above_median<const N: usize, const WORDS: usize>(values: [f32; N]) -> [u64; WORDS] {
    let mut sorted = values;
    sorted.sort_by(f32::total_cmp);
    let median = (sorted[N / 2 - 1] + sorted[N / 2]) / 2.0;
    std::array::from_fn(|word| {
        values[word * 64..][..64]
            .iter()
            .enumerate()
            .fold(0, |bits, (i, &value)| bits | u64::from(value > median) << i)
    })
}

/// PDQ's quality: the sum of the gradients in percent of the gray range, divided by 90, at most 100.
fn detail(gray: &[u8]) -> u8 {
    let gradient = |a: u8, b: u8| u32::from(a.abs_diff(b)) * 100 / 255;
    let across =
        gray.chunks_exact(SIDE).flat_map(|row| row.windows(2).map(|pair| gradient(pair[0], pair[1])));
    let down = gray.iter().zip(&gray[SIDE..]).map(|(&above, &below)| gradient(above, below));
    (across.chain(down).sum::<u32>() / 90).min(100) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash that differs from zeros in these bits.
    fn with(bits: impl IntoIterator<Item = usize>) -> ImageHash {
        let mut hash = ImageHash { low: [0; 8], bits: [[0; 8]; 4], detail: 100 };
        bits.into_iter().for_each(|bit| hash.bits[bit / 64][bit / 8 % 8] ^= 1 << (bit % 8));
        hash
    }

    #[test]
    fn variants_that_are_near_one_picture_alone_stay_connected() {
        let mut state = 1u64;
        let mut bit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as usize
        };
        let variants = (0..24).map(|_| {
            let mut bits = std::collections::BTreeSet::new();
            while bits.len() < 44 {
                bits.insert(bit());
            }
            with(bits)
        });
        let hashes: Vec<ImageHash> = std::iter::once(with([])).chain(variants).collect();
        for (i, a) in hashes.iter().enumerate().skip(1) {
            assert_eq!(a.distance(&hashes[0]), 44);
            assert!(hashes[1..i].iter().all(|b| a.distance(b) > ImageHash::NEAR), "{i}");
        }
        let pairs = near_pairs(&hashes);
        assert_eq!(pairs.len(), 24);
        assert!(pairs.iter().all(|pair| pair.first == 0 && pair.distance == 44));
    }

    #[test]
    fn of_a_picture_with_many_copies_the_nearest_are_given() {
        let hashes: Vec<ImageHash> = (0..40).rev().map(|n| with(0..n)).collect();
        let pairs = near_pairs(&hashes);
        let of_the_eleventh: Vec<usize> =
            pairs.iter().filter(|pair| pair.first == 10).map(|pair| pair.second).collect();
        assert_eq!(of_the_eleventh, (11..27).collect::<Vec<_>>());
        let reversed: Vec<ImageHash> = std::iter::once(with([])).chain(hashes).collect();
        let of_first: Vec<NearPair> =
            near_pairs(&reversed).into_iter().filter(|pair| pair.first == 0).collect();
        assert!(of_first.len() == 16 && of_first.iter().all(|pair| pair.distance < 16), "{of_first:?}");
    }
}
