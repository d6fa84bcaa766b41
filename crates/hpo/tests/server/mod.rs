//! A PostgreSQL server of the test's own, where `initdb` is found: its data in a temporary folder, on a free port of the
//! loopback interface. It ends with the test process, however that ends.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub(crate) const PASSWORD: &str = "p4ss/w:rd";
const ENCODED: &str = "p4ss%2Fw%3Ard";

pub(crate) struct Server {
    bin: PathBuf,
    pub(crate) port: u16,
    _watch: ChildStdin,
}

/// The server, started by the first test that asks. Without PostgreSQL this prints a note.
pub(crate) fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let bin = folder()?;
        (0..3).find_map(|_| start(&bin))
    });
    if server.is_none() {
        eprintln!("no initdb is found, or its server does not start: nothing is checked on PostgreSQL");
    }
    server.as_ref()
}

impl Server {
    /// The address of a database, with the driver that Python is to use.
    pub(crate) fn address(&self, database: &str) -> String {
        format!("postgresql+psycopg2://firstsight:{ENCODED}@127.0.0.1:{}/{database}", self.port)
    }

    /// The address of a new, empty database.
    pub(crate) fn database(&self) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("t{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.run("createdb", &[&name]);
        self.address(&name)
    }

    /// Runs one of PostgreSQL's programs, and returns what it prints.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new(self.bin.join(program))
            .args(["-h", "127.0.0.1", "-U", "firstsight", "-p", &self.port.to_string()])
            .args(args)
            .env("PGPASSWORD", PASSWORD)
            .output()
            .unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The folder of PostgreSQL's programs. Debian keeps them out of the path.
fn folder() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(debian.map(|version| version.path().join("bin")));
    // One in the path may be a link to a folder with the other programs.
    let programs = folders.iter().filter_map(|folder| folder.join("initdb").canonicalize().ok());
    let mut folders = programs.filter_map(|program| Some(program.parent()?.to_owned()));
    folders
        .find(|folder| ["postgres", "pg_isready", "createdb"].iter().all(|name| folder.join(name).is_file()))
}

fn start(bin: &Path) -> Option<Server> {
    let dir = tempfile::Builder::new().prefix("firstsight-postgres").tempdir().ok()?.keep();
    std::fs::write(dir.join("password"), PASSWORD).ok()?;
    let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
    // The server refuses to run as root. It ends when the pipe to its shell does.
    let script = r#"set -e
cd "$1"
"$2/initdb" -D data -U firstsight -A scram-sha-256 --pwfile=password -E UTF8 --no-locale --no-sync > init.log 2>&1
"$2/postgres" -D data -p "$3" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off \
    -c max_connections=200 > server.log 2>&1 < /dev/null &
read -r _ || true
kill -INT $! || true
wait $! || true
cd /
rm -rf "$1""#;
    let mut command = Command::new("sh");
    if is_root() {
        let owned = Command::new("chown").args(["-R", "postgres"]).arg(&dir).status().ok()?;
        if !owned.success() {
            return None;
        }
        command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "sh"]);
    }
    let mut shell: Child = command
        .args(["-c", script, "sh"])
        .args([&dir, bin])
        .arg(port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let server = Server { bin: bin.into(), port, _watch: shell.stdin.take()? };
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            let ready = Command::new(bin.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])
                .status();
            if ready.is_ok_and(|status| status.success()) {
                return Some(server);
            }
        }
        if shell.try_wait().ok()?.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut log = String::new();
    for name in ["init.log", "server.log"] {
        let _ = std::fs::File::open(dir.join(name)).and_then(|mut file| file.read_to_string(&mut log));
    }
    eprintln!("the server does not start:\n{log}");
    None
}

#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}
