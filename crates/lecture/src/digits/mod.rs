//! Digits of 32×32 pixels, light on black: MNIST where available, generated ones otherwise.

mod drawn;
mod mnist;

pub use self::mnist::MNIST_MIRROR;

use firstsight_data::{ImageDataset, Mnist, train_test_split};
use firstsight_handwriting::Split;
use firstsight_transfer::DecodedSplits;

use super::SPLIT_SEED;
use crate::{Context, Result};

/// Pixels on a side, as LeNet-5 takes them.
pub(super) const SIDE: usize = 32;

/// Share of the training digits used for validation: 5,000 of MNIST's 60,000.
const VALIDATION_SHARE: f64 = 1.0 / 12.0;

/// Digits to train, validate and test on.
pub(super) struct Digits {
    pub(super) splits: DecodedSplits,
    /// From which data, in words, for captions.
    pub(super) source: String,
    /// Why they are drawn, if they are.
    pub(super) drawn: Option<String>,
}

impl Digits {
    /// MNIST from the folder that was named, from where an earlier call put it, or from the network; drawn digits where
    /// none of these has it. The quick form takes fewer, and asks no network.
    ///
    /// # Errors
    /// Files that were named, or lie where an earlier call put them, and are not as they should be.
    pub(super) fn find(context: &Context<'_>) -> Result<Self> {
        let quick = context.settings.quick;
        let found = mnist::find(context)?;
        let digits = match found {
            mnist::Found::In(folder) => {
                let Mnist { train, test } = Mnist::read(&folder, SIDE)?;
                Self::new(&train, test, "MNIST".to_owned(), None)?
            }
            mnist::Found::Nowhere { why } => {
                let n = if quick { 720 } else { 3000 };
                let train = drawn::draw(Split::Train, n, context.settings.seed)?;
                let test = drawn::draw(Split::Test, n / 5, context.settings.seed)?;
                let source = format!("digits drawn by this program, seed {}", context.settings.seed);
                Self::new(&train, test, source, Some(why))?
            }
        };
        Ok(if quick { digits.first(6000, 600, 1400) } else { digits })
    }

    fn new(train: &ImageDataset, test: ImageDataset, source: String, drawn: Option<String>) -> Result<Self> {
        let (kept, val) = train_test_split(train.len(), VALIDATION_SHARE, SPLIT_SEED)?;
        let splits = DecodedSplits::in_memory(train.subset(&kept), train.subset(&val), Some(test));
        Ok(Self { splits, source, drawn })
    }

    /// The first images of each part.
    pub(super) fn first(&self, train: usize, val: usize, test: usize) -> Self {
        let first =
            |images: &ImageDataset, n: usize| images.subset(&(0..n.min(images.len())).collect::<Vec<_>>());
        let splits = DecodedSplits::in_memory(
            first(&self.splits.train, train),
            first(&self.splits.val, val),
            self.splits.test.as_ref().map(|images| first(images, test)),
        );
        Self { splits, source: self.source.clone(), drawn: self.drawn.clone() }
    }
}
