//! firstsight-handwriting
