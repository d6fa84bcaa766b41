//! What is known of each image: its class, its classes, or a number.

#[cfg(feature = "decode")]
mod cells;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

#[cfg(feature = "decode")]
pub use cells::CellError;

/// What a network is to tell of an image, by the names of Hugging Face's `problem_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Task {
    /// Its class, one of several.
    #[serde(rename = "single_label_classification")]
    SingleLabel,
    /// Which of several labels it has: any number of them, or none.
    #[serde(rename = "multi_label_classification")]
    MultiLabel,
    /// A number.
    #[serde(rename = "regression")]
    Regression,
}

impl Task {
    /// All tasks.
    pub const ALL: [Self; 3] = [Self::SingleLabel, Self::MultiLabel, Self::Regression];

    /// Its name on the command line: `single-label`, `multi-label` or `regression`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SingleLabel => "single-label",
            Self::MultiLabel => "multi-label",
            Self::Regression => "regression",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The labels of some images, all of one [`Task`]. Classes are indices of the names that stand beside the labels.
///
/// # Examples
///
/// ```
/// use firstsight_data::{Labels, Task};
///
/// let labels = Labels::MultiLabel(vec![vec![0, 2], vec![], vec![1]]);
/// assert_eq!((labels.task(), labels.len()), (Task::MultiLabel, 3));
/// assert_eq!(labels.subset(&[2, 0]), Labels::MultiLabel(vec![vec![1], vec![0, 2]]));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Labels {
    /// The class of each image.
    Class(Vec<u32>),
    /// The classes of each image, in ascending order.
    MultiLabel(Vec<Vec<u32>>),
    /// A finite number for each image.
    Value(Vec<f32>),
}

