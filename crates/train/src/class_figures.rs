//! Figures of each class, and their averages over classes.

use crate::Predictions;
use crate::metric::{Counts, mean};

/// The figures of one class. Those of a class that occurs are scikit-learn's: 0 where nothing is right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassFigures {
    /// Number of examples of the class.
    pub n: usize,
    /// Number of examples that are predicted as the class.
    pub predicted: usize,
    /// Share of right predictions among those of this class, 0 for a class that is never predicted; `None` for a class that is
    /// neither a label nor a prediction.
    pub precision: Option<f64>,
    /// Share of the class's examples that are predicted as such; `None` for a class without examples.
    pub recall: Option<f64>,
    /// The harmonic mean of precision and recall; `None` for a class that is neither a label nor a prediction.
    pub f1: Option<f64>,
}

/// Averages over classes, each class counting the same: scikit-learn's "macro avg" over the classes that are a label or a
/// prediction. NaN without examples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MacroAverages {
    /// Mean precision.
    pub precision: f64,
    /// Mean recall; 0 counts for a class that is only predicted.
    pub recall: f64,
    /// Mean F1.
    pub f1: f64,
    /// Mean recall of the classes that have examples: scikit-learn's `balanced_accuracy_score`.
    pub balanced_accuracy: f64,
}

impl Predictions {
    /// Precision, recall and F1 of each class.
    pub fn per_class(&self) -> Vec<ClassFigures> {
        let figures = |counts: Counts| ClassFigures {
            n: counts.labels,
            predicted: counts.predictions,
            precision: counts.occurs().then(|| counts.precision()),
            recall: (counts.labels > 0).then(|| counts.recall()),
            f1: counts.occurs().then(|| counts.f1()),
        };
        self.counts().into_iter().map(figures).collect()
    }

    /// Precision, recall and F1, averaged over classes.
    pub fn macro_averages(&self) -> MacroAverages {
        let counts = self.counts();
        let over = |of: fn(&Counts) -> f64| mean(counts.iter().filter(|c| c.occurs()).map(of));
        MacroAverages {
            precision: over(Counts::precision),
            recall: over(Counts::recall),
            f1: over(Counts::f1),
            balanced_accuracy: mean(counts.iter().filter(|c| c.labels > 0).map(Counts::recall)),
        }
    }

    fn counts(&self) -> Vec<Counts> {
        let (k, confusion) = (self.n_classes, self.confusion());
        let class = |c: usize| Counts {
            labels: confusion[c * k..(c + 1) * k].iter().sum(),
            predictions: confusion.iter().skip(c).step_by(k).sum(),
            right: confusion[c * k + c],
        };
        (0..k).map(class).collect()
    }
}
