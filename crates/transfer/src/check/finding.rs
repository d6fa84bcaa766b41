//! One thing that is wrong, or may be.

use std::fmt;

use serde::Serialize;

/// The kind of a finding, in the order of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FindingKind {
    /// A file that cannot be read as an image.
    Broken,
    /// A class that no training takes: alone, without images, or named like another one.
    UnfitClass,
    /// A damaged file, of which what viewers show is read.
    Repaired,
    /// A file that is not used.
    LeftOut,
    /// The same or nearly the same picture under two labels.
    ConflictingLabels,
    /// A file of the same content as another of the same class.
    ExactDuplicate,
    /// A picture that looks like another of the same class.
    NearDuplicate,
    /// A label that is probably wrong.
    SuspectedLabel,
    /// A picture unlike all others.
    Outlier,
    /// A property of files, rather than of what they show, that tells classes apart.
    Leak,
    /// A class with few images, or with none in a split.
    SmallClass,
    /// Classes of very different sizes.
    Imbalance,
    /// A picture of one color.
    Blank,
    /// An image much larger, smaller or longer than the others.
    OddSize,
    /// A photo whose EXIF data says that it lies on its side or is mirrored.
    Turned,
    /// An image with pixels that are not opaque.
    Transparent,
    /// Gray of 16 bits.
    SixteenBit,
}

impl FindingKind {
    /// Every kind.
    pub const ALL: [Self; 17] = [
        Self::Broken,
        Self::UnfitClass,
        Self::Repaired,
        Self::LeftOut,
        Self::ConflictingLabels,
        Self::ExactDuplicate,
        Self::NearDuplicate,
        Self::SuspectedLabel,
        Self::Outlier,
        Self::Leak,
        Self::SmallClass,
        Self::Imbalance,
        Self::Blank,
        Self::OddSize,
        Self::Turned,
        Self::Transparent,
        Self::SixteenBit,
    ];

    /// Its name in CSV and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::UnfitClass => "unfit-class",
            Self::Repaired => "repaired",
            Self::LeftOut => "left-out",
            Self::ConflictingLabels => "conflicting-labels",
            Self::ExactDuplicate => "exact-duplicate",
            Self::NearDuplicate => "near-duplicate",
            Self::SuspectedLabel => "suspected-label",
            Self::Outlier => "outlier",
            Self::Leak => "leak",
            Self::SmallClass => "small-class",
            Self::Imbalance => "imbalance",
            Self::Blank => "blank",
            Self::OddSize => "odd-size",
            Self::Turned => "turned",
            Self::Transparent => "transparent",
            Self::SixteenBit => "sixteen-bit",
        }
    }

    /// What it means.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Broken => "files that cannot be read as images",
            Self::UnfitClass => "classes that no training takes",
            Self::Repaired => "damaged files, read as viewers show them",
            Self::LeftOut => "files and folders that are not used",
            Self::ConflictingLabels => "the same picture, or nearly, under two labels",
            Self::ExactDuplicate => "files of the same content as another one",
            Self::NearDuplicate => "pictures that look like another one",
            Self::SuspectedLabel => "labels that are probably wrong",
            Self::Outlier => "pictures unlike all others",
            Self::Leak => "properties of files that tell classes apart",
            Self::SmallClass => "classes with few images, or none in a split",
            Self::Imbalance => "classes of very different sizes",
            Self::Blank => "pictures of one color",
            Self::OddSize => "images much larger, smaller or longer than the others",
            Self::Turned => "photos that their EXIF data turns",
            Self::Transparent => "images with transparent pixels",
            Self::SixteenBit => "gray images of 16 bits",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What could be done about a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suggestion {
    /// Take the file out.
    Remove,
    /// Move the file to this class.
    Move(String),
    /// Look at it and decide.
    Look,
}

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remove => f.write_str("remove"),
            Self::Move(class) => write!(f, "move to {class}"),
            Self::Look => f.write_str("look"),
        }
    }
}

/// One thing that is wrong with a data set, or may be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The kind.
    pub kind: FindingKind,
    /// The file, for findings about one.
    pub path: Option<String>,
    /// Its split: `train`, `val` or `test`.
    pub split: Option<&'static str>,
    /// Its class, or the class that the finding is about.
    pub class: Option<String>,
    /// The file that it is compared with.
    pub other: Option<String>,
    /// The split of that file.
    pub other_split: Option<&'static str>,
    /// The class of that file.
    pub other_class: Option<String>,
    /// The class that a suspected label should probably be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looks_like: Option<String>,
    /// What could be done.
    pub suggestion: Option<Suggestion>,
    /// How sure it is or how far it goes: the bits by which near duplicates differ (54 where features alone found them), the
    /// probability of a suspected label, the distance of an outlier, Cramér's V of a leak.
    pub score: Option<f64>,
    /// A sentence.
    pub reason: String,
    /// Index of the file among [`CheckResult::images`](super::CheckResult::images).
    #[serde(skip)]
    pub image: Option<usize>,
    /// Index of the file that it is compared with.
    #[serde(skip)]
    pub other_image: Option<usize>,
}

impl Finding {
    /// A finding about the data set as a whole.
    pub(super) fn new(kind: FindingKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            path: None,
            split: None,
            class: None,
            other: None,
            other_split: None,
            other_class: None,
            looks_like: None,
            suggestion: None,
            score: None,
            reason: reason.into(),
            image: None,
            other_image: None,
        }
    }

    pub(super) fn of_class(self, class: &str) -> Self {
        Self { class: Some(class.to_owned()), ..self }
    }

    pub(super) fn suggest(self, suggestion: Suggestion) -> Self {
        Self { suggestion: Some(suggestion), ..self }
    }

    pub(super) fn score(self, score: f64) -> Self {
        Self { score: Some(score), ..self }
    }

    /// The reason, with the file that it is compared with.
    pub fn sentence(&self) -> String {
        let Some(other) = &self.other else { return self.reason.clone() };
        let as_other =
            |words: &str| self.reason.strip_prefix(words).map(|rest| format!("{words} as {other}{rest}"));
        as_other("nearly the same picture")
            .or_else(|| as_other("the same file"))
            .unwrap_or_else(|| format!("{} as {other}", self.reason))
    }

    /// Whether it says that an image of one split is in another, too.
    pub fn is_across_splits(&self) -> bool {
        self.other_split.is_some() && self.split != self.other_split
    }
}
