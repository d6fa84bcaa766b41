//! `serve RUN` over real sockets: its answers, every refusal, batches, the graceful stop, and what a hostile client gets.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use common::service::{Answer, FORM, Service, assert_near, form, request};
use common::{photos, refuses, succeeds, weights};

/// A run of a small network, with photos.
fn run(folder: &Path) {
    photos(folder, 15);
    let train =
        ["train", "photos", "--model", "small-cnn", "--input", "16x16x3", "--epochs", "2", "--out", "run"];
    succeeds(folder, &train);
}

fn read(folder: &Path, file: &str) -> Vec<u8> {
    std::fs::read(folder.join(file)).unwrap()
}

#[test]
fn answers_are_those_of_predict() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    run(here);
    std::fs::write(here.join("bad.png"), "text").unwrap();
    let files = ["photos/red/3.png", "bad.png", "photos/blue/7.png"];
    let predict = |flags: &[&str]| -> Value {
        let output = common::cli(here, &[&["predict", "--run", "run", "--json"], flags, &files].concat());
        let text = common::text(&output.stdout).replace("photos/red/", "").replace("photos/blue/", "");
        serde_json::from_str(&text).unwrap()
    };
    let contents = files.map(|file| read(here, file));
    let named = ["3.png", "bad.png", "C:\\\\photos\\\\7.png"];
    let body = form(&[0, 1, 2].map(|i| (named[i], &contents[i][..])));
    for flags in [&[][..], &["--reject=0.8"], &["--temperature", "2"], &["--top", "1"]] {
        let service = Service::start(here, &[&["run"], flags].concat());
        let answer = service.predict(FORM, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let theirs = predict(flags);
        assert_near(&answer.json(), &theirs);
        // An image by itself, with and without a type.
        for kind in [&["Content-Type: image/png"][..], &["Content-Type: application/octet-stream"], &[]] {
            let mut alone = service.ask("POST", "/predict", kind, &contents[0]).json();
            assert_eq!(alone[0]["image"], "image");
            alone[0]["image"] = theirs[0]["image"].clone();
            assert_near(&alone[0], &theirs[0]);
        }
        let best = service.ask("POST", "/predict?top=1", &[], &contents[0]).json();
        assert_near(&best[0]["predictions"][0], &theirs[0]["predictions"][0]);
        assert_eq!(best[0]["predictions"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn networks_of_several_labels_answer_too() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 12);
    let mut table = "path,label\n".to_owned();
    for class in ["blue", "red"] {
        for i in 0..12 {
            let label = if i % 2 == 0 { class.to_owned() } else { format!("{class}|odd") };
            table.push_str(&format!("photos/{class}/{i}.png,{label}\n"));
        }
    }
    std::fs::write(here.join("table.csv"), table).unwrap();
    let train = ["train", "table.csv", "--task", "multi-label", "--model", "small-cnn", "--input", "16x16x3"];
    succeeds(here, &[&train[..], &["--epochs", "1", "--out", "run"]].concat());
    let theirs = succeeds(here, &["predict", "--run", "run", "--json", "photos/red/1.png"]);
    let mut theirs: Value = serde_json::from_str(&theirs).unwrap();
    theirs[0]["image"] = "image".into();
    let service = Service::start(here, &["run"]);
    assert_near(&service.predict("image/png", &read(here, "photos/red/1.png")).json(), &theirs);
    assert_eq!(service.ask("GET", "/health", &[], b"").json()["task"], "multi-label");
}

#[test]
fn requests_that_come_together_are_answered_together() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 12);
    weights(here, "mobilenetv2_100");
    let service = Service::start(here, &["weights", "--max-batch", "8"]);
    let photos: Vec<Vec<u8>> = (0..12).map(|i| read(here, &format!("photos/red/{i}.png"))).collect();
    let alone: Vec<Value> = photos.iter().map(|photo| service.predict("image/png", photo).json()).collect();
    assert_eq!(service.metric("firstsight_batch_images_count"), 12.0);
    std::thread::scope(|scope| {
        for i in 0..12 {
            let (service, photo, alone) = (&service, &photos[i], &alone[i]);
            scope.spawn(move || {
                for _ in 0..10 {
                    let answer = service.predict("image/png", photo);
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert_near(&answer.json(), alone);
                }
            });
        }
    });
    let batches = service.metric("firstsight_batch_images_count") - 12.0;
    println!("120 images in {batches} batches");
    assert!(batches < 100.0, "{batches}");
    assert_eq!(service.metric("firstsight_images_total"), 132.0);
    assert_eq!(service.metric("firstsight_predict_seconds_count"), 132.0);
    assert_eq!(service.metric("firstsight_requests_total{path=\"/predict\",status=\"200\"}"), 132.0);
    // More images than a batch.
    let files: Vec<(&str, &[u8])> = photos.iter().map(|photo| ("1.png", &photo[..])).collect();
    let rows = service.predict(FORM, &form(&files)).json();
    assert_eq!(rows.as_array().unwrap().len(), 12);
    assert_near(&rows[11]["predictions"], &alone[11][0]["predictions"]);
}

