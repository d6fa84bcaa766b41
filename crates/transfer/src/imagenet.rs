//! Class names of networks trained on ImageNet-1k.

/// One name a line; WordNet's words, under its license beside them.
const NAMES: &str = include_str!("../names/imagenet-1k.txt");

/// The 1,000 classes of ImageNet-1k by the first word of each WordNet synset, in the order of networks' outputs. Two
/// names stand for two classes each: `crane` (134 the bird, 517 the machine) and `maillot`.
///
/// ```
/// let names: Vec<&str> = firstsight_transfer::imagenet_classes().collect();
/// assert_eq!((names.len(), names[0], names[281]), (1000, "tench", "tabby"));
/// ```
pub fn imagenet_classes() -> impl Iterator<Item = &'static str> {
    NAMES.lines()
}
