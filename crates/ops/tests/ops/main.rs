//! What is checked of the ops, and against what.
//!
//! "Off by e" means: the largest difference from the reference's tensor, over the largest of its values, of the terms
//! that batch norm's gradients are the difference of, and of [`cases::LEAST_SCALE`].

mod accelerator;
mod behaviour;
mod cases;
mod generate;
mod goldens;
mod gradients;
mod kernels;
mod pytorch;
mod threads;
