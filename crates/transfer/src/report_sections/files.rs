//! Files that are not read, or not as they are.

use std::path::Path;

use firstsight_report::{Column, Report, Table};

use crate::FileNotes;

/// Tables of the files that are left out, cannot be read or are repaired, where there are any, with paths relative to `root`.
pub fn files(report: &mut Report, notes: &FileNotes, root: &Path) {
    let tables = [
        ("Left out", &notes.skipped),
        ("Left out because they cannot be read", &notes.unreadable),
        ("Repaired or the like", &notes.repaired),
    ];
    if tables.iter().all(|(_, files)| files.is_empty()) {
        return;
    }
    let section = report.section(None, "Files that are not read as they are");
    for (caption, files) in tables.into_iter().filter(|(_, files)| !files.is_empty()) {
        let columns = [Column::path("file"), Column::text("reason")];
        let mut table = Table::new(format!("{caption}: {}", files.len()), columns);
        for file in files {
            let path = Path::new(&file.path);
            let path = path.strip_prefix(root).unwrap_or(path).display().to_string();
            table.row([path.into(), file.reason.as_str().into()]);
        }
        table.folded();
        section.table(table);
    }
}
