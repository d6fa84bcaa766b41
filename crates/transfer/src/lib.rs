//! firstsight-transfer
