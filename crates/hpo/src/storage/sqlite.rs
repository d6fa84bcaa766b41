//! Studies in an SQLite database of Optuna's schema: its `RDBStorage` with a `sqlite:///FILE` address.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension};
use serde_json::Value;

use super::rdb::{Cell, Database, REVISION, Rdb, Row};
use super::{Change, Snapshot, Storage, StudyRecord};
use crate::error::{Error, Result};
use crate::study::Direction;
use crate::trial::FrozenTrial;

/// Time stamps as SQLAlchemy writes them.
const STAMP: &str = "%Y-%m-%d %H:%M:%S%.6f";

/// An SQLite database.
///
/// ```
/// use firstsight_hpo::{Random, Sqlite, Study, Suggest};
/// let dir = tempfile::tempdir()?;
/// let file = dir.path().join("studies.db");
/// let study = Study::builder("x").sampler(Random::new(1)).storage(Sqlite::open(&file)?).create()?;
/// study.optimize(3, |trial| Ok(trial.float("x", 0.0..=1.0)?))?;
/// // In Python: optuna.load_study(study_name="x", storage="sqlite:///studies.db")
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Sqlite(Rdb<Connected>);

#[derive(Debug)]
struct Connected {
    path: PathBuf,
    db: Connection,
}

impl Sqlite {
    /// The database in that file, which is created if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the file is no database, or one of another schema; [`Error::Sqlite`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let fail = |doing| sqlite(&path, doing);
        let db = Connection::open(&path).map_err(fail("opening the database"))?;
        db.busy_timeout(Duration::from_secs(60)).map_err(fail("setting the time to wait for a lock"))?;
        db.set_prepared_statement_cache_capacity(64);
        let has_table = |name: &str| -> Result<bool> {
            db.query_row("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", [name], |_| Ok(()))
                .optional()
                .map(|found| found.is_some())
                .map_err(|error| match error.sqlite_error_code() {
                    Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
                        Error::Corrupt {
                            path: path.display().to_string(),
                            expected: "an SQLite database".into(),
                            found: error.to_string(),
                        }
                    }
                    _ => fail("reading the schema")(error),
                })
        };
        let n_tables: i64 = if has_table("alembic_version")? {
            1
        } else {
            db.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
                .map_err(fail("reading the schema"))?
        };
        if n_tables == 0 {
            // A log ahead of the database makes a change a single short write; Optuna reads both kinds.
            db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
                .map_err(fail("setting the journal mode"))?;
            // Another process may be creating the tables at the same moment.
            db.execute_batch(&format!("BEGIN IMMEDIATE;\n{}\nCOMMIT;", Connected::schema()))
                .map_err(fail("creating the tables"))?;
        }
        let found: Option<String> = db
            .query_row("SELECT version_num FROM alembic_version", [], |row| row.get(0))
            .optional()
            .unwrap_or(None);
        if found.as_deref() != Some(REVISION) {
            return Err(Error::Corrupt {
                path: path.display().to_string(),
                expected: format!("a database of Optuna's schema {REVISION}"),
                found: found.map_or("a database of something else".into(), |v| format!("schema {v}")),
            });
        }
        db.execute_batch("PRAGMA synchronous = NORMAL").map_err(fail("setting the synchronization"))?;
        Ok(Self(Rdb::new(path.display().to_string(), Connected { path, db })))
    }
}

impl Database for Connected {
    const TYPES: [(&'static str, &'static str); 6] = [
        ("{ID}", "INTEGER"),
        ("{TIME}", "DATETIME"),
        ("{STATE}", "VARCHAR(8)"),
        ("{DIRECTION}", "VARCHAR(8)"),
        ("{VALUE}", "VARCHAR(7)"),
        ("{REPORT}", "VARCHAR(7)"),
    ];
    const FOR_UPDATE: &'static str = "";
    const AGE: &'static str = "(julianday('now') - julianday(h.heartbeat)) * 86400.0";

