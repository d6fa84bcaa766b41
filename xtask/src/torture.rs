//! Commands that are killed at random moments and called again, unchanged, until they are done. What they then leave is compared with what an
//! undisturbed call leaves, byte for byte, and after each kill every file that has its final name is read.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

#[allow(dead_code, reason = "tests of the hub use the rest")]
#[path = "../../crates/transfer/tests/hub/server.rs"]
mod server;

/// Kills of one life of a folder, after which the command is let through.
const KILLS_OF_A_LIFE: usize = 5;
/// Longest call.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is killed, and how often.
#[derive(Debug)]
pub(crate) struct Torture {
    /// The command line.
    pub(crate) program: PathBuf,
    /// An empty folder to work in.
    pub(crate) folder: PathBuf,
    /// Least number of kills of each task.
    pub(crate) kills: usize,
    pub(crate) seed: u64,
    /// A database on a PostgreSQL server; without it studies there are not killed.
    pub(crate) postgresql: Option<String>,
}

/// What came of a task.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) task: &'static str,
    /// Calls that were killed before they were done.
    pub(crate) kills: usize,
    /// Lives that ended with the bytes of the undisturbed call.
    pub(crate) lives: usize,
    /// Files that were read after a kill.
    pub(crate) read: usize,
}

/// A command whose result is in the folder or file `OUT`.
struct Task {
    name: &'static str,
    /// `OUT` and `LIFE` in them stand for the result and for a name that no earlier life had.
    args: Vec<String>,
    /// Files beside the result that a life begins without.
    beside: &'static [&'static str],
    /// As in the arguments.
    environment: Vec<(&'static str, String)>,
}

const OUT: &str = "OUT";
const LIFE: &str = "LIFE";

/// The commands, of which one asks `hub`.
fn tasks(postgresql: Option<&str>, hub: &str) -> Vec<Task> {
    let task = |name, args: &str, beside| {
        let args = args.split(' ').map(str::to_owned).collect();
        Task { name, args, beside, environment: Vec::new() }
    };
    let search = "tune photos --model logistic --input 16x16x3 --trials 4 --epochs 3 --sampler random --heartbeat 1 --out OUT --storage";
    let mut tasks = vec![
        task(
            "train",
            "train photos --model small-cnn --input 32x32x3 --batch-size 8 --epochs 12 --patience 100 --resume --out OUT",
            &[],
        ),
        task(
            "fine-tune",
            "fine-tune photos --weights weights --input 32x32x3 --preset standard --epochs 2 --resume --out OUT",
            &[],
        ),
        task(
            "fine-tune --preset quick",
            "fine-tune photos --weights weights --input 32x32x3 --preset quick --resume --out OUT",
            &[],
        ),
        task("predict --resume", "predict --run run many --csv=OUT --resume", &[]),
        task("dataset convert", "dataset convert digits --out OUT", &[]),
        task(
            "tune, journal",
            &format!("{search} study.log"),
            &["study.log", "study.log.lock", "study.log.lock.queue"],
        ),
        task(
            "tune, SQLite",
            &format!("{search} sqlite:///study.db"),
            &["study.db", "study.db-wal", "study.db-shm"],
        ),
        Task {
            environment: vec![("HF_ENDPOINT", hub.to_owned()), ("HF_HOME", OUT.to_owned())],
            ..task("download", "dataset check photos --weights owner/name", &[])
        },
    ];
    if let Some(address) = postgresql {
        tasks.push(task("tune, PostgreSQL", &format!("{search} {address} --study LIFE"), &[]));
    }
    tasks
}

impl Torture {
    /// Kills each task whose name contains `filter`. Reports each as it is done.
    pub(crate) fn run(&self, filter: &str, report: &mut dyn FnMut(&Outcome)) -> Result<(), String> {
        self.prepare().map_err(|error| format!("{}: {error}", self.folder.display()))?;
        let mut random = Random(self.seed);
        let hub = self.hub().map_err(|error| format!("{}: {error}", self.folder.display()))?;
        let tasks = tasks(self.postgresql.as_deref(), &hub.address);
        for task in tasks.into_iter().filter(|task| task.name.contains(filter)) {
            if let Some(outcome) = self.kill(&task, &mut random)? {
                report(&outcome);
            }
        }
        Ok(())
    }

