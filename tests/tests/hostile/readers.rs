//! What reads bytes that others made, each as a function of such bytes. They must neither panic nor hang nor take more memory than
//! a file of that size may; whether they are accepted is the reader's affair.
//!
//! Shared by the tests and by the fuzzer in `tests/fuzz`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use candle_core::{Device, ModuleT, Tensor};
use firstsight_data::convert::Archive;
use firstsight_data::{
    CacheFolder, DatasetFolder, DecodeOptions, DecodeSettings, Exif, ImageDataset, ImageFacts, ImageHash,
    Mnist, Normalize, OnError, Reading, ResizeMode, Sampling, Table, TensorBatches, decode_bytes,
    decoding_memory, idx,
};
#[cfg(feature = "sqlite")]
use firstsight_hpo::storage::Sqlite;
use firstsight_hpo::storage::{Journal, Storage};
use firstsight_hpo::{
    FloatRange, ForestConfig, IntRange, Known, SearchSpace, Study, Suggest as _, Tpe, TpeConfig, Values,
    param_importances,
};
use firstsight_models::networks::LOGISTIC;
use firstsight_models::{ImageClassifier, InputShape, Params};
use firstsight_serve::{Limits, ServeConfig, Server};
use firstsight_train::callbacks::{Checkpoint, ModelEma};
use firstsight_train::{Accuracy, Alone, CrossEntropy, FitConfig, Monitor, OptimizerConfig, Trainable, fit};
use firstsight_transfer::{
    Classifier, FeatureConfig, FeatureView, Hub, HubConfig, HubFile, InterruptFlag, PredictOptions,
    Pretrained, RunFolder, features,
};

/// A name, and what reads the bytes and says whether they were accepted.
pub type Reader = (&'static str, fn(&[u8]) -> bool);

/// All of them.
pub const READERS: &[Reader] = &[
    ("image", image),
    ("table", table),
    ("list", list),
    ("parquet", parquet),
    ("tar", tar),
    ("idx", idx),
    ("gnt", gnt),
    ("cifar", cifar),
    ("image-cache", image_cache),
    ("feature-cache", feature_cache),
    ("journal", journal),
    #[cfg(feature = "sqlite")]
    ("sqlite", sqlite),
    ("space", space),
    ("run", run),
    ("weights", weights),
    ("checkpoint", checkpoint),
    ("http", http),
    ("hub", hub),
];

/// A folder that lives as long as the process, on the fastest disk.
fn scratch(name: &str) -> PathBuf {
    static ROOT: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        tempfile::Builder::new().prefix("firstsight-hostile").tempdir_in(parent).unwrap()
    });
    let folder = ROOT.path().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn written(folder: &str, name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch(folder).join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// `whole` with the changes that `bytes` ask for: each four of them set a byte at a place of 24 bits; what is left is the number of
/// bytes to cut off.
fn changed(whole: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut changed = whole.to_vec();
    let (changes, cut) = bytes.as_chunks::<4>();
    for &[a, b, c, value] in changes {
        let place = u32::from_le_bytes([a, b, c, 0]) as usize % whole.len();
        changed[place] = value;
    }
    changed.truncate(whole.len() - cut.iter().map(|&byte| usize::from(byte)).sum::<usize>().min(whole.len()));
    changed
}

/// Any image format. The first byte says how it is read.
fn image(bytes: &[u8]) -> bool {
    let Some((&how, bytes)) = bytes.split_first() else { return false };
    let reading = if how & 1 == 0 { Reading::viewer() } else { Reading::pillow() };
    let mut settings = if how & 2 == 0 { DecodeSettings::rgb(9, 7) } else { DecodeSettings::gray(16, 16) };
    settings.resize_mode = if how & 4 == 0 { ResizeMode::Squash } else { ResizeMode::CenterCrop };
    // An image that a header promises to be larger than this is refused.
    settings.reading = Reading { max_pixels: 1 << 22, ..reading };
    let name = Path::new("image");
    ImageFacts::read(bytes);
    let memory = decoding_memory(name, bytes, &settings);
    let decoded = decode_bytes(name, bytes, &settings);
    if let Ok(decoded) = &decoded {
        assert_eq!(decoded.pixels.len(), settings.height * settings.width * settings.color.channels());
        assert!(memory.is_ok(), "what can be decoded says how much memory it takes");
    }
    let hashed = DecodeSettings { reading: settings.reading, ..ImageHash::decode_settings() };
    if let Ok(decoded) = decode_bytes(name, bytes, &hashed) {
        ImageHash::new(&decoded.pixels).unwrap();
    }
    decoded.is_ok()
}

fn table(bytes: &[u8]) -> bool {
    let path = written("table", "table.csv", bytes);
    Table::read_csv(&path).map(|table| table.standardizer()).is_ok()
}

/// Scans and decodes what is found.
fn scan(path: &Path) -> bool {
    let Ok(found) = DatasetFolder::scan(path) else { return false };
    found.remarks();
    for (_, folder) in found.splits() {
        folder.each_dimensions(Exif::Apply);
        let settings = DecodeSettings { on_error: OnError::Skip, ..DecodeSettings::rgb(4, 4) };
        let _ = ImageDataset::decode(folder, &settings);
    }
    true
}

fn list(bytes: &[u8]) -> bool {
    let folder = scratch("list");
    for (name, value) in [("a.pgm", 10), ("b.pgm", 200)] {
        std::fs::write(folder.join(name), [b"P5 1 1 255\n".as_slice(), &[value]].concat()).unwrap();
    }
    let is_table = scan(&written("list", "images.csv", bytes));
    scan(&written("list", "images.jsonl", bytes)) || is_table
}

fn parquet(bytes: &[u8]) -> bool {
    scan(&written("parquet", "images.parquet", bytes))
}

fn tar(bytes: &[u8]) -> bool {
    scan(&written("tar", "images.tar", bytes))
}

fn idx(bytes: &[u8]) -> bool {
    let path = written("idx", "train-images-idx3-ubyte", bytes);
    let is_read = idx::read_images(&path).is_ok() || idx::read_labels(&path).is_ok();
    let labels = [0, 0, 8, 1, 0, 0, 0, 1, 3];
    for (name, bytes) in [
        ("train-labels-idx1-ubyte", labels.as_slice()),
        ("t10k-images-idx3-ubyte", bytes),
        ("t10k-labels-idx1-ubyte", labels.as_slice()),
    ] {
        written("idx", name, bytes);
    }
    let _ = Mnist::read(path.parent().unwrap(), 32);
    is_read
}

fn gnt(bytes: &[u8]) -> bool {
    archive(&written("gnt", "1001-c.gnt", bytes))
}

/// Records, and names of classes.
fn cifar(bytes: &[u8]) -> bool {
    let path = written("cifar", "data_batch_1.bin", bytes);
    for name in ["data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        written("cifar", &format!("{name}.bin"), &[]);
    }
    written("cifar", "batches.meta.txt", &bytes[..bytes.len().min(100)]);
    let is_read = archive(path.parent().unwrap());
    std::fs::remove_file(path.with_file_name("batches.meta.txt")).unwrap();
    archive(path.parent().unwrap()) || is_read
}

fn archive(source: &Path) -> bool {
    Archive::open(source).is_ok_and(|archive| archive.content().is_ok())
}

/// The cache's only file whose name ends so.
fn only_file(folder: &Path, ending: &str) -> PathBuf {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_str().unwrap().ends_with(ending)).min().unwrap()
}

