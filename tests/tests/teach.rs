//! `serve` as a page that teaches: what a person does in a browser, and what the files are afterwards.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use common::browser::Browser;
use common::service::{Service, assert_near};
use common::{cli, photos, refused, refuses, succeeds, text, weights};

const TEACH: [&str; 6] = ["--dir", "session", "--backbone", "mobilenet-v2", "--weights", "weights"];

/// Made-up photos and a network with random weights.
fn scene(here: &Path) -> Vec<PathBuf> {
    photos(here, 14);
    weights(here, "mobilenetv2_100");
    let photo = |i: u32| here.join(format!("photos/{}/{}.png", ["blue", "red"][i as usize % 2], i / 2));
    (0..28).map(photo).collect()
}

/// What the command line says of a photo, by a run.
fn predict(here: &Path, run: &Path, photo: &Path) -> Value {
    let (run, photo) = (run.to_str().unwrap(), photo.to_str().unwrap());
    let said = succeeds(here, &["predict", "--run", run, "--json", "--reject=0.95", photo]);
    serde_json::from_str::<Value>(&said).unwrap()[0].clone()
}

/// The page's bars: name and percent.
fn bars(browser: &mut Browser) -> Vec<(String, String)> {
    let found = browser.eval(
        "[...document.querySelectorAll('#bars li')].map((bar) => ['name', 'percent'].map((part) => \
         bar.querySelector('.' + part).textContent))",
    );
    let text = |bar: &Value, i: usize| bar[i].as_str().unwrap().to_owned();
    found.as_array().unwrap().iter().map(|bar| (text(bar, 0), text(bar, 1))).collect()
}

