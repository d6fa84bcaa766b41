//! The parts of `cargo xtask bench`: what is measured, the processes that run it, and what the processor could do.

mod contest;
mod item;
mod peak;
mod worker;

pub(crate) use contest::{Contest, Outcome, Rival, Scouted};
pub(crate) use item::{Item, Mode, Work};
pub(crate) use peak::Peak;
pub(crate) use worker::{Memory, serve};
