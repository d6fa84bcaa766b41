//! The classification task of a transfer.

use std::sync::Arc;

use firstsight_data::{ImageDataset, ImageFolder, InputSpec};
use firstsight_report::escape_markup;
use firstsight_train::{Accuracy, BinaryAccuracy, BinaryCrossEntropy, CrossEntropy, Loss, Metric};
use firstsight_transfer::{SplitConfig, Splits, decode};

use crate::{Lecture, Result, SPLIT_SEED, Settings};

/// Images of a few classes.
pub(super) struct Task {
    pub(super) train: ImageDataset,
    pub(super) val: ImageDataset,
    /// From which data, in words.
    pub(super) source: String,
}

impl Task {
    /// Two classes take one logit, as in the lecture; more take one each.
    pub(super) fn n_outputs(&self) -> usize {
        match self.train.classes().len() {
            2 => 1,
            n => n,
        }
    }

    pub(super) fn loss(&self) -> Arc<dyn Loss> {
        if self.n_outputs() == 1 { Arc::new(BinaryCrossEntropy) } else { Arc::new(CrossEntropy) }
    }

    pub(super) fn metric(&self) -> Arc<dyn Metric> {
        if self.n_outputs() == 1 { Arc::new(BinaryAccuracy) } else { Arc::new(Accuracy) }
    }

    /// The classes, for a sentence.
    pub(super) fn classes(&self) -> String {
        let names: Vec<String> = self.train.classes().iter().map(|name| escape_markup(name)).collect();
        match names.as_slice() {
            [rest @ .., last] if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
            _ => names.concat(),
        }
    }

    /// The photos that were named, or else two of the characters, as a network of this input takes them.
    pub(super) fn for_pretrained(args: &Settings, lecture: &Lecture<'_>, input: &InputSpec) -> Result<Self> {
        let (settings, runtime) = (input.decode_settings(), lecture.context.runtime);
        if let Some(photos) = &args.photos {
            let folders = Splits::scan_with(photos, SplitConfig::scikit_learn(SPLIT_SEED), runtime)?;
            let name = photos.file_name().unwrap_or_else(|| photos.as_os_str());
            return Ok(Self {
                train: decode(&folders.train, "photos", &settings, runtime)?,
                val: decode(&folders.val, "validation photos", &settings, runtime)?,
                source: format!("photos of the folder {}", escape_markup(&name.to_string_lossy())),
            });
        }
        let classes = [0, 1];
        let two_classes = |folder: &ImageFolder, task: &str| -> Result<ImageDataset> {
            let labels = folder.labels();
            let wanted: Vec<usize> =
                (0..folder.len()).filter(|&i| classes.contains(&(labels[i] as usize))).collect();
            restrict(&decode(&folder.subset(&wanted), task, &settings, runtime)?, &classes, usize::MAX)
        };
        Ok(Self {
            train: two_classes(&lecture.folders.train, "two characters")?,
            val: two_classes(&lecture.folders.val, "two characters, validation")?,
            source: lecture.source.clone(),
        })
    }

    /// Some of the characters as the report's own networks see them, with at most so many training images a class.
    pub(super) fn of_characters(lecture: &Lecture<'_>, classes: &[usize], most: usize) -> Result<Self> {
        Ok(Self {
            train: restrict(&lecture.splits.train, classes, most)?,
            val: restrict(&lecture.splits.val, classes, usize::MAX)?,
            source: lecture.source.clone(),
        })
    }
}

/// The images of `classes` alone, numbered in their order, of each at most `most`.
pub(super) fn restrict(images: &ImageDataset, classes: &[usize], most: usize) -> Result<ImageDataset> {
    let (_, height, width, channels) = images.shape();
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for (label, &class) in (0..).zip(classes) {
        let of_class = (0..images.len()).filter(|&i| images.labels()[i] as usize == class);
        for i in of_class.take(most) {
            pixels.extend_from_slice(&images.image(i)?);
            labels.push(label);
        }
    }
    let names = classes.iter().map(|&class| images.classes()[class].clone()).collect();
    Ok(ImageDataset::from_pixels(pixels, (height, width, channels), labels, names)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_numbered_anew() {
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        let images =
            ImageDataset::from_pixels(vec![1, 2, 3, 4, 5], (1, 1, 1), vec![2, 0, 1, 2, 2], names).unwrap();
        let two = restrict(&images, &[2, 1], 2).unwrap();
        assert_eq!((two.classes(), two.labels()), (&["c".to_owned(), "b".to_owned()][..], &[0, 0, 1][..]));
        assert_eq!([0, 1, 2].map(|i| two.image(i).unwrap().into_owned()), [[1], [4], [3]]);
    }
}
