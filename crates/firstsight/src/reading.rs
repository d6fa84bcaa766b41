//! Flags for how image files are read, and for those that can't be.

use firstsight_data::{Alpha, Damaged, Exif, OnError, Reading, SixteenBit};

use crate::values;

const READING: &str = "Reading images";

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OnErrorArgs {
    /// Files that cannot be read as images: leave each out with its reason, or stop before the first step and name them all
    /// (predict and embed stop at the first)
    /// [default: fail for training, skip elsewhere]
    #[arg(long, help_heading = READING, value_parser = values::on_error(), value_name = "POLICY")]
    on_error: Option<OnError>,
    /// `--on-error skip` under its old name
    #[arg(long, hide = true, conflicts_with = "on_error")]
    skip_unreadable: bool,
}

impl OnErrorArgs {
    /// The policy for files that cannot be read.
    pub(crate) fn policy(&self, usual: OnError) -> OnError {
        self.given().unwrap_or(usual)
    }

    fn given(&self) -> Option<OnError> {
        self.skip_unreadable.then_some(OnError::Skip).or(self.on_error)
    }

    /// The flag as it was typed, after a space, for a command that is to do the same.
    pub(crate) fn typed(&self) -> String {
        let given = self.given().map(|policy| values::name(policy, &values::ON_ERROR));
        given.map_or(String::new(), |policy| format!(" --on-error {policy}"))
    }
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ReadingArgs {
    /// Read files as viewers show them, or as Pillow's `convert` and timm do [default: viewer; a run's own]
    #[arg(long, help_heading = READING, value_parser = values::reading(), value_name = "WAY")]
    reading: Option<Reading>,
    /// The orientation in a photo's EXIF data [default: that of --reading]
    #[arg(long, help_heading = READING, value_parser = values::exif(), value_name = "WAY")]
    exif: Option<Exif>,
    /// 16-bit gray [default: that of --reading]
    #[arg(long, help_heading = READING, value_parser = values::sixteen_bit(), value_name = "WAY")]
    sixteen_bit: Option<SixteenBit>,
    /// Transparency [default: that of --reading]
    #[arg(long, help_heading = READING, value_parser = values::alpha(), value_name = "WAY")]
    alpha: Option<Alpha>,
    /// Files that are cut off or have errors in their data [default: that of --reading]
    #[arg(long, help_heading = READING, value_parser = values::damaged(), value_name = "WAY")]
    damaged: Option<Damaged>,
    /// Maximum number of pixels of an image in its file [default: 250000000]
    #[arg(long, help_heading = READING, value_parser = values::pixels, value_name = "N")]
    max_pixels: Option<u64>,
}

impl ReadingArgs {
    /// How files are read by a network that is to be trained.
    pub(crate) fn reading(&self) -> Reading {
        self.over(Reading::viewer())
    }

    /// How files are read where nothing but flags changes `usual`.
    pub(crate) fn over(&self, usual: Reading) -> Reading {
        let usual = self.reading.unwrap_or(usual);
        Reading {
            exif: self.exif.unwrap_or(usual.exif),
            sixteen_bit: self.sixteen_bit.unwrap_or(usual.sixteen_bit),
            alpha: self.alpha.unwrap_or(usual.alpha),
            damaged: self.damaged.unwrap_or(usual.damaged),
            max_pixels: self.max_pixels.unwrap_or(usual.max_pixels),
        }
    }

    /// The flags as they were typed, each after a space, for a command that is to read the same.
    pub(crate) fn typed(&self) -> String {
        let mut text = String::new();
        let mut flag = |name: &str, value: Option<String>| {
            text.extend(value.map(|value| format!(" --{name} {value}")));
        };
        flag("reading", self.reading.map(|v| values::name(v, &values::READING)));
        flag("exif", self.exif.map(|v| values::name(v, &values::EXIF)));
        flag("sixteen-bit", self.sixteen_bit.map(|v| values::name(v, &values::SIXTEEN_BIT)));
        flag("alpha", self.alpha.map(|v| values::name(v, &values::ALPHA)));
        flag("damaged", self.damaged.map(|v| values::name(v, &values::DAMAGED)));
        flag("max-pixels", self.max_pixels.map(|v| v.to_string()));
        text
    }
}

/// The error of a command that did its work but for files that cannot be read: exit code 1.
#[derive(Debug)]
pub(crate) struct SomeUnreadable {
    n: usize,
    total: usize,
}

impl SomeUnreadable {
    /// An error where `n` is not 0, to be returned once everything else is done.
    pub(crate) fn check(n: usize, total: usize) -> anyhow::Result<()> {
        if n == 0 { Ok(()) } else { Err(Self { n, total }.into()) }
    }
}

impl std::fmt::Display for SomeUnreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} files could not be read as images", self.n, self.total)
    }
}

impl std::error::Error for SomeUnreadable {}

/// The error of a check that found classes that no training takes, each in a sentence: exit code 1.
#[derive(Debug)]
pub(crate) struct UnfitClasses(Vec<String>);

impl UnfitClasses {
    /// An error where there are any, to be returned once everything else is done.
    pub(crate) fn check(found: Vec<String>) -> anyhow::Result<()> {
        if found.is_empty() { Ok(()) } else { Err(Self(found).into()) }
    }
}

impl std::fmt::Display for UnfitClasses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no training takes these classes: {}", self.0.join("; "))
    }
}

impl std::error::Error for UnfitClasses {}
