//! What the headers of all files say, without decoding any.

use firstsight_data::{Colors, DatasetFolder, ImageFacts};
use rayon::prelude::*;
use serde::Serialize;

/// Numbers of images whose files are read differently by different programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct HeaderCounts {
    /// Images with a readable header.
    pub n: usize,
    /// Those whose EXIF data says that they lie on their side or are mirrored.
    pub turned: usize,
    /// Those with a channel of transparency or a transparent color.
    pub alpha: usize,
    /// Those in gray of 16 bits.
    pub sixteen_bit: usize,
}

impl HeaderCounts {
    /// Reads the files of all splits, in parallel. [`DataCheck`](super::DataCheck) also looks whether transparency is used.
    pub fn of(data: &DatasetFolder) -> Self {
        let samples: Vec<_> = data.splits().flat_map(|(_, folder)| folder.samples()).collect();
        let facts = samples.par_iter().filter_map(|sample| ImageFacts::read(&sample.read().ok()?));
        let count = |facts: ImageFacts| Self {
            n: 1,
            turned: usize::from(facts.orientation != 1),
            alpha: usize::from(facts.alpha),
            sixteen_bit: usize::from(facts.bits == 16 && facts.colors == Colors::Gray),
        };
        facts.map(count).reduce(Self::default, |a, b| Self {
            n: a.n + b.n,
            turned: a.turned + b.turned,
            alpha: a.alpha + b.alpha,
            sixteen_bit: a.sixteen_bit + b.sixteen_bit,
        })
    }

    /// What there is to say.
    pub fn sentences(&self) -> Vec<String> {
        let of = |n: usize, what: &str| (n > 0).then(|| format!("{n} of {} images {what}", self.n));
        let sentences = [
            of(self.turned, "carry an EXIF rotation: it is applied, unless `--exif ignore` says otherwise"),
            of(
                self.alpha,
                "have transparency: they are shown on white, unless `--alpha drop` says otherwise",
            ),
            of(
                self.sixteen_bit,
                "are gray of 16 bits: the upper byte is used, unless `--sixteen-bit clip` says otherwise",
            ),
        ];
        sentences.into_iter().flatten().collect()
    }
}