#[test]
fn what_is_no_request_for_predictions_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    run(here);
    let photo = read(here, "photos/red/3.png");
    let limits =
        ["--max-body", "100KB", "--max-images", "2", "--max-pixels", "5000", "--max-decoding", "200KB"];
    let service = Service::start(here, &[&["run"][..], &limits].concat());

    let health = service.ask("GET", "/health", &[], b"");
    assert_eq!((health.status, &health.json()["labels"][1]), (200, &"red".into()));
    assert_eq!(service.ask("HEAD", "/health", &[], b"").status, 200);
    let asks = |path: &str, body: &[u8]| service.ask("POST", path, &["Content-Type: image/png"], body);
    asks("/predict?top=0", &photo).refused(400, &["top=K", "top=0"]);
    asks("/predict?size=3", &photo).refused(400, &["size=3"]);
    asks("/predict", b"").refused(400, &["no image", "0 bytes"]);
    service.predict("multipart/form-data", &photo).refused(400, &["boundary"]);
    service.predict(FORM, &photo).refused(400, &["no boundary"]);
    service.predict(FORM, b"--x--").refused(400, &["no image"]);
    asks("/../etc/passwd", &photo).refused(404, &["/predict"]);
    service.ask("POST", "/api/classes", &[], b"{}").refused(404, &["/health"]);
    let page = service.ask("GET", "/", &[], b"");
    assert!(
        page.status == 200 && page.head.contains("content-security-policy: default-src 'none'"),
        "{}",
        page.head
    );
    let wrong = service.ask("GET", "/predict", &[], b"");
    wrong.refused(405, &["POST", "GET"]);
    assert!(wrong.head.contains("allow: POST"), "{}", wrong.head);
    service.ask("DELETE", "/health", &[], b"").refused(405, &["GET, HEAD", "DELETE"]);
    service.predict("application/json", b"{}").refused(415, &["image/*", "application/json"]);
    asks("/predict", b"text").refused(422, &["image", "JPEG", "text"]);
    let truncated = asks("/predict", &photo[..40]);
    truncated.refused(422, &["no image could be read"]);

    // Too much: by the stated length, in chunks, of images, of pixels, of memory.
    asks("/predict", &[0; 100_001]).refused(413, &["100000 bytes", "100001 bytes"]);
    let mut chunks = format!("{:x}\r\n", 200_000).into_bytes();
    chunks.extend([0; 200_000]);
    chunks.extend(b"\r\n0\r\n\r\n");
    let chunked = service.ask("POST", "/predict", &["Transfer-Encoding: chunked"], &chunks);
    chunked.refused(413, &["100000 bytes"]);
    service.predict(FORM, &form(&[("1.png", &photo[..]); 3])).refused(413, &["at most 2", "\"3\""]);
    let large = |width, height| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(width, height).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    };
    asks("/predict", &large(100, 60)).refused(413, &["5000"]);
    drop(service);
    let service = Service::start(here, &["run", "--max-decoding", "200KB"]);
    service.predict("image/png", &large(300, 300)).refused(413, &["memory"]);
    assert_eq!(service.predict("image/png", &photo).status, 200);
}