    /// Photos, many photos, digits, a run, and weights.
    fn prepare(&self) -> io::Result<()> {
        for (class, hue) in [("blue", 2), ("red", 0)] {
            for (folder, n) in [("photos", 10), ("many", 60)] {
                let folder = self.folder.join(folder).join(class);
                fs::create_dir_all(&folder)?;
                for i in 0..n {
                    let pixel = |place: usize| {
                        let (x, y) = (place % 40, place / 40);
                        let mut rgb = [x * 5 + i * 17, y * 7 + i * 29, x * y].map(|value| (value % 90) as u8);
                        rgb[hue] += 150;
                        rgb
                    };
                    let pixels: Vec<u8> = (0..40 * 32).flat_map(pixel).collect();
                    fs::write(folder.join(format!("{i}.ppm")), [&b"P6\n40 32\n255\n"[..], &pixels].concat())?;
                }
            }
        }
        let digits = self.folder.join("digits");
        fs::create_dir_all(&digits)?;
        for (part, n) in [("train", 300_u32), ("t10k", 60)] {
            let head = |numbers: &[u32]| -> Vec<u8> {
                let bytes = numbers.iter().flat_map(|number| number.to_be_bytes());
                [0, 0, 8, numbers.len() as u8].into_iter().chain(bytes).collect()
            };
            let pixels = (0..n * 784).map(|i| (i / 7 * 31 % 251) as u8);
            let images: Vec<u8> = head(&[n, 28, 28]).into_iter().chain(pixels).collect();
            let labels: Vec<u8> = head(&[n]).into_iter().chain((0..n).map(|i| (i % 10) as u8)).collect();
            fs::write(digits.join(format!("{part}-images-idx3-ubyte")), images)?;
            fs::write(digits.join(format!("{part}-labels-idx1-ubyte")), labels)?;
        }
        for line in [
            "train photos --model small-cnn --input 32x32x3 --epochs 1 --out run",
            "train photos --model mobilenet-v2 --input 32x32x3 --epochs 1 --out weights",
        ] {
            let args: Vec<&str> = line.split(' ').collect();
            let (status, said) = through(self.command(&args))?;
            if !status.success() {
                return Err(io::Error::other(format!("{line}: {said}")));
            }
        }
        Ok(())
    }

    /// A hub with the weights, from which they take half a second to come.
    fn hub(&self) -> io::Result<server::Server> {
        let hub = server::Server::start();
        for (file, in_storage) in [("config.json", false), ("model.safetensors", true)] {
            hub.add(file, &fs::read(self.folder.join("weights").join(file))?, in_storage);
        }
        hub.slow(Duration::from_millis(500));
        Ok(hub)
    }

    fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.folder).args(args).args(["--cache", "cache"]).stdin(Stdio::null());
        command
    }

    /// `None` for a task that this build has not.
    fn kill(&self, task: &Task, random: &mut Random) -> Result<Option<Outcome>, String> {
        let failed = |error: io::Error| format!("{}: {error}", task.name);
        let mut life = 0;
        let command = |name: &str, life: usize| {
            let filled = |text: &String| text.replace(OUT, name).replace(LIFE, &format!("life-{life}"));
            let mut command = self.command(&task.args.iter().map(filled).collect::<Vec<_>>());
            command.envs(task.environment.iter().map(|(key, value)| (key, filled(value))));
            command
        };
        let begin = |name: &str| {
            for old in task.beside.iter().copied().chain([name]) {
                let path = self.folder.join(old);
                let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            }
        };
        begin("undisturbed");
        let started = Instant::now();
        let (status, said) = through(command("undisturbed", life)).map_err(failed)?;
        if !status.success() {
            return match said.contains("--features sqlite") || said.contains("no command") {
                true => Ok(None),
                false => Err(format!("{}: {said}", task.name)),
            };
        }
        let usual = started.elapsed();
        let expected = content(&self.folder.join("undisturbed"))?;
        let mut outcome = Outcome { task: task.name, kills: 0, lives: 0, read: 0 };
        while outcome.kills < self.kills {
            begin("killed");
            life += 1;
            let mut kills = 0;
            loop {
                let child = command("killed", life)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .map_err(failed)?;
                let after =
                    if kills < KILLS_OF_A_LIFE { usual.mul_f64(random.share() * 1.1) } else { PATIENCE };
                match ended(child, after).map_err(failed)? {
                    Some(status) if status.success() => break,
                    Some(_) => {
                        let (status, said) = through(command("killed", life)).map_err(failed)?;
                        // Killed once all was in its place. The content is compared below.
                        if kills > 0 && said.contains("exists already") {
                            break;
                        }
                        return Err(format!("{} after {kills} kills: {status}: {said}", task.name));
                    }
                    None if kills == KILLS_OF_A_LIFE => return Err(format!("{} does not end", task.name)),
                    None => {
                        kills += 1;
                        outcome.read += check(&self.folder.join("killed"))?;
                    }
                }
            }
            let found = content(&self.folder.join("killed"))?;
            if let Some(name) = difference(&expected, &found) {
                return Err(format!("{} after {kills} kills: {name} is another", task.name));
            }
            outcome.kills += kills;
            outcome.lives += 1;
        }
        begin("undisturbed");
        begin("killed");
        Ok(Some(outcome))
    }
}