fn image_cache(bytes: &[u8]) -> bool {
    static WHOLE: LazyLock<(PathBuf, Vec<u8>)> = LazyLock::new(|| {
        let photos = scratch("image-cache/photos");
        for (name, value) in [("a/1.pgm", 10), ("a/2.pgm", 70), ("b/3.pgm", 200), ("b/4.pgm", 90)] {
            let path = photos.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, [b"P5 1 1 255\n".as_slice(), &[value]].concat()).unwrap();
        }
        std::fs::write(photos.join("b/5.pgm"), b"P5 1 1 255\n").unwrap();
        decode_cached();
        let path = only_file(&scratch("image-cache/cache"), ".images");
        let whole = std::fs::read(&path).unwrap();
        (path, whole)
    });
    let (path, whole) = &*WHOLE;
    std::fs::write(path, changed(whole, bytes)).unwrap();
    decode_cached();
    true
}

fn decode_cached() {
    let cache = CacheFolder::new(scratch("image-cache/cache"));
    let found = DatasetFolder::scan(&scratch("image-cache/photos")).unwrap();
    let settings = DecodeSettings { on_error: OnError::Skip, ..DecodeSettings::rgb(3, 3) };
    let options = DecodeOptions { cache: Some(&cache), ..Default::default() };
    let images = ImageDataset::decode_with(&found.train.unwrap(), &settings, options).unwrap();
    for i in 0..images.len() {
        images.path(i);
        images.checksum(i);
        let _ = images.image(i);
    }
}

