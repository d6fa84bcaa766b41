//! The lecture's own results for comparison: (loss, accuracy, top-5).

use firstsight_transfer::{report_sections::ReferenceRow, training::Trained};

type Triple = (f64, f64, f64);

/// A model's figures in the lecture.
pub(super) struct Reference {
    train: Triple,
    val: Triple,
    test: Option<Triple>,
}

/// Keras 3.14 on 25,764 training, 6,442 validation and 7,684 test images of real handwriting.
pub(super) const LOGISTIC: Reference =
    Reference { train: (1.8805, 0.6949, 0.8844), val: (2.4310, 0.5924, 0.8347), test: None };

/// The same for the convolutional network.
pub(super) const CNN: Reference = Reference {
    train: (0.0042, 0.9988, 1.0),
    val: (0.4665, 0.9343, 0.9953),
    test: Some((0.9513, 0.8850, 0.9875)),
};

/// Whether these are the lecture's 55 characters.
pub(super) fn are_the_lectures(classes: &[String]) -> bool {
    let mut characters: Vec<String> =
        firstsight_handwriting::CHARACTERS.iter().map(char::to_string).collect();
    characters.sort_unstable();
    classes == characters
}

impl Reference {
    /// Our figures with the lecture's.
    pub(super) fn rows(&self, trained: &Trained) -> Vec<ReferenceRow> {
        let mut rows = vec![
            ReferenceRow { split: "training", ours: trained.train.summary(), reference: Some(self.train) },
            ReferenceRow { split: "validation", ours: trained.val.summary(), reference: Some(self.val) },
        ];
        if let Some(test) = &trained.test {
            rows.push(ReferenceRow { split: "test", ours: test.summary(), reference: self.test });
        }
        rows
    }
}
