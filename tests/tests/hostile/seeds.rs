//! Inputs that the readers accept, to begin with.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use firstsight_hpo::storage::Journal;
use firstsight_models::networks::LOGISTIC;
use firstsight_models::{ImageClassifier, InputShape, Params};

use crate::readers::{CONFIG, edited_checkpoint, small_study};

/// Of a reader by its name.
pub(crate) fn seeds(reader: &str) -> Vec<Vec<u8>> {
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    match reader {
        "image" => {
            let files = goldens("images", "").into_iter().enumerate();
            files.map(|(i, bytes)| [&[i as u8 % 8], &*bytes].concat()).collect()
        }
        "table" => texts(&["a,b\n1,2.5\n-3e4,0\n", "\"a\"\"b\";c\n1;2\n", "a\tb\r\n1\t2\r\n"]),
        "list" => texts(&[
            "path,label,split\na.pgm,x,train\nb.pgm,y,val\n",
            "image,value\na.pgm,0.5\nb.pgm,2\n",
            "path,red,blue\na.pgm,1,0\nb.pgm,1,1\n",
            "path,labels\na.pgm,x|y\nb.pgm,\n",
            "{\"file_name\": \"a.pgm\", \"label\": \"x\"}\n{\"file_name\": \"b.pgm\", \"label\": \"y\"}\n",
        ]),
        "parquet" => goldens("lists", "parquet"),
        "tar" => vec![tar()],
        "idx" => vec![
            [[0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2].as_slice(), &[9, 8, 7, 6]].concat(),
            vec![0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4],
        ],
        "gnt" => vec![
            [[12, 0, 0, 0, 0xb0, 0xa1, 2, 0, 1, 0, 255, 0], [12, 0, 0, 0, b'A', 0, 1, 0, 2, 0, 9, 8]]
                .concat(),
        ],
        "cifar" => vec![vec![3; 3073]],
        "image-cache" | "feature-cache" => vec![vec![], vec![8, 0, 0, 1], vec![60, 0, 0, 255, 3]],
        "journal" => vec![journal()],
        #[cfg(feature = "sqlite")]
        "sqlite" => vec![
            vec![0],
            vec![0, 100, 0, 0, 1],
            vec![1, 3, 1, 1, 1, b'7', 20, 0, 3, 2, b'{', b'}'],
            vec![1, 9, 1, 2, 3, b'1', b'e', b'9'],
        ],
        "checkpoint" => checkpoints(),
        "space" => texts(&[
            "rate = { low = 1e-4, high = 1e-1, log = true }\noptimizer = [\"adam\", \"sgd\"]\n",
            "layers = { low = 1, high = 3 }\nwidth = { low = 16, high = 256, step = 16, each = \"layers\" }\n",
            "optimizer = \"sgd\"\n[rate]\nlow = 0.1\nhigh = 1.0\nwhen = { optimizer = \"sgd\" }\n",
        ]),
        "run" => texts(&[CONFIG]),
        "weights" => vec![weights(), vec![0, 0, 0, 9], vec![40, 0, 0, b'0', 5]],
        "http" => requests(),
        "hub" => texts(&[
            "HTTP/1.1 200 OK\r\nX-Repo-Commit: 0123456789012345678901234567890123456789\r\nETag: \"ab\"\r\n\
             Content-Length: 2\r\n\r\n\n====\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n\n====\nHTTP/1.1 200 OK\r\nETag: W/\"a\"\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nX-Error-Code: EntryNotFound\r\nContent-Length: 0\r\n\r\n",
        ]),
        other => panic!("no reader {other}"),
    }
}

/// The golden files of `firstsight-data` in a folder.
fn goldens(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/data/tests/goldens").join(folder);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file() && path.to_str().unwrap().ends_with(ending));
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn gray(value: u8) -> Vec<u8> {
    [b"P5 1 1 255\n".as_slice(), &[value]].concat()
}

fn tar() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, value) in [("x/1.pgm", 9), ("x/2.pgm", 80), ("y/3.pgm", 200)] {
        let mut header = tar::Header::new_gnu();
        let bytes = gray(value);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &*bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn journal() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.log");
    small_study(Arc::new(Journal::open(&path).unwrap()));
    std::fs::read(path).unwrap()
}

/// Checkpoints of earlier versions, and histories that none has.
fn checkpoints() -> Vec<Vec<u8>> {
    let of_version = |version: &str, from: &str, to: &str| {
        edited_checkpoint(|header| {
            let edited =
                header.replace(r#"version\":4"#, &format!(r#"version\":{version}"#)).replace(from, to);
            assert_ne!(edited, header, "{from}");
            edited
        })
    };
    vec![
        of_version("3", "", ""),
        of_version("1", "accuracy", "Accuracy"),
        of_version("1", r#"values\":[["#, r#"values\":[3,[],["#),
        of_version("1", r#"train\":{"#, r#"train\":7,\"other\":{"#),
        of_version("3", r#"steps\":1"#, &format!(r#"steps\":{}"#, u64::MAX)),
        of_version("3", r#"restarted\":0"#, r#"restarted\":9"#),
    ]
}

fn weights() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let params = Params::seeded(5, &Device::Cpu);
    let input = InputShape::Map { channels: 3, height: 2, width: 2 };
    ImageClassifier::new(&LOGISTIC, input, 2, LOGISTIC.init, &params).unwrap();
    params.save(&path).unwrap();
    std::fs::read(path).unwrap()
}

fn requests() -> Vec<Vec<u8>> {
    let request = |head: &str, body: &[u8]| {
        let head = format!("{head}\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let part = "--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.pgm\"\r\n\r\n";
    let form = [part.as_bytes(), &gray(7), b"\r\n--b--\r\n"].concat();
    vec![
        request("GET /health HTTP/1.1", b""),
        request("GET /metrics HTTP/1.1", b""),
        request("GET /openapi.json HTTP/1.1", b""),
        request("POST /predict?top=2 HTTP/1.1\r\nContent-Type: image/x-portable-graymap", &gray(7)),
        request("POST /predict HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b", &form),
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec(),
    ]
}