/// A call that nobody disturbs, and what it says.
fn through(mut command: Command) -> io::Result<(ExitStatus, String)> {
    let output = command.output()?;
    Ok((output.status, String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// The exit status of a process that ends in time; else it is killed.
fn ended(mut child: Child, within: Duration) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() >= within {
            child.kill()?;
            let status = child.wait()?;
            // It may have ended at the last moment.
            return Ok(status.success().then_some(status));
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// The files under a folder, or the file itself, by their paths from it.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut all: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    all.sort();
    all
}

/// What must be the same however it came about: all but times and pages, which tell of times.
fn content(root: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>, String> {
    let mut all = BTreeMap::new();
    for path in files(root) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let inner = path.strip_prefix(root).unwrap_or(&path).to_owned();
        if name == "report.html" || name == "seconds.json" {
            continue;
        }
        let mut bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if name == "metrics.json" {
            let mut metrics: Value =
                serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
            metrics.as_object_mut().map(|metrics| metrics.remove("seconds"));
            bytes = metrics.to_string().into_bytes();
        }
        all.insert(inner, bytes);
    }
    Ok(all)
}

/// A file that one has, and the other has not or otherwise.
fn difference(a: &BTreeMap<PathBuf, Vec<u8>>, b: &BTreeMap<PathBuf, Vec<u8>>) -> Option<String> {
    let names = a.keys().chain(b.keys());
    names.filter(|name| a.get(*name) != b.get(*name)).map(|name| name.display().to_string()).next()
}

/// Reads every file that has its final name, and returns how many there are.
fn check(root: &Path) -> Result<usize, String> {
    let mut read = 0;
    for path in files(root) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let is_whole = match name.rsplit_once('.').map(|(_, end)| end) {
            Some("json") => serde_json::from_slice::<Value>(&bytes).is_ok(),
            Some("safetensors") => is_safetensors(&bytes),
            Some("html") => bytes.trim_ascii_end().ends_with(b"</html>"),
            Some("png") => bytes.starts_with(b"\x89PNG") && bytes.ends_with(b"IEND\xaeB`\x82"),
            // Rows grow; a killed call may leave half of the last.
            Some("csv") if path == root => true,
            Some("csv") => bytes.ends_with(b"\n"),
            _ => true,
        };
        if !is_whole {
            return Err(format!("{} cannot be read after a kill", path.display()));
        }
        read += 1;
    }
    Ok(read)
}

/// Whether the header can be read, and the data is as long as it says.
fn is_safetensors(bytes: &[u8]) -> bool {
    let whole = || {
        let length = usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()?;
        let header: Value = serde_json::from_slice(bytes.get(8..8 + length)?).ok()?;
        let ends = header.as_object()?.values().filter_map(|tensor| tensor["data_offsets"][1].as_u64());
        Some(8 + length + ends.max()? as usize == bytes.len())
    };
    whole().unwrap_or(false)
}

/// A linear congruential generator, by Knuth.
struct Random(u64);

impl Random {
    /// A number from 0 to 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
