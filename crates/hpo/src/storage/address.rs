//! Storages by their addresses.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use super::{Journal, Storage};
use crate::error::{Error, Result};

/// The beginning of every SQLite database.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// The storage that an address names: `sqlite:///study.db` as in Optuna, a file that is an SQLite database, or else the
/// journal in that file. What does not exist is created.
///
/// ```
/// use firstsight_hpo::storage;
///
/// let error = storage::open("mysql://root@localhost/studies").err().unwrap();
/// assert!(error.to_string().contains("no database on a server"));
/// ```
///
/// # Errors
///
/// [`Error::Address`] for a database on a server or in memory, and for an SQLite database without the feature `sqlite`;
/// those of [`Journal::open`] and `Sqlite::open`.
pub fn open(address: &str) -> Result<Arc<dyn Storage>> {
    let refuse = |rule| Err(Error::Address { address: address.to_owned(), rule });
    let Some((scheme, rest)) = address.split_once("://") else {
        let path = Path::new(address);
        return match is_sqlite(path) {
            true => sqlite(address, path),
            false => Ok(Arc::new(Journal::open(path)?)),
        };
    };
    match scheme.split('+').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "sqlite" => {}
        "postgresql" | "postgres" | "mysql" | "mariadb" | "redis" | "rediss" | "mssql" | "oracle" => {
            return refuse(
                "no database on a server is supported; a file is: study.log, or sqlite:///study.db",
            );
        }
        _ => return refuse("expected a file, or sqlite:///FILE"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        assert!(open(&path("study.log")).is_ok());
        for (address, word) in [
            ("postgresql://u@h/d".to_owned(), "server"),
            ("mysql+pymysql://u@h/d".to_owned(), "server"),
            ("redis://h:6379".to_owned(), "server"),
            ("http://h/study.db".to_owned(), "sqlite:///FILE"),
            ("sqlite://study.db".to_owned(), "three slashes"),
            ("sqlite://".to_owned(), "three slashes"),
            ("sqlite:///:memory:".to_owned(), "lost"),
            ("sqlite:///".to_owned(), "lost"),
        ] {
            let said = open(&address).err().unwrap().to_string();
            assert!(said.contains(word) && said.contains(&address), "{said}");
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
