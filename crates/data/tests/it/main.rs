//! One binary for all integration tests, so that candle is linked once.

mod augment;
mod bad_images;
mod cache;
mod convert;
mod decode;
mod folder;
mod idx;
mod image_facts;
mod image_hash;
mod lists;
mod loader;
mod mnist;
mod reading;
mod real;
mod split;
mod stratified;
mod streaming;
mod support;
mod table;
