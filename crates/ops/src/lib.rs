//! firstsight-ops
