//! firstsight-hpo