fn feature_cache(bytes: &[u8]) -> bool {
    static WHOLE: LazyLock<(PathBuf, Vec<u8>)> = LazyLock::new(|| {
        extract();
        let path = only_file(&scratch("feature-cache"), ".features");
        let whole = std::fs::read(&path).unwrap();
        (path, whole)
    });
    let (path, whole) = &*WHOLE;
    std::fs::write(path, changed(whole, bytes)).unwrap();
    extract();
    true
}

fn extract() {
    let images =
        ImageDataset::from_pixels((0..12).collect(), (2, 2, 1), vec![0, 1, 1], vec!["a".into(), "b".into()])
            .unwrap();
    let config = FeatureConfig {
        normalize: Normalize { mean: vec![0.5], std: vec![0.5] },
        views: &[FeatureView::Plain, FeatureView::Mirrored],
        batch_size: 2,
        communicator: &Alone,
        identity: String::new(),
    };
    let cache = CacheFolder::new(scratch("feature-cache"));
    let found = features(&Flat, &images, &config, Some(&cache), &Device::Cpu, &mut |_, _| ()).unwrap();
    assert_eq!((found.n_images(), found.n_views()), (3, 2));
    found.select(&[0, 1, 2], 2).unwrap();
}

/// A backbone without parameters.
struct Flat;

impl ModuleT for Flat {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> candle_core::Result<Tensor> {
        xs.flatten_from(1)
    }
}

/// A journal, which is then searched further.
fn journal(bytes: &[u8]) -> bool {
    let path = written("journal", "study.log", bytes);
    Journal::open(&path).is_ok_and(|storage| search(Arc::new(storage)))
}

/// What is done with a study of others.
fn search(storage: Arc<dyn Storage>) -> bool {
    let sampler = Tpe::new(TpeConfig { n_startup_trials: 1, ..TpeConfig::optuna4(1) }).unwrap();
    let Ok(study) = Study::builder("study").seed(1).sampler(sampler).shared_storage(storage).load() else {
        return false;
    };
    let _ = study.best_trials();
    if let Ok(trials) = study.trials() {
        let _ = param_importances(&trials, ForestConfig::optuna4(1));
    }
    let Ok(mut trial) = study.ask() else { return false };
    let _ = trial.float("lr", FloatRange::new(1e-4, 1e-1).log());
    let _ = trial.int("width", IntRange::new(1, 64));
    let _ = trial.categorical("optimizer", &["adam", "sgd"]);
    let _ = trial.report(0.5, 0);
    let _ = trial.should_prune();
    study.tell(&trial, 0.5).is_ok()
}

/// A study of four trials.
pub fn small_study(storage: Arc<dyn Storage>) {
    let study = Study::builder("study").seed(1).shared_storage(storage).create().unwrap();
    for i in 0..4 {
        let mut trial = study.ask().unwrap();
        let rate = trial.float("lr", FloatRange::new(1e-4, 1e-1).log()).unwrap();
        trial.int("width", IntRange::new(1, 64)).unwrap();
        trial.categorical("optimizer", &["adam", "sgd"]).unwrap();
        trial.report(rate, i).unwrap();
        study.tell(&trial, rate).unwrap();
    }
}

/// A study in an SQLite database, which is then searched further. After an even byte the file's bytes are changed, after an odd one
/// its values: a column, a row, a type, and the text of the value after its length.
#[cfg(feature = "sqlite")]
fn sqlite(bytes: &[u8]) -> bool {
    static WHOLE: LazyLock<(Vec<u8>, Vec<String>)> = LazyLock::new(|| {
        let path = scratch("sqlite").join("whole.db");
        small_study(Arc::new(Sqlite::open(&path).unwrap()));
        let db = rusqlite::Connection::open(&path).unwrap();
        db.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).unwrap();
        let columns = "SELECT 'UPDATE OR REPLACE ' || m.name || ' SET ' || c.name || ' = ?'
            FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'";
        let mut columns = db.prepare(columns).unwrap();
        let columns = columns.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        (std::fs::read(&path).unwrap(), columns)
    });
    let (whole, columns) = &*WHOLE;
    let Some((&how, bytes)) = bytes.split_first() else { return false };
    let places = ["study.db", "study.db-wal", "study.db-shm", "study.db-journal"];
    let [path, beside @ ..] = places.map(|name| scratch("sqlite").join(name));
    beside.into_iter().for_each(|path| drop(std::fs::remove_file(path)));
    if how & 1 == 0 {
        std::fs::write(&path, changed(whole, bytes)).unwrap();
    } else {
        std::fs::write(&path, whole).unwrap();
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch("PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF").unwrap();
        let mut rest = bytes;
        while let [column, row, kind, length, after @ ..] = rest {
            let (text, after) = after.split_at(after.len().min(usize::from(*length)));
            rest = after;
            // Keys, and what may not be NULL, are SQLite's to guard.
            let _ = db.execute(
                &format!(
                    "{}{}",
                    columns[usize::from(*column) % columns.len()],
                    if *row == 0 { String::new() } else { format!(" WHERE rowid = {row}") }
                ),
                [value(*kind, text)],
            );
        }
    }
    Sqlite::open(&path).is_ok_and(|storage| search(Arc::new(storage)))
}

