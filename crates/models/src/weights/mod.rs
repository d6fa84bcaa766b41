//! Files of weights: what they hold, under whose names, and how it becomes a network's variables.

mod foreign;
mod header;
mod load;
mod mismatch;
mod names;
mod resize;
mod save;
mod shards;

pub use foreign::{ForeignFile, WayOut};
pub use header::{TensorHeader, WeightsHeader};
pub(crate) use load::{Rules, load};
pub use mismatch::{Mismatch, Misshapen, Mistyped, NotFinite, NotFiniteTensor};
pub(crate) use names::behind;
pub use names::{OtherNames, Renaming, Stranger};
pub use resize::Resizing;
pub use save::SaveDtype;
pub(crate) use save::{round, save};
