//! Dividing examples into parts: training and validation, or folds.

pub(crate) mod groups;
mod scikit_learn;
mod stratified;

pub use groups::Groups;
pub use scikit_learn::train_test_split;
pub use stratified::{check_folds, stratified_folds, stratified_split};
