//! Storages by their addresses.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use super::{Journal, Storage};
use crate::error::{Error, Result};

/// The beginning of every SQLite database.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// The storage that an address names: `sqlite:///study.db` or `postgresql://user:password@host:port/database` as in Optuna, a
/// file that is an SQLite database, or else the journal in that file. What does not exist is created, but for a server's
/// database itself.
///
/// ```
/// use firstsight_hpo::storage;
///
/// let error = storage::open("mysql://root:secret@localhost/studies").err().unwrap();
/// assert!(error.to_string().starts_with("`mysql://root:***@localhost/studies` cannot keep a study"));
/// ```
///
/// # Errors
///
/// [`Error::Address`] for a server of another kind, a database in memory, and one whose feature, `sqlite` or `postgresql`, is
/// off; those of [`Journal::open`], `Sqlite::open` and `Postgres::open`.
pub fn open(address: &str) -> Result<Arc<dyn Storage>> {
    let refuse = |rule| Err(Error::Address { address: shown(address), rule });
    let Some((scheme, rest)) = address.split_once("://") else {
        let path = Path::new(address);
        return match is_sqlite(path) {
            true => sqlite(address, path),
            false => Ok(Arc::new(Journal::open(path)?)),
        };
    };
    match scheme.split('+').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "sqlite" => {}
        "postgresql" | "postgres" => return postgres(address),
        "mysql" | "mariadb" | "redis" | "rediss" | "mssql" | "oracle" => {
            return refuse(
                "of servers, PostgreSQL is supported: postgresql://USER:PASSWORD@HOST:PORT/DATABASE; so are files: study.log, or sqlite:///study.db",
            );
        }
        _ => {
            return refuse(
                "expected a file, sqlite:///FILE, or postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
            );
        }
    }
    // SQLAlchemy's form: three slashes and a relative path, or four and an absolute one.
    let Some(path) = rest.strip_prefix('/') else {
        return refuse(
            "an SQLite address has three slashes before a relative path, sqlite:///study.db, and four before an absolute one",
        );
    };
    match path.split('?').next().unwrap_or_default() {
        "" | ":memory:" => refuse("it is a database in memory, which would be lost; name a file"),
        path => sqlite(address, Path::new(path)),
    }
}

fn is_sqlite(path: &Path) -> bool {
    let mut begin = [0; SQLITE.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut begin)).is_ok() && begin == SQLITE
}

#[cfg(feature = "sqlite")]
fn sqlite(_: &str, path: &Path) -> Result<Arc<dyn Storage>> {
    Ok(Arc::new(super::Sqlite::open(path)?))
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(address: &str, _: &Path) -> Result<Arc<dyn Storage>> {
    let rule = "SQLite is not built in: build with `--features sqlite`, or keep the study in a journal, such as study.log";
    Err(Error::Address { address: address.to_owned(), rule })
}

#[cfg(feature = "postgresql")]
fn postgres(address: &str) -> Result<Arc<dyn Storage>> {
    Ok(Arc::new(super::Postgres::open(address)?))
}

#[cfg(not(feature = "postgresql"))]
fn postgres(address: &str) -> Result<Arc<dyn Storage>> {
    let rule = "PostgreSQL is not built in: build with `--features postgresql`, or keep the study in a file, such as study.log";
    Err(Error::Address { address: shown(address), rule })
}

/// An address as messages show it: with `***` for a password.
///
/// ```
/// use firstsight_hpo::storage::shown;
///
/// assert_eq!(shown("postgresql://me:secret@host:5432/studies"), "postgresql://me:***@host:5432/studies");
/// assert_eq!(shown("study.log"), "study.log");
/// ```
pub fn shown(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    // A password may hold an @ or a / that should have been written as %40 or %2F: all up to the last @ is taken for it.
    let rest = match rest.rsplit_once('@') {
        Some((user, place)) => match user.split_once(':') {
            Some((user, _)) => format!("{user}:***@{place}"),
            None => rest.to_owned(),
        },
        None => rest.to_owned(),
    };
    let Some((place, options)) = rest.split_once('?') else { return format!("{scheme}://{rest}") };
    let hidden = |option: &str| match option.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().contains("password") => format!("{name}=***"),
        _ => option.to_owned(),
    };
    let options: Vec<String> = options.split('&').map(hidden).collect();
    format!("{scheme}://{place}?{}", options.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        assert!(open(&path("study.log")).is_ok());
        for (address, word) in [
            ("mysql+pymysql://u@h/d".to_owned(), "PostgreSQL is supported"),
            ("redis://h:6379".to_owned(), "PostgreSQL is supported"),
            ("http://h/study.db".to_owned(), "sqlite:///FILE"),
            ("sqlite://study.db".to_owned(), "three slashes"),
            ("sqlite://".to_owned(), "three slashes"),
            ("sqlite:///:memory:".to_owned(), "lost"),
            ("sqlite:///".to_owned(), "lost"),
        ] {
            let said = open(&address).err().unwrap().to_string();
            assert!(said.contains(word) && said.contains(&address), "{said}");
        }
        let said = |address: &str| open(address).err().unwrap().to_string();
        for scheme in ["postgresql", "postgresql+psycopg2", "mysql", "ftp"] {
            for place in ["127.0.0.1:99999/d", "127.0.0.1:99999/d?sslmode=require&x=y"] {
                let text = said(&format!("{scheme}://u:s3cr/e:t@t@{place}"));
                assert!(text.contains("u:***@") && !text.contains("cr/e"), "{text}");
            }
            let text = said(&format!("{scheme}://127.0.0.1:1/d?password=s3cret&nonsense=1"));
            assert!(text.contains("password=***&nonsense=1"), "{text}");
        }
        if cfg!(feature = "postgresql") {
            assert!(said("postgresql://u:p@127.0.0.1:1/d").contains("is the server running"));
            assert!(said("postgresql://h/d?sslmode=require").contains("encrypted"));
            assert!(said("postgresql://h:99999/d").contains("expected postgresql://USER:PASSWORD@HOST"));
        } else {
            assert!(said("postgresql://u@h/d").contains("--features postgresql"));
        }
        std::fs::write(path("other"), [SQLITE, &[0; 84]].concat()).unwrap();
        for address in [path("other"), format!("sqlite:///{}", path("new.db"))] {
            let opened = open(&address);
            match cfg!(feature = "sqlite") {
                true => assert_eq!(opened.is_ok(), address.ends_with("new.db")),
                false => assert!(opened.err().unwrap().to_string().contains("--features sqlite")),
            }
        }
    }
}
