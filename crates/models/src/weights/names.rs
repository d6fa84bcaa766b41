//! Names of tensors, as others write them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Another library's names for the same network.
///
/// The layers must compute the same: names alone do not make a network the same.
#[derive(Debug)]
pub struct OtherNames {
    /// Whose names they are, such as `torchvision`.
    pub library: &'static str,
    /// Each layer's name there and here, without the variable's own (`weight`). Of a variable that has another name, both are
    /// whole. Where several there have one name here, their tensors are joined along the first axis in this order.
    pub layers: fn() -> Vec<(String, String)>,
}

impl PartialEq for OtherNames {
    fn eq(&self, other: &Self) -> bool {
        self.library == other.library
    }
}

impl Eq for OtherNames {}

/// The names of `layers` there and here, each behind a prefix.
pub(crate) fn behind(theirs: &str, ours: &str, layers: &[(&str, &str)]) -> Vec<(String, String)> {
    layers.iter().map(|(there, here)| (format!("{theirs}{there}"), format!("{ours}{here}"))).collect()
}

/// Another network, whose weights are easily taken for this one's.
#[derive(Debug)]
pub struct Stranger {
    /// A tensor that it has and this network has not.
    pub tensor: &'static str,
    /// Which network it is, and how it differs.
    pub what: &'static str,
}

/// How the names in a file became a network's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renaming {
    /// What all names in the file begin with, and the network's do not: `module.`.
    pub prefix: String,
    /// Whose names they are, if not the network's own.
    pub other: Option<&'static OtherNames>,
}

impl Renaming {
    /// Whether the names are the network's own.
    pub fn is_none(&self) -> bool {
        self.prefix.is_empty() && self.other.is_none()
    }

    /// The choice under which the most names are those that a network has. `theirs` are a file's, and `known` says whether
    /// a name may be there beside the `expected` ones.
    pub(crate) fn find<'a>(
        theirs: &[&str],
        expected: impl Iterator<Item = &'a str> + Clone,
        others: &'static [OtherNames],
        known: impl Fn(&str) -> bool,
    ) -> Self {
        let expected: BTreeSet<&str> = expected.collect();
        let strange = |renaming: &Self| {
            let names = renaming.apply(theirs);
            let missing = expected.iter().filter(|name| !names.contains_key(**name)).count();
            missing + names.keys().filter(|name| !expected.contains(name.as_str()) && !known(name)).count()
        };
        let candidates = prefixes(theirs).into_iter().flat_map(|prefix| {
            let own = Self { prefix: prefix.clone(), other: None };
            let of = move |other| Self { prefix: prefix.clone(), other: Some(other) };
            std::iter::once(own).chain(others.iter().map(of))
        });
        // Of equals the first, which changes least.
        candidates.min_by_key(strange).unwrap_or_default()
    }

    /// The parts of each of the network's variables, by a file's names.
    pub(crate) fn apply<'a>(&self, theirs: &[&'a str]) -> BTreeMap<String, Vec<&'a str>> {
        let layers = self.other.map(|other| (other.layers)()).unwrap_or_default();
        let layers: BTreeMap<&str, (usize, &str)> = layers
            .iter()
            .enumerate()
            .map(|(place, (theirs, ours))| (theirs.as_str(), (place, ours.as_str())))
            .collect();
        let ours = |name: &&'a str| {
            let plain = name.strip_prefix(&self.prefix).unwrap_or(name);
            let in_layer = || {
                let (layer, variable) = plain.rsplit_once('.')?;
                layers.get(layer).map(|(place, ours)| (*place, format!("{ours}.{variable}")))
            };
            let whole = layers.get(plain).map(|(place, ours)| (*place, (*ours).to_owned()));
            let (place, ours) = whole.or_else(in_layer).unwrap_or_else(|| (0, plain.to_owned()));
            (place, ours, *name)
        };
        let mut renamed: Vec<(usize, String, &'a str)> = theirs.iter().map(ours).collect();
        renamed.sort_by_key(|(place, ..)| *place);
        let mut parts: BTreeMap<String, Vec<&'a str>> = BTreeMap::new();
        for (_, ours, name) in renamed {
            parts.entry(ours).or_default().push(name);
        }
        parts
    }
}

impl fmt::Display for Renaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.prefix.as_str(), self.other) {
            ("", None) => write!(f, "its names are the network's own"),
            (prefix, None) => write!(f, "its names are read without `{prefix}`, which all begin with"),
            ("", Some(other)) => write!(f, "its names are read as {}'s", other.library),
            (prefix, Some(other)) => {
                write!(
                    f,
                    "its names are read as {}'s, without `{prefix}`, which all begin with",
                    other.library
                )
            }
        }
    }
}

/// Whether a tensor of this name says nothing about a network: counts of batches and averages that PyTorch keeps, and of
/// operations that profilers leave; Swin's indices and masks, which follow from the size of the input.
pub(crate) fn is_meaningless(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    matches!(
        last,
        "num_batches_tracked"
            | "n_averaged"
            | "total_ops"
            | "total_params"
            | "relative_position_index"
            | "attn_mask"
    )
}

/// The prefixes that end in a dot and that all names share, the empty one first.
fn prefixes(names: &[&str]) -> Vec<String> {
    let mut prefixes = vec![String::new()];
    let Some(first) = names.first() else { return prefixes };
    let ends = first.match_indices('.').map(|(at, _)| &first[..=at]);
    prefixes.extend(ends.take_while(|p| names.iter().all(|name| name.starts_with(p))).map(str::to_owned));
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    static OTHERS: [OtherNames; 1] =
        [OtherNames { library: "theirs", layers: || vec![("features.0".to_owned(), "conv".to_owned())] }];

    fn found(theirs: &[&str]) -> (String, Option<&'static str>) {
        let expected = ["conv.weight", "fc.bias", "fc.weight"];
        let renaming = Renaming::find(theirs, expected.into_iter(), &OTHERS, |_| false);
        (renaming.prefix, renaming.other.map(|other| other.library))
    }

    #[test]
    fn prefixes_and_other_names_are_found_alone_and_together() {
        let none = String::new();
        assert_eq!(found(&["conv.weight", "fc.bias", "fc.weight"]), (none.clone(), None));
        assert_eq!(found(&["m.conv.weight", "m.fc.bias", "m.fc.weight"]), ("m.".into(), None));
        assert_eq!(found(&["m.n.conv.weight", "m.n.fc.bias", "m.n.fc.weight"]), ("m.n.".into(), None));
        assert_eq!(found(&["features.0.weight", "fc.bias", "fc.weight"]), (none.clone(), Some("theirs")));
        let both = ["m.features.0.weight", "m.fc.bias", "m.fc.weight"];
        assert_eq!(found(&both), ("m.".into(), Some("theirs")));
        // A prefix of some names alone is none, and one layer alone has a prefix that is no prefix.
        assert_eq!(found(&["m.conv.weight", "fc.bias", "fc.weight"]), (none.clone(), None));
        assert_eq!(found(&["fc.bias", "fc.weight"]), (none, None));
    }
}
