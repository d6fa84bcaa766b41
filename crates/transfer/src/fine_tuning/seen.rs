//! Images to measure on that the weights were trained on before.

use std::collections::HashSet;

use crate::{ContentHash, Pretrained, Result, RunFolder, Split, SplitRecord, Splits};

/// How many images of a split a run, whose weights are fine-tuned, was trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) split: Split,
    n: usize,
    of: usize,
    run: String,
}

impl Seen {
    /// Those of the validation and test images, by the record of the run that the weights are of.
    pub(super) fn by_weights(pretrained: &Pretrained, splits: &Splits) -> Result<Vec<Self>> {
        let Some(run) = pretrained.weights.parent().and_then(|folder| RunFolder::open(folder).ok()) else {
            return Ok(Vec::new());
        };
        if !run.split().exists() {
            return Ok(Vec::new());
        }
        let record = SplitRecord::read(&run.split())?;
        let splits_trained = run.trained_splits();
        let trained: HashSet<ContentHash> = record
            .rows()
            .filter(|row| splits_trained.contains(&row.split))
            .filter_map(|row| row.sha256)
            .collect();
        let seen = |(split, images): (Split, &firstsight_data::ImageFolder)| {
            let known = |sample| splits.contents.get(sample).is_some_and(|hash| trained.contains(&hash));
            let n = images.samples().iter().filter(|sample| known(sample)).count();
            Self { split, n, of: images.len(), run: pretrained.origin.clone() }
        };
        let measured = splits.parts().into_iter().filter(|(split, _)| *split != Split::Train);
        Ok(measured.map(seen).filter(|seen| seen.n > 0).collect())
    }

    /// What a user must know of it.
    pub(super) fn sentence(&self) -> String {
        let images = match self.split {
            Split::Test => "test images",
            Split::Val | Split::Train => "validation images",
        };
        let were = if self.n == 1 { "was" } else { "were" };
        format!(
            "{} of {} {images} {were} trained on by {}: their figures are too good",
            self.n, self.of, self.run
        )
    }

    /// The same within a sentence about the images.
    pub(super) fn part(&self) -> String {
        let were = if self.n == 1 { "was" } else { "were" };
        format!("of which {} {were} trained on by {} before", self.n, self.run)
    }
}