    fn run(
        &mut self,
        doing: &'static str,
        sql: &str,
        values: &[Cell],
        each: &mut dyn FnMut(Row) -> Result<()>,
    ) -> Result<()> {
        let fail = sqlite(&self.path, doing);
        let mut statement = self.db.prepare_cached(sql).map_err(&fail)?;
        let n_columns = statement.column_count();
        let mut rows = statement.query(rusqlite::params_from_iter(values)).map_err(&fail)?;
        while let Some(row) = rows.next().map_err(&fail)? {
            let cell = |i| {
                Ok(match row.get_ref(i)? {
                    ValueRef::Null => Cell::Null,
                    ValueRef::Integer(value) => Cell::Int(value),
                    ValueRef::Real(value) => Cell::Float(value),
                    ValueRef::Text(text) | ValueRef::Blob(text) => {
                        Cell::Text(String::from_utf8_lossy(text).into_owned())
                    }
                })
            };
            let cells = (0..n_columns).map(cell).collect::<rusqlite::Result<_>>().map_err(&fail)?;
            each(cells)?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        // Holding the database from the start, which keeps other writers out.
        self.db.execute_batch("BEGIN IMMEDIATE").map_err(sqlite(&self.path, "locking"))
    }

    fn commit(&mut self) -> Result<()> {
        self.db.execute_batch("COMMIT").map_err(sqlite(&self.path, "committing"))
    }

    fn roll_back(&mut self) {
        // Fails where no transaction began.
        let _ = self.db.execute_batch("ROLLBACK");
    }

    fn version(&mut self) -> Result<Option<i64>> {
        let fail = sqlite(&self.path, "reading the version");
        let mut statement = self.db.prepare_cached("PRAGMA data_version").map_err(&fail)?;
        statement.query_row([], |row| row.get(0)).map(Some).map_err(&fail)
    }
}

impl rusqlite::ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Self::Int(value) => ToSqlOutput::Borrowed(ValueRef::Integer(*value)),
            Self::Float(value) => ToSqlOutput::Borrowed(ValueRef::Real(*value)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Time(time) => ToSqlOutput::from(time.format(STAMP).to_string()),
        })
    }
}

impl Storage for Sqlite {
    super::handed_on!(self => self.0);
}

fn sqlite<'p>(path: &'p Path, doing: &'static str) -> impl Fn(rusqlite::Error) -> Error + 'p {
    move |source| Error::Sqlite { path: path.into(), doing, source }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::storage::{HEARTBEAT, now};
    use crate::trial::TrialState;

    /// A database whose connection is to be lost so many times more: in a commit that is not carried out, then in one that is.
    struct Losing {
        db: Connected,
        losses: Arc<AtomicUsize>,
    }

    impl Database for Losing {
        const TYPES: [(&'static str, &'static str); 6] = Connected::TYPES;
        const FOR_UPDATE: &'static str = Connected::FOR_UPDATE;
        const AGE: &'static str = Connected::AGE;

        fn run(
            &mut self,
            doing: &'static str,
            sql: &str,
            values: &[Cell],
            each: &mut dyn FnMut(Row) -> Result<()>,
        ) -> Result<()> {
            self.db.run(doing, sql, values, each)
        }

        fn begin(&mut self) -> Result<()> {
            self.db.begin()
        }

        fn commit(&mut self) -> Result<()> {
            let losses = self.losses.load(Ordering::Relaxed);
            self.losses.store(losses.saturating_sub(1), Ordering::Relaxed);
            if losses < 2 {
                self.db.commit()?;
            }
            if losses == 0 { Ok(()) } else { Err(Error::Poisoned { what: "the connection" }) }
        }

        fn roll_back(&mut self) {
            self.db.roll_back();
        }

        fn recover(&mut self, _: &Error, attempt: usize) -> bool {
            attempt < 3
        }
    }

    #[test]
    fn what_a_lost_commit_stored_is_not_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("study.db");
        drop(Sqlite::open(&path).unwrap());
        let db = Connected { db: Connection::open(&path).unwrap(), path };
        let losses = Arc::new(AtomicUsize::new(0));
        let storage = Rdb::new("the database".into(), Losing { db, losses: losses.clone() });
        let lose = || losses.store(2, Ordering::Relaxed);
        lose();
        let study = storage.create_study("s", &[Direction::Minimize]).unwrap().id;
        let waiting = FrozenTrial::new(0, 0, TrialState::Waiting);
        let ids = [0, 1].map(|number| {
            lose();
            let trial = storage.create_trial(study, &waiting, usize::MAX).unwrap();
            assert_eq!(trial.number, number);
            trial.id
        });
        let states = || {
            let mut snapshot = Snapshot::default();
            storage.sync(study, &mut snapshot).unwrap();
            snapshot.trials().iter().map(|trial| (trial.id, trial.state)).collect::<Vec<_>>()
        };
        assert_eq!(states(), ids.map(|id| (id, TrialState::Waiting)));
        lose();
        assert!(storage.claim(ids[0]).unwrap());
        lose();
        assert!(!storage.claim(ids[0]).unwrap());
        lose();
        storage.update(ids[0], &Change::SystemAttr { key: HEARTBEAT, value: &Value::Null }).unwrap();
        lose();
        assert!(storage.take_over(ids[0], Duration::ZERO, "another").unwrap());
        let told = Change::State { state: TrialState::Complete, values: &[0.5], at: now() };
        lose();
        storage.update(ids[0], &told).unwrap();
        assert!(matches!(storage.update(ids[0], &told), Err(Error::Finished { .. })));
        assert_eq!(states(), [(ids[0], TrialState::Complete), (ids[1], TrialState::Waiting)]);
    }
}
