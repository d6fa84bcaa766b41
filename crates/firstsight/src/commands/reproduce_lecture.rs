use std::path::PathBuf;

use anyhow::{Result, bail};
use firstsight_lecture::{MNIST_MIRROR, SectionName, Settings};
use firstsight_transfer::{Interrupted, WeightsSource};

use crate::{context::Context, hub, values};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of character images, Train/Test of class folders [default: generated handwriting]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A tenth of the images and fewer epochs: the whole report in minutes
    #[arg(long)]
    quick: bool,
    /// California housing as a CSV file [default: a generated table]
    #[arg(long, value_name = "FILE")]
    housing: Option<PathBuf>,
    /// Photo for the sections on convolution and augmentation [default: a drawn scene]
    #[arg(long, value_name = "FILE")]
    photo: Option<PathBuf>,
    /// Folder with MNIST's four files, plain or gzip [default: downloaded, or, with --quick or without network, generated
    /// digits]
    #[arg(long, value_name = "DIR")]
    mnist: Option<PathBuf>,
    /// Address to download MNIST's four files from [default: PyTorch's mirror]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "mnist")]
    mnist_mirror: Option<String>,
    /// Pretrained weights for sections 5 and 10: a hub repository (owner/name), a folder or a file (may be repeated)
    /// [default: the published ones, from the hub; without a network, those of a network trained here]
    #[arg(long, value_name = "HUB_ID, FOLDER or FILE")]
    weights: Vec<String>,
    /// Folder of class folders of photos that section 10 transfers ImageNet's weights to [default: two characters]
    #[arg(long, value_name = "DIR")]
    photos: Option<PathBuf>,
    /// Section to write (may be repeated) [default: all]
    #[arg(long, value_parser = values::section(), value_name = "NAME")]
    section: Vec<SectionName>,
    /// Folder for report.html, metrics.json, pictures and the trained runs
    #[arg(long, default_value = "report", value_name = "DIR")]
    out: PathBuf,
    /// Continue the trainings that an earlier call left in the folder
    #[arg(long)]
    resume: bool,
}

impl Args {
    /// Refuses paths where nothing is and names of weights that are none, before the first section begins.
    fn check(&self) -> Result<()> {
        let named = [
            ("--data", &self.data),
            ("--housing", &self.housing),
            ("--photo", &self.photo),
            ("--mnist", &self.mnist),
            ("--photos", &self.photos),
        ];
        for (flag, path) in named {
            if let Some(path) = path.as_ref().filter(|path| !path.exists()) {
                bail!("{flag} {}: no such file or folder", path.display());
            }
        }
        self.weights.iter().try_for_each(|text| WeightsSource::parse(text).map(drop))?;
        Ok(())
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    args.check()?;
    let settings = Settings {
        data: args.data.clone(),
        quick: args.quick,
        housing: args.housing.clone(),
        photo: args.photo.clone(),
        mnist: args.mnist.clone(),
        mnist_mirror: args.mnist_mirror.clone(),
        weights: args.weights.clone(),
        photos: args.photos.clone(),
        sections: args.section.clone(),
        resume: args.resume,
        mirror: hub::elsewhere(args.mnist_mirror.as_deref().unwrap_or(MNIST_MIRROR))?,
        ..Settings::new(&args.out, &context.datasets, context.seed, hub::config()?)
    };
    let outcome = firstsight_lecture::run(&settings, &context.runtime)?;
    say!("{}", outcome.report.display());
    if outcome.interrupted {
        return Err(Interrupted("the report shows what was reached; `--resume` continues".to_owned()).into());
    }
    Ok(())
}