/// A value of one of SQLite's types.
#[cfg(feature = "sqlite")]
fn value(kind: u8, bytes: &[u8]) -> rusqlite::types::Value {
    use rusqlite::types::Value;
    let text = String::from_utf8_lossy(bytes);
    match kind % 5 {
        0 => Value::Null,
        1 => Value::Integer(text.parse().unwrap_or(i64::from(bytes.first().copied().unwrap_or(0)))),
        2 => Value::Real(text.parse().unwrap_or(0.5)),
        3 => Value::Text(text.into_owned()),
        _ => Value::Blob(bytes.to_vec()),
    }
}

fn space(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let known = |name, values| Known { name, values, each: None, default: None, about: "" };
    let unbounded = std::ops::Bound::Unbounded;
    let known = [
        known("rate", Values::Floats(unbounded, unbounded)),
        known("layers", Values::Integers(0, 9)),
        Known { each: Some("layers"), ..known("width", Values::Integers(1, 1024)) },
        known("optimizer", Values::Names(vec!["adam".to_owned(), "sgd".to_owned()])),
    ];
    let Ok(space) = SearchSpace::parse(text, "space.toml", &known, &[]) else { return false };
    space.describe();
    let study = Study::builder("space").seed(1).create().unwrap();
    let mut trial = study.ask().unwrap();
    space.sample(&mut trial).map(|settings| settings.or_defaults(&known)).is_ok()
}

/// A run of a logistic regression on 2 x 2 pixels.
fn small_run(name: &str) -> PathBuf {
    let folder = scratch(name);
    let params = Params::seeded(5, &Device::Cpu);
    let input = InputShape::Map { channels: 3, height: 2, width: 2 };
    ImageClassifier::new(&LOGISTIC, input, 2, LOGISTIC.init, &params).unwrap();
    params.save(&folder.join("model.safetensors")).unwrap();
    std::fs::write(folder.join("config.json"), CONFIG).unwrap();
    folder
}

/// The configuration of [`small_run`].
pub const CONFIG: &str = r#"{"architecture": "logistic", "label_names": ["ant", "bee"],
"pretrained_cfg": {"input_size": [3, 2, 2], "interpolation": "bilinear", "mean": [0.5, 0.5, 0.5],
"std": [0.5, 0.5, 0.5], "crop_pct": 0.875}}"#;

/// A `config.json` of a run.
fn run(bytes: &[u8]) -> bool {
    let folder = small_run("run");
    std::fs::write(folder.join("config.json"), bytes).unwrap();
    if let Ok(run) = RunFolder::open(&folder) {
        let _ = run.load(&Device::Cpu);
    }
    let _ = Pretrained::folder(&folder);
    Classifier::open(&folder, &Device::Cpu).is_ok()
}

/// A `model.safetensors` of a run, changed, or as it is where it begins as one does.
fn weights(bytes: &[u8]) -> bool {
    static WHOLE: LazyLock<Vec<u8>> =
        LazyLock::new(|| std::fs::read(small_run("weights").join("model.safetensors")).unwrap());
    let is_whole = bytes.get(8) == Some(&b'{');
    let bytes = if is_whole { bytes.to_vec() } else { changed(&WHOLE, bytes) };
    let folder = scratch("weights");
    std::fs::write(folder.join("config.json"), CONFIG).unwrap();
    std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
    if let Ok(pretrained) = Pretrained::folder(&folder) {
        let _ = pretrained.load(&Device::Cpu);
    }
    Classifier::open(&folder, &Device::Cpu).is_ok()
}

/// A `last.safetensors` of a training, changed, or as it is where it begins as one does; the training then goes on.
fn checkpoint(bytes: &[u8]) -> bool {
    static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(unchecked_checkpoint);
    let is_whole = bytes.get(8) == Some(&b'{');
    let bytes = if is_whole { bytes.to_vec() } else { changed(&WHOLE, bytes) };
    let folder = scratch("checkpoint");
    std::fs::write(folder.join("last.safetensors"), bytes).unwrap();
    Checkpoint::seconds(&folder);
    let stored = Checkpoint::stored(&folder);
    // A history of many epochs is trained to its end.
    if stored.is_ok_and(|stored| stored.is_some_and(|stored| stored.epochs.len() > 3)) {
        return false;
    }
    train(&folder, 2).is_ok()
}

