//! Where MNIST is: in a folder, or on the web.

use std::path::{Path, PathBuf};

use firstsight_data::Mnist;
use firstsight_transfer::{Event, HubError, HubProgress, WebFile, files};

use crate::{Context, Error, Result};

/// PyTorch's mirror, since the authors' own site no longer serves the files.
pub const MNIST_MIRROR: &str = "https://ossci-datasets.s3.amazonaws.com/mnist";

/// Name, bytes and sha256 of each file as it is distributed, the small ones first.
#[rustfmt::skip]
const FILES: [(&str, u64, &str); 4] = [
    ("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ("train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ("t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    ("train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
];

pub(super) enum Found {
    In(PathBuf),
    /// For this reason, a part of a sentence.
    Nowhere {
        why: String,
    },
}

/// The folder that was named, or the one for downloads, which is filled from `mirror` or, unless the form is quick,
/// from [`MNIST_MIRROR`].
pub(super) fn find(context: &Context<'_>) -> Result<Found> {
    if let Some(folder) = &context.settings.mnist {
        return Ok(Found::In(folder.clone()));
    }
    let folder = context.settings.datasets.join("mnist");
    if Mnist::is_in(&folder) {
        return Ok(Found::In(folder));
    }
    if let Some(mirror) = &context.settings.mnist_mirror {
        let wrong = |source| Error::Mnist { mirror: mirror.clone(), source: Box::new(source) };
        fetch(mirror, &folder, context).map_err(wrong)?;
        return Ok(Found::In(folder));
    }
    if context.settings.quick {
        return Ok(Found::Nowhere { why: "the quick form downloads nothing".to_owned() });
    }
    match fetch(MNIST_MIRROR, &folder, context) {
        Ok(()) => Ok(Found::In(folder)),
        Err(error) if is_about_the_web(&error) => {
            let text = format!("MNIST could not be fetched, digits are drawn instead: {error}");
            context.runtime.message(&text);
            Ok(Found::Nowhere { why: "it could not be fetched".to_owned() })
        }
        Err(error) => Err(error.into()),
    }
}

fn fetch(mirror: &str, folder: &Path, context: &Context<'_>) -> Result<(), firstsight_transfer::Error> {
    let config = &context.settings.mirror;
    if config.offline {
        let file = "MNIST".to_owned();
        return Err(
            HubError::Offline { repository: mirror.to_owned(), file, cache: folder.to_path_buf() }.into()
        );
    }
    files::create_dir(folder)?;
    for (name, size, sha256) in FILES {
        let url = format!("{}/{name}", mirror.trim_end_matches('/'));
        let file = WebFile { url: &url, size, sha256 };
        file.fetch(config, &folder.join(name), &mut |received, total| {
            let progress = HubProgress { file: name, received, total: Some(total) };
            context.runtime.report(&Event::Download(progress));
        })?;
    }
    Ok(())
}

/// Whether the files cannot be fetched, rather than not be written.
fn is_about_the_web(error: &firstsight_transfer::Error) -> bool {
    matches!(error, firstsight_transfer::Error::Hub(error) if !matches!(**error, HubError::Io { .. }))
}
