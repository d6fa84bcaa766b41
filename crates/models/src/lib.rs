//! firstsight-models
