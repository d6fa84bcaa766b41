//! The flags that say how validation images are set aside.

use firstsight_transfer::{GroupBy, SplitConfig};

use crate::values;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SplitArgs {
    /// Seed of the split where the folder has no validation images
    #[arg(long, default_value_t = 123, value_name = "N")]
    pub(crate) split_seed: u32,
    /// Share of each class that is set aside where the folder has no validation images
    #[arg(long, default_value_t = firstsight_transfer::VALIDATION_SHARE, value_parser = values::inner_share, allow_negative_numbers = true, value_name = "SHARE")]
    validation_share: f64,
    /// Keep the images of a group on one side: a regular expression of the file name whose first group names it, such as
    /// '^(p[0-9]+)_' for p17_left.jpg
    #[arg(long, value_name = "PATTERN")]
    group_by: Option<String>,
}

impl SplitArgs {
    pub(crate) fn config(&self) -> SplitConfig {
        SplitConfig {
            share: self.validation_share,
            group_by: self.group_by.as_ref().map(GroupBy::new),
            ..SplitConfig::stratified(self.split_seed)
        }
    }

    /// The same flags for another command, where they are not the usual ones.
    pub(crate) fn as_flags(&self) -> String {
        let mut flags = format!(" --split-seed {}", self.split_seed);
        if self.validation_share != firstsight_transfer::VALIDATION_SHARE {
            flags += &format!(" --validation-share {}", self.validation_share);
        }
        if let Some(group_by) = &self.group_by {
            flags += &format!(" --group-by {group_by:?}");
        }
        flags
    }
}