impl Labels {
    /// The task that they are labels of.
    pub fn task(&self) -> Task {
        match self {
            Self::Class(_) => Task::SingleLabel,
            Self::MultiLabel(_) => Task::MultiLabel,
            Self::Value(_) => Task::Regression,
        }
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        match self {
            Self::Class(labels) => labels.len(),
            Self::MultiLabel(labels) => labels.len(),
            Self::Value(labels) => labels.len(),
        }
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of each image; empty for other tasks than one class per image.
    pub fn classes(&self) -> &[u32] {
        match self {
            Self::Class(labels) => labels,
            Self::MultiLabel(_) | Self::Value(_) => &[],
        }
    }

    /// The labels of the images at `indices`, in this order.
    ///
    /// # Panics
    ///
    /// If an index is not less than [`len`](Self::len).
    pub fn subset(&self, indices: &[usize]) -> Self {
        match self {
            Self::Class(labels) => Self::Class(indices.iter().map(|&i| labels[i]).collect()),
            Self::MultiLabel(labels) => {
                Self::MultiLabel(indices.iter().map(|&i| labels[i].clone()).collect())
            }
            Self::Value(labels) => Self::Value(indices.iter().map(|&i| labels[i]).collect()),
        }
    }

    /// These labels, then others.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for labels of another task.
    pub fn joined(self, other: &Self) -> Result<Self> {
        match (self, other) {
            (Self::Class(mut labels), Self::Class(more)) => {
                labels.extend(more);
                Ok(Self::Class(labels))
            }
            (Self::MultiLabel(mut labels), Self::MultiLabel(more)) => {
                labels.extend(more.iter().cloned());
                Ok(Self::MultiLabel(labels))
            }
            (Self::Value(mut labels), Self::Value(more)) => {
                labels.extend(more);
                Ok(Self::Value(labels))
            }
            (labels, other) => Err(Error::invalid("labels", labels.task().name(), other.task())),
        }
    }

    /// The same labels under other numbers of the classes.
    #[cfg(feature = "decode")]
    pub(crate) fn renumbered(self, number: impl Fn(u32) -> u32) -> Self {
        match self {
            Self::Class(labels) => Self::Class(labels.into_iter().map(number).collect()),
            Self::MultiLabel(rows) => {
                let renumbered = |row: Vec<u32>| {
                    let mut row: Vec<u32> = row.into_iter().map(&number).collect();
                    row.sort_unstable();
                    row.dedup();
                    row
                };
                Self::MultiLabel(rows.into_iter().map(renumbered).collect())
            }
            Self::Value(labels) => Self::Value(labels),
        }
    }

    /// The number of images of each of `n_classes` classes; of all images for [`Value`](Self::Value).
    ///
    /// # Panics
    ///
    /// If a class is not less than `n_classes`.
    pub fn counts(&self, n_classes: usize) -> Vec<usize> {
        let mut counts = vec![0; n_classes];
        match self {
            Self::Class(labels) => labels.iter().for_each(|&class| counts[class as usize] += 1),
            Self::MultiLabel(labels) => {
                labels.iter().flatten().for_each(|&class| counts[class as usize] += 1)
            }
            Self::Value(labels) => counts.fill(labels.len()),
        }
        counts
    }

    /// Whether each image has each of `n_classes` classes, as 0 and 1, (N, K) row by row; for
    /// [`Value`](Self::Value) the numbers, (N,).
    ///
    /// # Panics
    ///
    /// If a class is not less than `n_classes`.
    pub fn dense(&self, n_classes: usize) -> Vec<f32> {
        let rows = |classes: &mut dyn Iterator<Item = &[u32]>| {
            let mut values = Vec::new();
            for row in classes {
                let start = values.len();
                values.resize(start + n_classes, 0.0);
                row.iter().for_each(|&class| values[start + class as usize] = 1.0);
            }
            values
        };
        match self {
            Self::Class(labels) => rows(&mut labels.chunks(1)),
            Self::MultiLabel(labels) => rows(&mut labels.iter().map(Vec::as_slice)),
            Self::Value(labels) => labels.clone(),
        }
    }

    /// The labels as a loss takes them: classes (N,) u32, several labels (N, K) f32 of 0 and 1, numbers (N,) f32.
    ///
    /// # Errors
    ///
    /// A device that is out of memory.
    ///
    /// # Panics
    ///
    /// If a class is not less than `n_classes`.
    #[cfg(feature = "candle")]
    pub fn to_tensor(
        &self,
        n_classes: usize,
        device: &candle_core::Device,
    ) -> candle_core::Result<candle_core::Tensor> {
        use candle_core::Tensor;
        match self {
            Self::Class(labels) => Tensor::new(labels.as_slice(), device),
            Self::MultiLabel(labels) => {
                Tensor::from_vec(self.dense(n_classes), (labels.len(), n_classes), device)
            }
            Self::Value(labels) => Tensor::new(labels.as_slice(), device),
        }
    }

    /// # Errors
    ///
    /// [`Error::Invalid`] for a class without a name, classes out of order, a number that is not finite, or numbers with
    /// another number of names than one.
    pub(crate) fn check(&self, n_classes: usize) -> Result<()> {
        let unnamed = |classes: &[u32]| {
            let found = classes.iter().find(|&&class| class as usize >= n_classes);
            found.map(|class| Error::invalid("labels", format!("labels less than {n_classes}"), class))
        };
        let error = match self {
            Self::Class(labels) => unnamed(labels),
            Self::MultiLabel(labels) => labels.iter().find_map(|labels| {
                let disordered = || !labels.is_sorted_by(|a, b| a < b);
                let error =
                    || Error::invalid("labels", "each class once, in ascending order", format!("{labels:?}"));
                unnamed(labels).or_else(|| disordered().then(error))
            }),
            Self::Value(_) if n_classes != 1 => {
                Some(Error::invalid("classes", "one name, of what the numbers are", n_classes))
            }
            Self::Value(labels) => {
                let found = labels.iter().find(|value| !value.is_finite());
                found.map(|value| Error::invalid("labels", "finite numbers", value))
            }
        };
        error.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_count_and_spread_by_task() {
        let one = Labels::Class(vec![1, 0, 1]);
        assert_eq!((one.counts(2), one.dense(2)), (vec![1, 2], vec![0.0, 1.0, 1.0, 0.0, 0.0, 1.0]));
        let several = Labels::MultiLabel(vec![vec![0, 2], vec![], vec![2]]);
        assert_eq!(several.counts(3), [1, 0, 2]);
        assert_eq!(several.dense(3), [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        assert!(several.classes().is_empty());
        assert!(!several.is_empty() && Labels::MultiLabel(Vec::new()).is_empty());
        let numbers = Labels::Value(vec![2.5, -1.0]);
        assert_eq!((numbers.counts(1), numbers.dense(1)), (vec![2], vec![2.5, -1.0]));
    }

    #[test]
    fn unsound_labels_are_refused() {
        assert!(Labels::Class(vec![2]).check(2).is_err());
        assert!(Labels::MultiLabel(vec![vec![0], vec![3]]).check(3).is_err());
        assert!(Labels::MultiLabel(vec![vec![1, 1]]).check(3).is_err());
        assert!(Labels::Value(vec![f32::NAN]).check(1).is_err());
        assert!(Labels::Value(vec![1.0]).check(2).is_err());
        assert!(Labels::MultiLabel(vec![vec![], vec![0, 2]]).check(3).is_ok());
    }

    #[test]
    fn tasks_have_hugging_faces_names() {
        let names = serde_json::to_string(&Task::ALL).unwrap();
        assert_eq!(names, r#"["single_label_classification","multi_label_classification","regression"]"#);
    }
}
