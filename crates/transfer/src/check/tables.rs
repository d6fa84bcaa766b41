//! The findings as CSV, as JSON and as a list of what to do.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use firstsight_data::Task;
use serde::Serialize;

use super::{CheckResult, Finding, FindingKind, LabelSearch, LeakTable, Suggestion};
use crate::row_file::as_text;
use crate::{Result, files};

/// The document of `--json`.
#[derive(Debug, Serialize)]
pub struct CheckDocument<'a> {
    data: &'a str,
    task: Task,
    classes: &'a [String],
    /// Number of images in each split, readable or not.
    images: BTreeMap<&'static str, usize>,
    /// Number of findings of each kind.
    counts: BTreeMap<&'static str, usize>,
    labels: &'a LabelSearch,
    leaks: &'a [LeakTable],
    remarks: &'a [String],
    findings: &'a [Finding],
}

/// A line of the list of what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// The file.
    pub path: String,
    /// What could be done with it.
    pub suggestion: Suggestion,
    /// Every reason.
    pub reason: String,
}

impl CheckResult {
    /// All of it as one document.
    pub fn document(&self) -> CheckDocument<'_> {
        CheckDocument {
            data: &self.data,
            task: self.task,
            classes: &self.classes,
            images: self.splits().into_iter().collect(),
            counts: self.counts().into_iter().map(|(kind, n)| (kind.name(), n)).collect(),
            labels: &self.labels,
            leaks: &self.leaks,
            remarks: &self.remarks,
            findings: &self.findings,
        }
    }

    /// Writes one row for each finding: kind, split, path, class, other_split, other, other_class, suggestion, score, reason.
    ///
    /// # Errors
    ///
    /// [`Error::Write`](crate::Error::Write).
    pub fn write_csv(&self, path: &Path) -> Result<()> {
        let header = [
            "kind",
            "split",
            "path",
            "class",
            "other_split",
            "other",
            "other_class",
            "suggestion",
            "score",
            "reason",
        ];
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let rows = self.findings.iter().map(|finding| {
            vec![
                finding.kind.name().to_owned(),
                finding.split.unwrap_or_default().to_owned(),
                text(&finding.path),
                text(&finding.class),
                finding.other_split.unwrap_or_default().to_owned(),
                text(&finding.other),
                text(&finding.other_class),
                finding.suggestion.as_ref().map(Suggestion::to_string).unwrap_or_default(),
                finding.score.map(|score| score.to_string()).unwrap_or_default(),
                one_line(&finding.reason),
            ]
        });
        write(path, &header, rows)
    }

    /// Writes the out-of-fold probabilities of each image, as cleanlab takes them: path, label, and a column for each class with its
    /// name. A header alone where wrong labels were not looked for.
    ///
    /// # Errors
    ///
    /// [`Error::Write`](crate::Error::Write).
    pub fn write_probabilities(&self, path: &Path) -> Result<()> {
        let header: Vec<&str> =
            ["path", "label"].into_iter().chain(self.classes.iter().map(String::as_str)).collect();
        let rows = self.labels.predictions.iter().flat_map(|predictions| {
            self.labels.images.iter().enumerate().map(|(row, &image)| {
                let image = &self.images[image];
                let mut cells = vec![image.path(), self.targets[image.target as usize].clone()];
                cells.extend(predictions.row(row).iter().map(f32::to_string));
                cells
            })
        });
        write(path, &header, rows)
    }

    /// What could be moved or removed: one line for each file, in the order of the findings. Where findings about a file disagree,
    /// it is to be looked at; what is to be removed need not be moved.
    pub fn fixes(&self) -> Vec<Fix> {
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut fixes: Vec<Fix> = Vec::new();
        for finding in self.findings.iter().filter(|finding| finding.kind != FindingKind::LeftOut) {
            let (Some(path), Some(suggestion)) = (&finding.path, &finding.suggestion) else { continue };
            let reason = format!("{}: {}", finding.kind, finding.sentence());
            match places.get(path.as_str()) {
                None => {
                    places.insert(path, fixes.len());
                    fixes.push(Fix { path: path.clone(), suggestion: suggestion.clone(), reason });
                }
                Some(&place) => {
                    let fix = &mut fixes[place];
                    fix.reason = format!("{}; {reason}", fix.reason);
                    fix.suggestion = match (&fix.suggestion, suggestion) {
                        (Suggestion::Remove, _) | (_, Suggestion::Remove) => Suggestion::Remove,
                        (one, other) if one == other => other.clone(),
                        _ => Suggestion::Look,
                    };
                }
            }
        }
        fixes
    }

    /// Writes [`fixes`](Self::fixes) as CSV: action (`remove`, `move` or `look`), file, class (the one to move to), reason.
    ///
    /// # Errors
    ///
    /// [`Error::Write`](crate::Error::Write).
    pub fn write_fix_list(&self, path: &Path) -> Result<()> {
        let rows = self.fixes().into_iter().map(|fix| {
            let (action, class) = match fix.suggestion {
                Suggestion::Remove => ("remove", String::new()),
                Suggestion::Move(class) => ("move", class),
                Suggestion::Look => ("look", String::new()),
            };
            vec![action.to_owned(), fix.path, class, one_line(&fix.reason)]
        });
        write(path, &["action", "file", "class", "reason"], rows)
    }
}

/// A decoder's message may have several lines.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn write(path: &Path, header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Result<()> {
    let write = |file: &mut dyn Write| -> io::Result<()> {
        let mut writer = csv::Writer::from_writer(file);
        writer.write_record(header)?;
        for row in rows {
            writer.write_record(row.iter().map(|cell| as_text(cell.as_bytes())))?;
        }
        writer.flush()
    };
    Ok(files::write_with(path, write)?)
}
