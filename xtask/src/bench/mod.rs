//! The parts of `cargo xtask bench`: what is measured, the processes that run it, and what the processor could do.

mod command;
mod comparison;
mod item;
mod peak;
mod worker;

use command::instructions_name;
pub(crate) use command::{Args, run};
use comparison::{Baseline, Comparison, Outcome, VariantTiming};
use item::{Item, Mode, Work};
use peak::Peak;
use worker::{Memory, serve};