#[test]
fn pages_of_other_sites_and_strangers_get_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    run(here);
    let photo = read(here, "photos/red/3.png");
    let service = Service::start(here, &["run"]);
    let host = format!("Host: 127.0.0.1:{}", service.port);
    let own = format!("Origin: http://127.0.0.1:{}", service.port);
    assert_eq!(service.ask("POST", "/predict", &[&host, &own], &photo).status, 200);
    for headers in [
        &["Host: evil.example"][..],
        &["Host: 192.168.0.7"],
        &[&host, "Origin: http://evil.example"],
        &[&host, "Origin: null"],
    ] {
        let expected = if headers.len() == 1 { "Host" } else { "origin" };
        service.ask("POST", "/predict", headers, &photo).refused(403, &[expected]);
        service.ask("GET", "/health", headers, b"").refused(403, &[expected]);
    }
    drop(service);
    let made = Service::start(here, &["run", "--host", "0.0.0.0"]);
    let token = made.token.clone().unwrap();
    assert!(token.len() == 32, "{token}");
    for service in [made, Service::start(here, &["run", "--token", &token])] {
        let asks = |authorization: &str| service.ask("POST", "/predict", &[authorization], &photo);
        assert_eq!(asks(&format!("Authorization: Bearer {token}")).status, 200);
        let unknown = asks("Authorization: Bearer 123");
        unknown.refused(401, &["Bearer TOKEN"]);
        assert!(unknown.head.contains("www-authenticate: Bearer"), "{}", unknown.head);
        service.ask("GET", "/metrics", &[], b"").refused(401, &["none"]);
        assert_eq!(service.ask("GET", "/health", &[], b"").status, 200);
    }
    let service = Service::start(here, &["run", "--allowed-host", "photos.example"]);
    let proxied = ["Host: photos.example", "Origin: https://photos.example"];
    assert_eq!(service.ask("POST", "/predict", &proxied, &photo).status, 200);
    service.ask("POST", "/predict", &["Host: other.example"], &photo).refused(403, &["photos.example"]);
    refuses(here, &["serve", "run", "--token", ""], &["--token"]);
    refuses(here, &["serve", "run", "--allowed-host", "https://photos.example"], &["not the name of a host"]);
    // Said before weights are looked for and a folder is made.
    let port = service.port.to_string();
    refuses(
        here,
        &["serve", "--dir", "teach", "--weights", "nosuch/weights", "--port", &port],
        &["in use by another program"],
    );
    assert!(!here.join("teach").exists());
}

#[test]
fn slow_clients_and_too_many_are_sent_away() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    run(here);
    let photo = read(here, "photos/red/3.png");
    let whole = request("POST", "/predict", &[], &photo);
    let begun = |service: &Service| {
        let mut stream = service.connect();
        stream.write_all(&whole[..whole.len() - 10]).unwrap();
        while service.metric("firstsight_queue") < 1.0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        stream
    };
    let service = Service::start(here, &["run", "--timeout", "1.5"]);
    let mut slow = begun(&service);
    Answer::read(&mut slow).unwrap().refused(408, &["bytes until then"]);
    // A head that doesn't end, and a connection that says nothing.
    for start in [&b"POST /predict HTTP/1.1\r\nHost:"[..], b""] {
        let mut silent = service.connect();
        silent.write_all(start).unwrap();
        let mut rest = Vec::new();
        silent.read_to_end(&mut rest).unwrap();
        assert!(!common::text(&rest).starts_with("HTTP/1.1 5"), "{}", common::text(&rest));
    }
    drop(service);

    let service = Service::start(here, &["run", "--queue", "1"]);
    let mut waiting = begun(&service);
    let full = service.predict("image/png", &photo);
    full.refused(503, &["at most 1"]);
    assert!(full.head.contains("retry-after: 1"), "{}", full.head);
    waiting.write_all(&whole[whole.len() - 10..]).unwrap();
    assert_eq!(Answer::read(&mut waiting).unwrap().status, 200);
    assert_eq!(service.predict("image/png", &photo).status, 200);
    drop(service);

    let service = Service::start(here, &["run", "--connections", "2"]);
    let mut open = [service.connect(), service.connect()];
    for stream in &mut open {
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(Answer::read(stream).unwrap().status, 200);
    }
    service.predict("image/png", &photo).refused(503, &["at most 2 connections"]);
    drop(open);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(service.predict("image/png", &photo).status, 200);
}

