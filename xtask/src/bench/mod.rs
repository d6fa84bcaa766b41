//! The parts of `cargo xtask bench`: what is measured, the processes that run it, and what the processor could do.

mod command;
mod contest;
mod item;
mod peak;
mod worker;

pub(crate) use command::{Args, run};
use contest::{Contest, Outcome, Rival, Scouted};
use item::{Item, Mode, Work};
use peak::Peak;
use worker::{Memory, serve};
