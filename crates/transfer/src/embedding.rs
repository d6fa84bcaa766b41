//! Images as features, and those that are like others.

use std::path::PathBuf;

use firstsight_data::Sample;
use firstsight_train::{Inference, Outputs, outputs};

use crate::training::in_order;
use crate::{Classifier, Error, Result};

/// An image file with its features, or the reason that there are none.
#[derive(Debug)]
pub struct EmbeddingRow {
    /// The file.
    pub image: PathBuf,
    /// The input of the last layer, F numbers, or the error of reading the file.
    pub features: Result<Vec<f32>, firstsight_data::Error>,
    /// What was done to a file that is not as it should be, in words.
    pub note: Option<String>,
}

impl Classifier {
    /// The features of images, timm's pre-logits, in their order, each given to `on_row` as soon as they are there. A batch of
    /// images is in memory at a time. A file that cannot be read is a row as well; an error of `on_row` ends the work.
    ///
    /// # Errors
    ///
    /// Those of `on_row`; [`Error::Train`] for features that are NaN.
    pub fn embed_images<E: From<Error>>(
        &self,
        images: impl IntoIterator<Item = Sample>,
        mut on_row: impl FnMut(EmbeddingRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut images = images.into_iter();
        let of_images = |images: &_| {
            let network = Inference::in_pool(self.network.backbone(), &self.packed);
            let Outputs { values, n_outputs, .. } =
                outputs(&network, &in_order(images, &self.input, &self.device)?)?;
            Ok(values.chunks_exact(n_outputs).map(<[f32]>::to_vec).collect())
        };
        while let Some(rows) = self.next_rows(&mut images, of_images)? {
            for (image, decoded) in rows {
                let (features, note) = match decoded {
                    Ok((features, note)) => (Ok(features), note),
                    Err(error) => (Err(error), None),
                };
                on_row(EmbeddingRow { image, features, note })?;
            }
        }
        Ok(())
    }
}

/// What features are like some others, by the cosine of the angle between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Likeness {
    /// Of length 1.
    queries: Vec<Vec<f32>>,
}

impl Likeness {
    /// To any of `queries`, of F numbers each.
    pub fn new(queries: impl IntoIterator<Item = Vec<f32>>) -> Self {
        let unit = |mut features: Vec<f32>| {
            let length = length(&features);
            features.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
            features
        };
        Self { queries: queries.into_iter().map(unit).collect() }
    }

    /// The largest cosine, in [−1, 1], of `features` with a query.
    ///
    /// ```
    /// use firstsight_transfer::Likeness;
    ///
    /// let likeness = Likeness::new([vec![3.0, 4.0], vec![0.0, 1.0]]);
    /// assert!((likeness.of(&[6.0, 8.0]) - 1.0).abs() < 1e-6);
    /// assert!((likeness.of(&[-1.0, 0.0]) - 0.0).abs() < 1e-6);
    /// ```
    pub fn of(&self, features: &[f32]) -> f32 {
        let length = length(features);
        let cosine = |query: &Vec<f32>| {
            query.iter().zip(features).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() / length
        };
        self.queries.iter().map(cosine).fold(-1.0, f64::max) as f32
    }
}

fn length(features: &[f32]) -> f64 {
    features.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt().max(1e-12)
}
