//! firstsight-data
