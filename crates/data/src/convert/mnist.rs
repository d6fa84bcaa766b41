//! MNIST and data sets in its format, image by image.

use std::path::Path;

use super::{Picture, Visit};
use crate::error::Result;
use crate::{idx, mnist};

pub(super) fn is_in(folder: &Path) -> bool {
    mnist::Mnist::is_in(folder)
}

pub(super) fn visit(folder: &Path, visit: &mut Visit<'_>) -> Result<()> {
    for (part, split) in [("train", "train"), ("t10k", "test")] {
        let (images, labels) = mnist::files(folder, part)?;
        let mut reader = idx::Images::open(&images)?;
        let (n, height, width) = reader.shape();
        for (i, label) in mnist::labels(&labels, &images, n)?.into_iter().enumerate() {
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
