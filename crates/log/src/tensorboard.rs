//! Event files for TensorBoard.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use firstsight_files::Growing;
use firstsight_transfer::{RunFolder, Split};

use crate::events::{Event, SessionLog, Summary, SummaryValue, events, record};
use crate::{Ending, Error, Place, Point, Result, Sink};

/// The folders `train`, `validation` and `test` below `tensorboard` of a run: TensorBoard draws what has the same name in them into
/// one chart, as Keras's logs.
#[derive(Default)]
pub(crate) struct TensorBoard {
    folder: PathBuf,
    resume: bool,
    /// Number of epochs before this part of the training.
    epochs: usize,
    files: BTreeMap<&'static str, Events>,
}

/// The events of a split: an open file, and the last step of each name in it and those before it.
struct Events {
    path: PathBuf,
    file: Growing,
    last: BTreeMap<String, i64>,
}

impl TensorBoard {
    fn events(&mut self, split: Split) -> Result<&mut Events> {
        let name = match split {
            Split::Train => "train",
            Split::Val => "validation",
            Split::Test => "test",
        };
        if !self.files.contains_key(name) {
            let kept = if self.resume { self.epochs as i64 } else { -1 };
            self.files.insert(name, Events::open(&self.folder.join(name), kept)?);
        }
        // It was just put there.
        self.files.get_mut(name).ok_or_else(|| Error::Io {
            action: "write",
            path: self.folder.join(name),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }
}

impl Sink for TensorBoard {
    fn name(&self) -> String {
        "TensorBoard".to_owned()
    }

    fn begin(&mut self, place: &Place, settings: &[(String, String)], epochs: usize) -> Result<()> {
        (self.folder, self.resume, self.epochs) = (place.folder.join("tensorboard"), place.resume, epochs);
        let line = |(name, value): &(String, String)| {
            let escaped = value.replace('|', "\\|").replace(['\n', '\r'], " ");
            format!("| {name} | {escaped} |\n")
        };
        let table = settings.iter().map(line).collect::<String>();
        let text = SummaryValue::text("settings", format!("| setting | value |\n| --- | --- |\n{table}"));
        self.events(Split::Train)?.write(epochs as i64, vec![text])
    }

    fn write(&mut self, points: &[Point]) -> Result<()> {
        for chunk in points.chunk_by(|a, b| (a.split, a.step) == (b.split, b.step)) {
            let [Point { split, step, .. }, ..] = chunk else { continue };
            let scalars = chunk.iter().map(|point| SummaryValue::scalar(&point.name, point.value)).collect();
            self.events(*split)?.write(*step, scalars)?;
        }
        Ok(())
    }

    fn end(&mut self, _ending: Ending, _run: &RunFolder) -> Result<Option<String>> {
        Ok(None)
    }
}

impl Events {
    /// A new file in a folder. Of other files there, what is of later steps than `kept` no longer counts.
    fn open(folder: &Path, kept: i64) -> Result<Self> {
        let failed = |action, path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Io { action, path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed("write", folder))?;
        let mut last: BTreeMap<String, i64> = BTreeMap::new();
        let mut n = 0;
        for entry in std::fs::read_dir(folder).map_err(failed("read", folder))?.flatten() {
            if !entry.file_name().to_string_lossy().contains("tfevents") {
                continue;
            }
            n += 1;
            let bytes = std::fs::read(entry.path()).map_err(failed("read", &entry.path()))?;
            for event in events(&bytes).filter(|event| event.step <= kept) {
                for value in event.summary.into_iter().flat_map(|summary| summary.value) {
                    let step = last.entry(value.tag).or_insert(event.step);
                    *step = event.step.max(*step);
                }
            }
        }
        // TensorBoard reads files in the order of their names.
        let path = folder.join(format!("events.out.tfevents.{:010}.{n}.firstsight", now() as u64));
        let file = Growing::open(&path).map_err(failed("write", &path))?;
        let mut events = Self { path, file, last };
        let version = Event { file_version: Some("brain.Event:2".to_owned()), ..Event::default() };
        events.append(&[version])?;
        if n > 0 {
            let session_log = Some(SessionLog { status: SessionLog::START });
            events.append(&[Event { step: kept + 1, session_log, ..Event::default() }])?;
        }
        Ok(events)
    }

    /// Adds the values whose names have none of this step or a later one.
    fn write(&mut self, step: i64, values: Vec<SummaryValue>) -> Result<()> {
        let is_new = |value: &SummaryValue| self.last.get(&value.tag).is_none_or(|last| *last < step);
        let value: Vec<SummaryValue> = values.into_iter().filter(is_new).collect();
        if value.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = value.iter().map(|value| value.tag.clone()).collect();
        self.append(&[Event { step, summary: Some(Summary { value }), ..Event::default() }])?;
        self.last.extend(names.into_iter().map(|name| (name, step)));
        Ok(())
    }

    /// Appends events, all or none.
    fn append(&mut self, events: &[Event]) -> Result<()> {
        let wall_time = now();
        let bytes: Vec<u8> =
            events.iter().flat_map(|event| record(&Event { wall_time, ..event.clone() })).collect();
        let whole = self.file.file().metadata().map(|data| data.len());
        let written = whole.and_then(|whole| {
            self.file.write_all(&bytes).inspect_err(|_| {
                // A part of a record would hide all that follow.
                let _ = self.file.truncate(whole);
            })
        });
        written.map_err(|source| Error::Io { action: "write", path: self.path.clone(), source })
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