#[test]
fn a_person_teaches_two_classes_and_tries_them() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let photos = scene(here);
    let Some(mut browser) = Browser::start(here) else { return };
    let service = Service::start(here, &TEACH);
    browser.screen(1280, 900, "light");
    browser.open(&format!("http://127.0.0.1:{}/", service.port));
    browser.wait("!document.getElementById('teach').hidden");
    browser.picture("1-empty");

    // Two classes, by the keyboard alone.
    for name in ["blue", "red"] {
        browser.eval("document.getElementById('class-name').focus()");
        browser.type_text(name);
        browser.press("Enter");
        browser.wait(&format!("document.querySelector('[data-name={name}]') !== null"));
    }
    assert_eq!(browser.eval("document.getElementById('start').disabled"), true);
    // Photos: chosen, dropped, and pasted into the class that was used last.
    let of = |class: usize| photos.iter().skip(class).step_by(2).take(12).cloned().collect::<Vec<_>>();
    browser.choose("[data-name=blue] .files", &of(0));
    browser.wait("document.querySelectorAll('[data-name=blue] li').length === 12");
    browser.choose("[data-name=red] .files", &of(1));
    browser.wait("document.querySelectorAll('[data-name=red] li').length === 12");
    let transfer = "const canvas = document.createElement('canvas'); canvas.width = canvas.height = 40; \
        const context = canvas.getContext('2d'); context.fillStyle = '#c01020'; context.fillRect(0, 0, 40, 40); \
        const blob = await new Promise((done) => canvas.toBlob(done)); const data = new DataTransfer(); \
        data.items.add(new File([blob], 'a photo.png', {type: 'image/png'}));";
    for (event, n) in [
        ("new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})", 13),
        ("new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true})", 14),
    ] {
        browser.eval("document.querySelector('[data-name=red] .rename').focus()");
        browser.eval(&format!(
            "(async () => {{ {transfer} document.querySelector('[data-name=red]').dispatchEvent({event}); }})()"
        ));
        browser.wait(&format!("document.querySelectorAll('[data-name=red] li').length === {n}"));
    }
    // Both are the same photo; one goes again.
    browser.click("[data-photo='a photo-2.png'] button");
    browser.wait("document.querySelectorAll('[data-name=red] li').length === 13");
    assert!(here.join("session/removed/red/a photo-2.png").exists());
    // What is no photo is refused, and the class can be renamed.
    let notes = ["notes.png", "more.png"].map(|name| here.join(name));
    notes.iter().for_each(|path| std::fs::write(path, "text").unwrap());
    browser.choose("[data-name=red] .files", &notes);
    let said = "document.getElementById('said').textContent";
    browser.wait(&format!(
        "{said}.includes('2 of 2 were not taken') && {said}.includes('notes.png') && {said}.includes('more.png')"
    ));
    browser.click("[data-name=red] .rename");
    browser.type_text("deep red");
    browser.press("Enter");
    browser.wait("document.querySelector('[data-name=\"deep red\"]') !== null");
    assert!(here.join("session/photos/deep red/a photo.png").exists());
    // A photo in the wrong class, to be found.
    browser.choose("[data-name=blue] .files", &photos[27..28]);
    browser.wait("document.querySelectorAll('[data-name=blue] li').length === 13");

    // A third class from the camera, and away with it.
    browser.eval("document.getElementById('class-name').focus()");
    browser.type_text("camera");
    browser.press("Enter");
    browser.wait("document.querySelector('[data-name=camera]') !== null");
    browser.click("[data-name=camera] .camera");
    browser.wait("document.querySelector('[data-name=camera] video').videoWidth > 0");
    browser.picture("2-camera");
    browser.click("[data-name=camera] .burst");
    browser.wait("document.querySelectorAll('[data-name=camera] li').length === 10");
    browser.wait("[...document.querySelectorAll('[data-name=camera] img')].every((image) => image.complete)");
    browser.eval("window.confirm = () => true");
    browser.click("[data-name=camera] .remove");
    browser.wait("document.querySelector('[data-name=camera]') === null");
    assert_eq!(std::fs::read_dir(here.join("session/removed/camera")).unwrap().count(), 10);

    browser.click("#start");
    browser.wait("document.getElementById('said').textContent.startsWith('Trained in')");
    let said = browser.eval("document.getElementById('accuracy').textContent");
    assert!(said.as_str().unwrap().contains("that it was not trained on are right"), "{said}");
    assert_eq!(browser.eval("document.querySelectorAll('#confusion td.right').length"), 2);
    let first = "document.querySelector('[data-name=blue] li')";
    assert_eq!(browser.eval(&format!("{first}.classList.contains('suspect')")), true);
    assert_eq!(browser.eval(&format!("{first}.querySelector('.looks').textContent")), "deep red?");

    browser.picture("3-suspicious");
    browser.click("[data-name=blue] li.suspect button");
    browser.wait("document.querySelectorAll('[data-name=blue] li').length === 12");
    browser.click("#start");
    browser.wait("document.getElementById('run-name').textContent === 'run-2'");

    // Photos that it has not seen, with the command line's bars.
    let run = here.join("session/run-2");
    for (photo, class) in [(&photos[24], "blue"), (&photos[25], "deep red")] {
        browser.choose("#photo", std::slice::from_ref(photo));
        browser.wait(&format!("document.getElementById('verdict').textContent === '{class}'"));
        let said = predict(here, &run, photo);
        assert_eq!(said["predictions"][0]["label"], class);
        for (name, percent) in bars(&mut browser) {
            let all = said["predictions"].as_array().unwrap();
            let found = all.iter().find(|guess| guess["label"] == name.as_str()).unwrap();
            let ours: f64 = percent.trim_end_matches(" %").parse().unwrap();
            assert!(
                (ours / 100.0 - found["probability"].as_f64().unwrap()).abs() < 0.006,
                "{name} {percent} {said}"
            );
        }
    }
    browser.click("#evidence");
    browser.choose("#photo", &photos[24..25]);
    browser.wait(
        "(() => { const heat = document.getElementById('heat'); return heat.width > 0 && \
         heat.getContext('2d').getImageData(0, 0, heat.width, heat.height).data.some((byte) => byte > 100); })()",
    );
    browser.picture("4-taught-light");
    browser.screen(1280, 900, "dark");
    browser.picture("4-taught-dark");
    browser.screen(390, 844, "light");
    assert_eq!(browser.eval("document.documentElement.scrollWidth <= 390"), true);
    browser.picture("4-taught-phone");
    browser.screen(390, 844, "dark");
    browser.picture("4-taught-phone-dark");
    browser.screen(1280, 900, "light");

    // The camera, live.
    browser.eval("document.getElementById('bars').replaceChildren()");
    browser.click("#live");
    browser.wait("document.querySelectorAll('#bars li').length === 2");
    // What the fake camera shows is far from both.
    browser.wait("document.getElementById('verdict').textContent.startsWith('none of these')");
    browser.picture("5-live");
    browser.click("#live");
    browser.wait("document.getElementById('video').hidden");

    // The exported run is the one of the session.
    let mut downloaded = |button: &str, name: &str| {
        browser.click(button);
        let (file, started) = (here.join("downloads").join(name), std::time::Instant::now());
        while !file.exists() {
            assert!(started.elapsed().as_secs() < 20, "{name} was not downloaded");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        file
    };
    let file = downloaded("#zip", "run-2.zip");
    let onnx = downloaded("#onnx", "run-2.onnx");
    succeeds(here, &["export", "--check", onnx.to_str().unwrap()]);
    zip::ZipArchive::new(std::fs::File::open(&file).unwrap())
        .unwrap()
        .extract(here.join("unzipped"))
        .unwrap();
    for photo in &photos[24..28] {
        assert_near(&predict(here, &here.join("unzipped/run-2"), photo), &predict(here, &run, photo));
    }
    // What the page has taught, the command line goes on with.
    succeeds(here, &["evaluate", "session/run-2", "session/photos", "--split", "val"]);

    let nameless = browser.nameless();
    assert!(nameless.is_empty(), "controls without a name: {nameless:?}");
    // Every control is reached by Tab.
    browser.eval("document.activeElement.blur()");
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..80 {
        browser.press("Tab");
        let id = browser.eval("document.activeElement.id || document.activeElement.className");
        reached.insert(id.as_str().unwrap().to_owned());
    }
    for id in [
        "class-name",
        "rename",
        "remove",
        "files",
        "folder",
        "camera",
        "start",
        "deeper",
        "zip",
        "onnx",
        "report",
        "live",
    ] {
        assert!(reached.contains(id), "{id} is not reached: {reached:?}");
    }
    let complaints: Vec<&String> =
        browser.complaints.iter().filter(|complaint| !complaint.contains("422")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn a_run_is_tried_by_those_who_have_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let photos = scene(here);
    let Some(mut browser) = Browser::start(here) else { return };
    let service = Service::start(here, &["weights", "--token", "a token"]);
    browser.open(&format!("http://localhost:{}/", service.port));
    browser.wait("document.getElementById('said').textContent.includes('needs its token')");
    browser.open("about:blank");
    browser.open(&format!("http://localhost:{}/#token=a%20token", service.port));
    browser.wait("document.getElementById('subtitle').textContent.startsWith('Answers with mobilenet-v2')");
    assert_eq!(browser.eval("location.hash"), "");
    assert_eq!(browser.eval("document.getElementById('teach').hidden"), true);
    browser.screen(1280, 900, "light");
    browser.choose("#photo", &photos[..1]);
    browser.wait("document.querySelectorAll('#bars li').length === 10");
    let said = succeeds(here, &["predict", "--run", "weights", "--json", photos[0].to_str().unwrap()]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        browser.eval("document.getElementById('verdict').textContent"),
        said[0]["predictions"][0]["label"]
    );
    browser.picture("6-run");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_training_too() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here);
    let mut service = Service::start(here, &[&["photos"][..], &TEACH].concat());
    let asked = service.ask("POST", "/api/train", &[], br#"{"preset": "thorough"}"#);
    assert_eq!(asked.status, 202);
    while !service.ask("GET", "/api/state", &[], b"").text().contains("epoch") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    service.signal("-INT");
    assert_eq!(service.child.wait().unwrap().code(), Some(0));
    // What it had by then is a run.
    succeeds(here, &["predict", "--run", "session/run-1", "photos/red/1.png"]);
}

#[test]
fn a_session_is_opened_again_and_folders_are_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let photos = scene(here);
    let photo = std::fs::read(&photos[0]).unwrap();
    let service = Service::start(here, &[&["photos"][..], &TEACH].concat());
    let ask = |service: &Service, method: &str, path: &str, body: &str| {
        service.ask(method, path, &[], body.as_bytes())
    };
    let classes = ask(&service, "GET", "/api/classes", "").json();
    assert_eq!((&classes[0]["name"], classes[1]["photos"].as_array().unwrap().len()), (&"blue".into(), 14));
    // There is nothing to say yet.
    service.predict("image/png", &photo).refused(409, &["no network yet"]);
    ask(&service, "GET", "/api/run.zip", "").refused(404, &["no run yet"]);
    assert_eq!(ask(&service, "GET", "/health", "").json()["network"], Value::Null);
    assert_eq!(ask(&service, "POST", "/api/train", r#"{"preset": "quick"}"#).status, 202);
    ask(&service, "POST", "/api/train", r#"{"preset": "quick"}"#).refused(409, &["runs already"]);
    let wait = |service: &Service| loop {
        let state = ask(service, "GET", "/api/state", "").json();
        if state["training"]["state"] != "running" {
            return state;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let state = wait(&service);
    assert_eq!(state["training"]["state"], "done", "{state}");
    assert!(!state.to_string().contains(here.to_str().unwrap()), "{state}");
    let answer = service.predict("image/png", &photo).json();
    // Fine-tuning goes on to the blocks, and stops when it is asked to; what it has by then is a run.
    assert_eq!(ask(&service, "POST", "/api/train", r#"{"preset": "standard"}"#).status, 202);
    while !ask(&service, "GET", "/api/state", "").text().contains("epoch") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(ask(&service, "POST", "/api/stop", "").status, 200);
    let state = wait(&service);
    assert_eq!(
        (&state["training"]["state"], &state["run"]["name"]),
        (&"done".into(), &"run-2".into()),
        "{state}"
    );
    std::fs::remove_dir_all(here.join("session/run-2")).unwrap();
    drop(service);

    // The last run answers again.
    let service = Service::start(here, &TEACH);
    let state = ask(&service, "GET", "/api/state", "").json();
    assert_eq!((&state["run"]["name"], &state["run"]["labels"]), (&"run-1".into(), &json!(["blue", "red"])));
    assert_near(&service.predict("image/png", &photo).json(), &answer);
    assert_eq!(ask(&service, "GET", "/api/classes", "").json(), json!([]));

    // Refusals of the page's own requests.
    ask(&service, "POST", "/api/train", r#"{"preset": "quick"}"#)
        .refused(409, &["two classes or more", "0 classes"]);
    ask(&service, "POST", "/api/train", r#"{"preset": "long"}"#)
        .refused(400, &["quick, standard or thorough"]);
    ask(&service, "POST", "/api/classes", r#"{"name": ".."}"#).refused(400, &["no name for a folder"]);
    ask(&service, "POST", "/api/classes", "ants").refused(400, &["name"]);
    assert_eq!(ask(&service, "POST", "/api/classes", r#"{"name": "a/nt"}"#).json(), json!({"name": "a_nt"}));
    ask(&service, "POST", "/api/classes", r#"{"name": "A_NT"}"#).refused(409, &["name already"]);
    for (old, new) in [("a_nt", "A_NT"), ("A_NT", "a_nt")] {
        let body = json!({ "name": new });
        let renamed = ask(&service, "PATCH", &format!("/api/classes/{old}"), &body.to_string());
        assert_eq!(renamed.json(), body);
    }
    ask(&service, "POST", "/api/classes/a_nt/photos?name=1.png", "text").refused(422, &["1.png"]);
    ask(&service, "GET", "/api/classes/a_nt/photos/..%2f..%2f..%2fphotos%2fblue%2f0.png", "")
        .refused(404, &["no photo"]);
    ask(&service, "GET", "/api/classes/..%2fphotos/photos/0.png", "").refused(404, &["no class"]);
    ask(&service, "DELETE", "/api/classes/..", "").refused(404, &["no class"]);
    ask(&service, "PUT", "/api/classes", "").refused(405, &["GET, POST"]);
    let sent = service.ask("POST", "/api/classes/a_nt/photos?name=..%2f..%2fa.png", &[], &photo);
    assert_eq!(sent.json(), json!({"photo": "_.._a.png"}));
    let thumbnail = ask(&service, "GET", "/api/classes/a_nt/photos/_.._a.png", "");
    let shown = image::load_from_memory(&thumbnail.body).unwrap();
    assert_eq!((shown.width(), shown.height()), (160, 160));
    // The OpenAPI document has the methods of every path, and what the page's requests are answered.
    let document = ask(&service, "GET", "/openapi.json", "").json();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let real = path.replace("{class}", "a_nt").replace("{photo}", "_.._a.png");
        let refused = ask(&service, "PUT", &real, "");
        let allowed = refused.head.lines().find_map(|line| line.strip_prefix("allow: ")).unwrap_or("");
        let allowed: BTreeSet<&str> = allowed.split(", ").filter(|method| *method != "HEAD").collect();
        let methods = methods.as_object().unwrap().keys().map(|method| method.to_uppercase());
        let methods: Vec<String> = methods.collect();
        assert_eq!(allowed, methods.iter().map(String::as_str).collect(), "{path}");
    }
    let map = service.ask("POST", "/api/evidence?class=1", &[], &photo).json();
    assert_eq!(map["size"], json!([32, 32]));
    service.ask("POST", "/api/evidence?class=2", &[], &photo).refused(400, &["class=0 to class=1"]);
    drop(service);

    // Another session begins with a run that is there.
    let elsewhere = ["photos", "--dir", "other", "--weights", "weights", "--begin-with", "session/run-1"];
    let service = Service::start(here, &elsewhere);
    assert_eq!(ask(&service, "GET", "/api/state", "").json()["run"]["name"], "run-1");
    assert_near(&service.predict("image/png", &photo).json(), &answer);
    drop(service);
    let none = ["serve", "photos", "--dir", "other", "--weights", "weights", "--begin-with", "photos"];
    refuses(here, &none, &["photos", "config.json"]);

    // Splits are none of its folders.
    for split in ["train", "val"] {
        for class in ["a", "b"] {
            std::fs::create_dir_all(here.join("split").join(split).join(class)).unwrap();
            let pixel = |x: u32, y: u32| Rgb([x as u8, y as u8, 0]);
            RgbImage::from_fn(8, 8, pixel).save(here.join(format!("split/{split}/{class}/1.png"))).unwrap();
        }
    }
    let inside = ["serve", "photos", "--dir", "photos/session", "--weights", "weights"];
    refuses(here, &inside, &["photos/session", "would be a class"]);
    for (flag, value, words) in [
        ("--max-pixels", "5000", &["--max-pixels is for a run"][..]),
        ("--seed", "4294967296", &["less than 2^32", "4294967296"]),
    ] {
        refuses(here, &[&["serve", "photos", flag, value][..], &TEACH].concat(), words);
    }
    std::fs::create_dir(here.join("empty")).unwrap();
    let empty = cli(here, &["serve", "empty", "--weights", "weights"]);
    refused(&empty, &["expected one folder of images per class in empty, found"]);
    assert!(!text(&empty.stderr).contains("found expected"), "{}", text(&empty.stderr));
    assert!(!here.join("photos/session").exists());
    refuses(
        here,
        &[&["serve", "split"][..], &TEACH].concat(),
        &["split", "one folder of images for each class"],
    );
}