/// A checkpoint in the form of before checksums, so that changes of it are read.
fn unchecked_checkpoint() -> Vec<u8> {
    edited_checkpoint(|header| header.replace(r#"version\":4"#, r#"version\":3"#))
}

/// A checkpoint without a checksum, whose header is edited.
pub fn edited_checkpoint(edit: impl Fn(String) -> String) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), 1).unwrap();
    let checked = std::fs::read(folder.path().join("last.safetensors")).unwrap();
    let (length, rest) = checked.split_first_chunk().unwrap();
    let (header, values) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header = edit(str::from_utf8(header).unwrap().replace("checksum", "nochecks"));
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), values].concat()
}

/// Trains a logistic regression until it has had so many epochs, from the checkpoint in `folder` if there is one.
fn train(folder: &Path, epochs: usize) -> firstsight_train::Result<()> {
    let params = Params::seeded(5, &Device::Cpu);
    let input = InputShape::Map { channels: 1, height: 1, width: 2 };
    let model = ImageClassifier::new(&LOGISTIC, input, 2, LOGISTIC.init, &params).unwrap();
    let inputs = Tensor::new(&[[0.5f32, 1.0], [0.25, -1.0]], &Device::Cpu).unwrap();
    let inputs = inputs.reshape((2, 1, 1, 2)).unwrap();
    let labels = Tensor::new(&[0u32, 1], &Device::Cpu).unwrap();
    let data = TensorBatches::new(inputs, labels, 2, Sampling::Sequential).unwrap();
    let config = FitConfig::new(epochs, CrossEntropy, OptimizerConfig::adam_keras(0.01)).metric(Accuracy);
    let mut average = ModelEma::new(0.9);
    let mut checkpoint = Checkpoint::new(folder, Monitor::val(Accuracy), "small").resume(true);
    fit(
        &Trainable::new(&model, params.named()),
        &data,
        Some(&data),
        &config,
        &mut [&mut average, &mut checkpoint],
    )
    .map(drop)
}

/// A request to the service: bytes of a connection.
fn http(bytes: &[u8]) -> bool {
    static SERVICE: LazyLock<SocketAddr> = LazyLock::new(|| {
        let classifier = Classifier::open(&small_run("http"), &Device::Cpu).unwrap();
        let limits = Limits { body: 1 << 20, time: Duration::from_secs(1), ..Limits::usual() };
        let config =
            ServeConfig { host: "127.0.0.1".to_owned(), port: 0, allowed_hosts: vec![], token: None, limits };
        let server = Server::bind(config).unwrap();
        let address = server.address();
        std::thread::spawn(move || {
            server
                .serve(classifier, &PredictOptions { top: 5, reject: None }, &InterruptFlag::default())
                .unwrap();
        });
        address
    });
    let mut stream = TcpStream::connect(*SERVICE).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A server that has refused a request may have closed its side.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        let hangs = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
        assert!(!hangs, "no answer in 20 seconds to {:?}", String::from_utf8_lossy(bytes));
    }
    let text = String::from_utf8_lossy(&answer);
    assert!(!text.starts_with("HTTP/1.1 500"), "{text} to {:?}", String::from_utf8_lossy(bytes));
    text.starts_with("HTTP/1.1 200")
}

/// Answers of a hub, one after the other, with a line of `====` between them.
fn hub(bytes: &[u8]) -> bool {
    static ANSWERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
    static HUB: LazyLock<SocketAddr> = LazyLock::new(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let answer = ANSWERS.lock().unwrap().pop().unwrap_or_default();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(&answer);
            }
        });
        address
    });
    let mut answers: Vec<Vec<u8>> = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(6).position(|line| line == b"\n====\n") {
        answers.push(rest[..at].to_vec());
        rest = &rest[at + 6..];
    }
    answers.push(rest.to_vec());
    answers.reverse();
    *ANSWERS.lock().unwrap() = answers;
    let cache = scratch("hub");
    let config = HubConfig {
        endpoint: format!("http://{}", *HUB),
        timeout: Duration::from_millis(500),
        retries: 0,
        longest_wait: Duration::ZERO,
        ..HubConfig::new(cache.clone())
    };
    let file =
        HubFile { repository: "owner/name", revision: "main", file: "model.safetensors", sha256: None };
    let fetched = Hub::new(config).unwrap().fetch(&file, &mut |_| ());
    std::fs::remove_dir_all(&cache).unwrap();
    fetched.is_ok()
}
