//! MNIST and data sets in its format, image by image.

use std::path::Path;

use super::{Picture, Visit};
use crate::error::{Error, Result};
use crate::{idx, mnist};

pub(super) fn is_in(folder: &Path) -> bool {
    mnist::Mnist::is_in(folder)
}

pub(super) fn visit(folder: &Path, visit: &mut Visit<'_>) -> Result<()> {
    for (part, split) in [("train", "train"), ("t10k", "test")] {
        let (images, labels) = mnist::files(folder, part)?;
        let of = idx::read_labels(&labels)?;
        let mut reader = idx::Images::open(&images)?;
        let (n, height, width) = reader.shape();
        let wrong = |path: &Path, expected: String, found: String| {
            Err(Error::Format { path: path.to_owned(), expected, found })
        };
        if of.len() != n {
            return wrong(&labels, format!("{n} labels, as there are images"), of.len().to_string());
        }
        if let Some(label) = of.iter().find(|&&label| label > 9) {
            return wrong(&labels, "labels from 0 to 9".to_owned(), label.to_string());
        }
        for (i, label) in of.iter().enumerate() {
            let pixels = reader.next()?;
            visit(Picture {
                split,
                class: label.to_string(),
                name: format!("{:05}", i + 1),
                width: width as u32,
                height: height as u32,
                channels: 1,
                pixels,
            })?;
        }
        reader.finish()?;
    }
    Ok(())
}
