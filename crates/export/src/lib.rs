#![doc = include_str!("../README.md")]

mod builder;
mod check;
mod error;
mod lower;
mod onnx;
mod proto;
mod self_check;

pub use check::OnnxRunner;
pub use error::{Error, Result};
pub use onnx::{Onnx, OnnxInput, OnnxOutput, OnnxSettings};
