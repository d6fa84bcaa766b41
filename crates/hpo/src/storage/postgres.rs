//! Studies on a PostgreSQL server in Optuna's schema: its `RDBStorage` with a `postgresql://` address.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{NaiveDate, NaiveDateTime, TimeDelta};
use postgres::config::SslMode;
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::types::private::BytesMut;
use postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, NoTls};
use serde_json::Value;

use super::address::shown;
use super::rdb::{Cell, Database, REVISION, Rdb, Row};
use super::{Change, Snapshot, Storage, StudyRecord};
use crate::error::{Error, Result};
use crate::study::Direction;
use crate::trial::FrozenTrial;

/// How long a server that went away is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long another program that creates the tables at the same moment is waited for.
const CREATION: Duration = Duration::from_secs(10);

/// A database on a PostgreSQL server, in which workers on several machines share studies with Optuna's.
///
/// ```no_run
/// use firstsight_hpo::{Postgres, Random, Study, Suggest};
/// let storage = Postgres::open("postgresql://me:secret@db.example.org:5432/studies")?;
/// let study = Study::builder("x").sampler(Random::new(1)).storage(storage).load_or_create()?;
/// study.optimize(3, |trial| Ok(trial.float("x", 0.0..=1.0)?))?;
/// // In Python: optuna.load_study(study_name="x", storage="postgresql://me:secret@db.example.org:5432/studies")
/// # Ok::<(), firstsight_hpo::Error>(())
/// ```
///
/// The connection is not encrypted; passwords are proved by SCRAM-SHA-256 or MD5, not sent. A connection that is lost is made
/// anew for up to a minute, and what was under way is repeated where that is safe. Not for use inside an asynchronous runtime.
#[derive(Debug)]
pub struct Postgres(Rdb<Connected>);

struct Connected {
    /// The address without its password.
    address: String,
    config: Config,
    client: Client,
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connected").field(&self.address).finish()
    }
}

impl Postgres {
    /// The database of an address as libpq and SQLAlchemy write it, `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`. In a user
    /// name or password, `@`, `/` and `:` are written as `%40`, `%2F` and `%3A`. Tables that are missing are created.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] if the address is malformed or asks for an encrypted connection; [`Error::Postgres`] if the server is
    /// not reached or refuses; [`Error::Corrupt`] if the database has another schema. None of them shows the password.
    pub fn open(address: &str) -> Result<Self> {
        let refuse = |rule| Error::Address { address: shown(address), rule };
        // SQLAlchemy names its driver: postgresql+psycopg2.
        let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
        let mut config: Config = format!("postgresql://{rest}").parse().map_err(|_| {
            refuse("expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with @, / and : in a password as %40, %2F and %3A")
        })?;
        if !matches!(config.get_ssl_mode(), SslMode::Disable | SslMode::Prefer) {
            return Err(refuse(
                "encrypted connections are not supported; without sslmode the connection is plain, which suits a local network or a tunnel",
            ));
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host("localhost");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(10));
        }
        if config.get_application_name().is_none() {
            config.application_name("firstsight");
        }
        config.keepalives_idle(Duration::from_secs(30)).tcp_user_timeout(Duration::from_secs(30));
        let address = shown(address);
        let client = connect(&config, &address)?;
        let mut connected = Connected { address: address.clone(), config, client };
        connected.prepare()?;
        Ok(Self(Rdb::new(address, connected)))
    }
}

fn connect(config: &Config, address: &str) -> Result<Client> {
    let fail = |doing| failure(address, doing);
    let mut client = config.connect(NoTls).map_err(fail("connecting"))?;
    // A worker that is stopped within a transaction would keep its locks from all others.
    client.batch_execute("SET idle_in_transaction_session_timeout = '60s'").map_err(fail("connecting"))?;
    Ok(client)
}