#[test]
fn an_image_that_takes_long_to_decode_is_given_up_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    run(here);
    let mut photo = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(9000, 9000).write_to(&mut photo, image::ImageFormat::Png).unwrap();
    let photo = photo.into_inner();
    let taken = |service: &Service, path: &str| {
        let started = std::time::Instant::now();
        let answer = service.ask("POST", path, &["Content-Type: image/png"], &photo);
        (answer, started.elapsed())
    };
    let service = Service::start(here, &["run"]);
    let (answer, whole) = taken(&service, "/api/evidence?class=0");
    assert_eq!(answer.status, 200, "{}", answer.text());
    drop(service);
    let timeout = (whole.as_secs_f64() / 10.0).to_string();
    let service = Service::start(here, &["run", "--timeout", &timeout]);
    for path in ["/api/evidence?class=0", "/predict"] {
        let (answer, taken) = taken(&service, path);
        println!("{path}: {taken:?} of {whole:?}");
        answer.refused(503, &["took too long"]);
        assert!(taken < whole * 6 / 10, "{path}: {taken:?} of {whole:?}");
    }
}

#[test]
fn options_stand_under_their_headings() {
    let folder = tempfile::tempdir().unwrap();
    let help = succeeds(folder.path(), &["serve", "--help"]);
    let place = |text: &str| help.find(text).unwrap_or_else(|| panic!("no {text} in {help}"));
    for option in ["--host ", "--port ", "--token ", "--top "] {
        assert!(place(option) < place("Teaching:"), "{option}: {help}");
    }
    assert!(place("--backbone ") > place("Teaching:") && place("--queue ") > place("Limits:"), "{help}");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_after_what_is_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    run(here);
    let photo = read(here, "photos/red/3.png");
    for signal in ["-INT", "-TERM"] {
        let mut service = Service::start(here, &["run"]);
        let _idle = service.connect();
        let whole = request("POST", "/predict", &[], &photo);
        let mut stream = service.connect();
        stream.write_all(&whole[..whole.len() - 10]).unwrap();
        while service.metric("firstsight_queue") < 1.0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        service.signal(signal);
        while TcpStream::connect(("127.0.0.1", service.port)).is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
        stream.write_all(&whole[whole.len() - 10..]).unwrap();
        assert_eq!(Answer::read(&mut stream).unwrap().status, 200);
        assert_eq!(service.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_service_that_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    refuses(here, &["serve", "run", "--port", "0"], &["run"]);
    run(here);
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    refuses(here, &["serve", "run", "--port", &port], &[&port, "in use", "--port 0"]);
    refuses(here, &["serve", "run", "--host", "no such host", "--port", "0"], &["no such host"]);
    refuses(here, &["serve", "run", "--queue", "0"], &["--queue"]);
    for (flag, value, expected) in [
        ("--queue", "9223372036854775807", "at most"),
        ("--connections", "9223372036854775807", "at most"),
        ("--timeout", "1e19", "at most 31536000 seconds"),
        ("--timeout", "1e-12", "above 0"),
        ("--max-body", "0", "above 0"),
        ("--max-decoding", "0", "above 0"),
    ] {
        refuses(here, &["serve", "run", "--port", "0", flag, value], &[flag, expected]);
    }
    refuses(here, &["serve", "run", "--dir", "session"], &["--dir is for teaching", "run is a run"]);
}

#[test]
fn the_openapi_document_tells_of_every_path() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    run(here);
    let service = Service::start(here, &["run"]);
    let document = service.ask("GET", "/openapi.json", &[], b"").json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let paths = document["paths"].as_object().unwrap();
    let expected = |path: &str| match path {
        "/predict" | "/api/evidence" => 400,
        "/health" | "/metrics" | "/openapi.json" | "/api/state" => 200,
        // What teaches is not there.
        _ => 404,
    };
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            let status = service.ask(&method.to_uppercase(), path, &[], b"").status;
            assert_eq!(status, expected(path), "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let name = response["$ref"].as_str().and_then(|name| name.rsplit_once('/'));
                let is_known =
                    name.is_none_or(|(_, name)| document["components"]["responses"][name].is_object());
                assert!(is_known, "{path} {status}");
            }
        }
    }
}

