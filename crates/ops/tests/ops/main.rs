//! Tests of all ops against PyTorch, finite differences and the reference implementations.
//!
//! "Off by e" means that the largest difference from the reference tensor is e times the largest of:
//! its values, the terms whose difference a gradient of batch norm is, and [`cases::LEAST_SCALE`].

mod accelerator;
mod behavior;
mod blocks;
mod cases;
mod generate;
mod goldens;
mod gradients;
mod kernels;
mod nn;
mod pytorch;
mod threads;
