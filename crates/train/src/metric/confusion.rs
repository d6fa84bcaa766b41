//! Metrics from the counts of each class.

use super::{Accumulator, BatchOutputs, Metric, argmax};

/// Defines a metric that follows from the counts by (true, predicted) class.
macro_rules! confusion_metric {
    ($(#[$doc:meta])* $metric:ident, $name:literal, $value:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $metric;

        impl Metric for $metric {
            fn name(&self) -> String {
                $name.to_owned()
            }

            fn accumulator(&self) -> Box<dyn Accumulator> {
                Box::new(Confusion { value: $value, classes: Vec::new() })
            }
        }
    };
}

confusion_metric!(
    /// Precision per class, averaged over classes: scikit-learn's `precision_score(average="macro")`.
    ///
    /// The predicted class is the one with the largest logit; for one logit, class 1 if it is above 0. Classes that occur
    /// neither as label nor as prediction are left out; a class that is never predicted has precision 0.
    MacroPrecision,
    "macro_precision",
    |classes| mean(classes.iter().filter(|c| c.occurs()).map(Counts::precision))
);

confusion_metric!(
    /// Recall per class, averaged over classes: scikit-learn's `recall_score(average="macro")`.
    ///
    /// Classes that occur neither as label nor as prediction are left out; a class that is only predicted has recall 0.
    /// See [`BalancedAccuracy`] for the average over the classes of the labels.
    MacroRecall,
    "macro_recall",
    |classes| mean(classes.iter().filter(|c| c.occurs()).map(Counts::recall))
);

confusion_metric!(
    /// F1, the harmonic mean of precision and recall, per class, averaged over classes: scikit-learn's
    /// `f1_score(average="macro")`.
    ///
    /// Classes that occur neither as label nor as prediction are left out.
    MacroF1,
    "macro_f1",
    |classes| mean(classes.iter().filter(|c| c.occurs()).map(Counts::f1))
);

confusion_metric!(
    /// Recall averaged over the classes of the labels: scikit-learn's `balanced_accuracy_score`.
    BalancedAccuracy,
    "balanced_accuracy",
    |classes| mean(classes.iter().filter(|c| c.labels > 0).map(Counts::recall))
);

/// The numbers of a class's labels, predictions, and right predictions.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) labels: usize,
    pub(crate) predictions: usize,
    pub(crate) right: usize,
}

impl Counts {
    pub(crate) fn occurs(&self) -> bool {
        self.labels + self.predictions > 0
    }

    pub(crate) fn precision(&self) -> f64 {
        self.right as f64 / self.predictions.max(1) as f64
    }

    pub(crate) fn recall(&self) -> f64 {
        self.right as f64 / self.labels.max(1) as f64
    }

    pub(crate) fn f1(&self) -> f64 {
        2.0 * self.right as f64 / (self.labels + self.predictions).max(1) as f64
    }
}

/// The mean; NaN of nothing.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0), |(sum, n), value| (sum + value, n + 1));
    sum / f64::from(n)
}

struct Confusion {
    value: fn(&[Counts]) -> f64,
    classes: Vec<Counts>,
}

impl Confusion {
    fn class(&mut self, class: usize) -> &mut Counts {
        if class >= self.classes.len() {
            self.classes.resize(class + 1, Counts::default());
        }
        &mut self.classes[class]
    }
}

impl Accumulator for Confusion {
    fn add(&mut self, batch: &BatchOutputs<'_>) {
        for (row, label) in batch.rows() {
            let predicted = match row {
                [logit] => usize::from(*logit > 0.0),
                _ => argmax(row),
            };
            let label = label as usize;
            self.class(label).labels += 1;
            self.class(predicted).predictions += 1;
            self.class(label).right += usize::from(predicted == label);
        }
    }

    fn value(&self) -> f64 {
        (self.value)(&self.classes)
    }
}
