//! firstsight-report
