//! Files that are written whole or not at all: [`firstsight_files`].

pub use firstsight_files::*;