impl Connected {
    /// Creates the tables if the database has none, and checks their version.
    fn prepare(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let sql = "SELECT count(to_regclass('alembic_version')), count(to_regclass('studies'))";
            let found = match &self.rows("reading the schema", sql, &[])?[0][..] {
                [Cell::Int(version), Cell::Int(studies)] => (*version > 0, *studies > 0),
                _ => (false, false),
            };
            let version = match found {
                (true, _) => {
                    let rows =
                        self.rows("reading the schema", "SELECT version_num FROM alembic_version", &[])?;
                    rows.into_iter().flatten().find_map(|cell| match cell {
                        Cell::Text(version) => Some(version),
                        _ => None,
                    })
                }
                (false, true) => None,
                (false, false) => match self.create_tables() {
                    Err(Error::Postgres { error, .. }) if created_meanwhile(&error) => continue,
                    created => return created,
                },
            };
            match version {
                Some(version) if version == REVISION && found.1 => return Ok(()),
                // Optuna creates the tables first, and their version in a second step.
                None if begun.elapsed() < CREATION => std::thread::sleep(Duration::from_millis(100)),
                _ => {
                    return Err(Error::Corrupt {
                        path: self.address.clone(),
                        expected: format!("a database of Optuna's schema {REVISION}, or an empty one"),
                        found: match (version, found.1) {
                            (Some(version), true) => {
                                format!("schema {version}; `optuna storage upgrade` converts older ones")
                            }
                            _ => "a database of something else".into(),
                        },
                    });
                }
            }
        }
    }

    fn create_tables(&mut self) -> Result<()> {
        let types = "CREATE TYPE studydirection AS ENUM ('NOT_SET', 'MINIMIZE', 'MAXIMIZE');\
            CREATE TYPE trialstate AS ENUM ('RUNNING', 'COMPLETE', 'PRUNED', 'FAIL', 'WAITING');\
            CREATE TYPE trialvaluetype AS ENUM ('FINITE', 'INF_POS', 'INF_NEG');\
            CREATE TYPE trialintermediatevaluetype AS ENUM ('FINITE', 'INF_POS', 'INF_NEG', 'NAN');";
        let sql = format!("BEGIN;\n{types}\n{}\nCOMMIT;", Self::schema());
        let created = self.client.batch_execute(&sql).map_err(failure(&self.address, "creating the tables"));
        if created.is_err() {
            self.roll_back();
        }
        created
    }
}

/// Whether creating a table or type failed because another program has just created it.
fn created_meanwhile(error: &postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [SqlState::DUPLICATE_OBJECT, SqlState::DUPLICATE_TABLE, SqlState::UNIQUE_VIOLATION].contains(code)
    })
}

impl Database for Connected {
    const TYPES: [(&'static str, &'static str); 6] = [
        ("{ID}", "SERIAL"),
        ("{TIME}", "TIMESTAMP WITHOUT TIME ZONE"),
        ("{STATE}", "trialstate"),
        ("{DIRECTION}", "studydirection"),
        ("{VALUE}", "trialvaluetype"),
        ("{REPORT}", "trialintermediatevaluetype"),
    ];
    const FOR_UPDATE: &'static str = " FOR UPDATE";
    const AGE: &'static str = "CAST(EXTRACT(EPOCH FROM LOCALTIMESTAMP - h.heartbeat) AS FLOAT)";

    fn run(
        &mut self,
        doing: &'static str,
        sql: &str,
        values: &[Cell],
        each: &mut dyn FnMut(Row) -> Result<()>,
    ) -> Result<()> {
        let fail = failure(&self.address, doing);
        // Statements are not prepared, so one takes one message to the server and back.
        let typed = values.iter().map(|value| (value, value.server_type()));
        let mut rows = self.client.query_typed_raw(sql, typed).map_err(&fail)?;
        while let Some(row) = rows.next().map_err(&fail)? {
            let cells = (0..row.len()).map(|i| row.try_get(i)).collect::<std::result::Result<_, _>>();
            each(cells.map_err(&fail)?)?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        self.client.batch_execute("BEGIN").map_err(failure(&self.address, "beginning a transaction"))
    }

    fn commit(&mut self) -> Result<()> {
        self.client.batch_execute("COMMIT").map_err(failure(&self.address, "committing"))
    }

    fn roll_back(&mut self) {
        // Fails where the connection is lost, which ended the transaction too.
        let _ = self.client.batch_execute("ROLLBACK");
    }

    fn recover(&mut self, error: &Error, attempt: usize) -> bool {
        let Error::Postgres { error, .. } = error else { return false };
        if attempt > 5 {
            return false;
        }
        let pause = Duration::from_millis(20 * attempt as u64 + u64::from(std::process::id() % 20));
        if error.code().is_some_and(|code| {
            [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code)
        }) {
            std::thread::sleep(pause);
            return true;
        }
        if !lost(error) {
            return false;
        }
        tracing::warn!("{}: the connection is lost ({}); connecting again.", self.address, problem(error));
        let begun = Instant::now();
        loop {
            match connect(&self.config, &self.address) {
                Ok(client) => {
                    self.client = client;
                    return true;
                }
                Err(Error::Postgres { error, .. }) if lost(&error) && begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(500));
                }
                Err(error) => {
                    tracing::warn!("{error}");
                    return false;
                }
            }
        }
    }
}

