//! The commands, one file each.

pub(crate) mod cache;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod dataset;
pub(crate) mod embed;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod fine_tune;
pub(crate) mod models;
pub(crate) mod predict;
pub(crate) mod reproduce_lecture;
pub(crate) mod serve;
pub(crate) mod summary;
pub(crate) mod train;
pub(crate) mod tune;
pub(crate) mod visualize;
