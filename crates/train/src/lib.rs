//! firstsight-train