/// Whether the connection is gone, or none is to be had at the moment.
fn lost(error: &postgres::Error) -> bool {
    let ended = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ];
    match error.code() {
        Some(code) => ended.contains(code) || code.code().starts_with("08"),
        None => error.is_closed() || root(error).is::<std::io::Error>(),
    }
}

fn root(error: &postgres::Error) -> &(dyn std::error::Error + 'static) {
    let mut root: &(dyn std::error::Error + 'static) = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root
}

/// An error in the server's words, and what helps.
fn problem(error: &postgres::Error) -> String {
    let Some(answer) = error.as_db_error() else {
        let root = root(error).to_string();
        return match root.as_str() {
            "password missing" => "the server asks for a password, and the address has none".into(),
            _ if error.source().is_some_and(|s| s.is::<std::io::Error>()) && !error.is_closed() => {
                format!("{root}; is the server running, and are its host and port right?")
            }
            _ => root,
        };
    };
    let message = answer.message();
    match answer.code() {
        code if *code == SqlState::INVALID_PASSWORD => {
            format!("{message}; check the address's user and password")
        }
        code if *code == SqlState::INVALID_CATALOG_NAME => {
            format!("{message}; `createdb` or CREATE DATABASE makes one")
        }
        code if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            && message.contains("no encryption") =>
        {
            format!("{message}; encrypted connections are not supported here")
        }
        _ => message.into(),
    }
}

fn failure<'a>(address: &'a str, doing: &'static str) -> impl Fn(postgres::Error) -> Error + use<'a> {
    move |error| Error::Postgres {
        address: address.into(),
        doing,
        problem: problem(&error),
        error: Box::new(error),
    }
}

/// PostgreSQL's times count microseconds from here.
const EPOCH: NaiveDateTime = match NaiveDate::from_ymd_opt(2000, 1, 1) {
    Some(day) => match day.and_hms_opt(0, 0, 0) {
        Some(time) => time,
        None => NaiveDateTime::MIN,
    },
    None => NaiveDateTime::MIN,
};

type Failure = Box<dyn std::error::Error + Sync + Send>;

impl Cell {
    /// The type that a parameter is announced with. The server knows best what a text is to be: an enum's value, for instance.
    fn server_type(&self) -> Type {
        match self {
            Self::Null | Self::Text(_) => Type::UNKNOWN,
            Self::Int(_) => Type::INT8,
            Self::Float(_) => Type::FLOAT8,
            Self::Time(_) => Type::TIMESTAMP,
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> std::result::Result<IsNull, Failure> {
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Int(value) => out.extend_from_slice(&value.to_be_bytes()),
            Self::Float(value) => out.extend_from_slice(&value.to_be_bytes()),
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Time(time) => {
                let micros = (*time - EPOCH).num_microseconds().ok_or("a time out of range")?;
                out.extend_from_slice(&micros.to_be_bytes());
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'r> FromSql<'r> for Cell {
    fn from_sql(kind: &Type, raw: &'r [u8]) -> std::result::Result<Self, Failure> {
        Ok(match *kind {
            Type::INT4 => Self::Int(i32::from_sql(kind, raw)?.into()),
            Type::INT8 => Self::Int(i64::from_sql(kind, raw)?),
            Type::FLOAT8 => Self::Float(f64::from_sql(kind, raw)?),
            Type::TIMESTAMP => {
                let micros = i64::from_be_bytes(raw.try_into()?);
                // Infinity and years that the calendar lacks stay numbers, which no column of times may hold.
                EPOCH
                    .checked_add_signed(TimeDelta::microseconds(micros))
                    .map_or(Self::Int(micros), Self::Time)
            }
            _ => Self::Text(std::str::from_utf8(raw)?.into()),
        })
    }

    fn from_sql_null(_: &Type) -> std::result::Result<Self, Failure> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl Storage for Postgres {
    super::handed_on!(self => self.0);
}