/// A small generator of numbers (Steele, Lea and Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// A request with a few bytes changed, removed, doubled or put in from elsewhere.
fn mutated(mut request: Vec<u8>, random: &mut SplitMix) -> Vec<u8> {
    const PIECES: [&[u8]; 8] = [
        b"\r\n",
        b"\r\n\r\n",
        b"--x",
        b"\0",
        b"Content-Length: 9999999999\r\n",
        b"\xff\xd8\xff",
        b"%00",
        b"=\"",
    ];
    for _ in 0..1 + random.below(4) {
        // The head is as often hit as the body.
        let head =
            request.windows(4).position(|four| four == b"\r\n\r\n").map_or(request.len(), |end| end + 4);
        let range = if random.below(2) == 0 { head } else { request.len() };
        let at = random.below(range.max(1)).min(request.len().saturating_sub(1));
        match random.below(4) {
            0 if !request.is_empty() => request[at] = random.below(256) as u8,
            1 => {
                let end = (at + 1 + random.below(30)).min(request.len());
                request.drain(at..end);
            }
            2 => {
                let end = (at + 1 + random.below(60)).min(request.len());
                let piece = request[at..end].to_vec();
                request.splice(at..at, piece);
            }
            _ => {
                let piece = PIECES[random.below(PIECES.len())];
                request.splice(at..at, piece.iter().copied());
            }
        }
    }
    request
}

#[test]
fn malformed_requests_end_in_refusals_and_take_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    run(here);
    let photo = read(here, "photos/red/3.png");
    let kind = format!("Content-Type: {FORM}");
    let sound = [
        request("POST", "/predict?top=2", &[&kind], &form(&[("1.png", &photo[..]), ("2.png", &photo[..])])),
        request("POST", "/predict", &["Content-Type: image/png"], &photo),
        request("GET", "/metrics", &[], b""),
    ];
    let service = Service::start(here, &["run", "--timeout", "1"]);
    let statuses = std::sync::Mutex::new(std::collections::BTreeMap::<u16, usize>::new());
    let send = |seed: u64, n: usize| {
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let (service, sound, statuses) = (&service, &sound, &statuses);
                scope.spawn(move || {
                    let mut random = SplitMix(seed + thread);
                    for i in 0..n / 16 {
                        let request = mutated(sound[i % 3].clone(), &mut random);
                        // 0 where the connection was closed without an answer.
                        let status = service.raw(&request).map_or(0, |answer| answer.status);
                        *statuses.lock().unwrap().entry(status).or_default() += 1;
                    }
                });
            }
        });
    };
    send(1, 500);
    let before = service.memory();
    send(100, 1600);
    let after = service.memory();
    let statuses = statuses.into_inner().unwrap();
    println!("{statuses:?}; {} MB of memory, then {} MB", before / 1_000_000, after / 1_000_000);
    assert!(statuses.keys().all(|status| *status < 500 || *status == 503), "{statuses:?}");
    assert!([200, 400, 422].iter().all(|status| statuses.contains_key(status)), "{statuses:?}");
    assert!(after < before + 20_000_000, "{before} {after}");
    assert_eq!(service.predict("image/png", &photo).status, 200);
}
