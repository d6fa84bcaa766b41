//! Loss of power: the steps of a save are recorded, and each beginning of them is played to a disk that may have lost what was not synced.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use firstsight_files::{Draft, Step, observe, write_atomically_with};

#[derive(Clone)]
enum Done {
    Create(PathBuf),
    Write(PathBuf, Vec<u8>),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    SyncFolder,
}

static STEPS: Mutex<Vec<Done>> = Mutex::new(Vec::new());

/// What a disk may hold after a loss of power.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// All that was done is there.
    Nothing,
    /// Bytes and names that were not synced are gone.
    Everything,
    /// Names are as they were last, and the bytes that were not synced are gone.
    Bytes,
    /// Names are as they were last; of the bytes that were not synced there is the first half.
    HalfOfTheBytes,
    /// Names are as they were when the folder was last synced, and all bytes are there.
    Names,
}

const LOSSES: [Loss; 5] = [Loss::Nothing, Loss::Everything, Loss::Bytes, Loss::HalfOfTheBytes, Loss::Names];

/// The content of `path` after these steps and a loss.
fn after(steps: &[Done], path: &Path, old: &[u8], loss: Loss) -> Option<Vec<u8>> {
    // Files by number: all bytes, and how many are synced.
    let mut files = vec![(old.to_vec(), old.len())];
    let mut names = BTreeMap::from([(path.to_owned(), 0)]);
    let mut synced_names = names.clone();
    for step in steps {
        match step {
            Done::Create(name) => {
                names.insert(name.clone(), files.len());
                files.push((Vec::new(), 0));
            }
            Done::Write(name, bytes) => files[names[name]].0.extend(bytes),
            Done::Sync(name) => {
                let file = &mut files[names[name]];
                file.1 = file.0.len();
            }
            Done::Rename(from, to) => {
                let file = names.remove(from).unwrap();
                names.insert(to.clone(), file);
            }
            Done::SyncFolder => synced_names.clone_from(&names),
        }
    }
    let names = if matches!(loss, Loss::Everything | Loss::Names) { synced_names } else { names };
    let (bytes, synced) = &files[*names.get(path)?];
    let kept = match loss {
        Loss::Nothing | Loss::Names => bytes.len(),
        Loss::Everything | Loss::Bytes => *synced,
        Loss::HalfOfTheBytes => synced + (bytes.len() - synced) / 2,
    };
    Some(bytes[..kept].to_vec())
}

#[test]
fn after_a_loss_of_power_there_is_the_old_file_or_the_new_one() {
    observe(|step| {
        let done = match *step {
            Step::Create(path) => Done::Create(path.to_owned()),
            Step::Write(path, bytes) => Done::Write(path.to_owned(), bytes.to_vec()),
            Step::Sync(path) => Done::Sync(path.to_owned()),
            Step::Rename(from, to) => Done::Rename(from.to_owned(), to.to_owned()),
            Step::SyncFolder(_) => Done::SyncFolder,
            other => panic!("a step that this test does not know: {other:?}"),
        };
        STEPS.lock().unwrap().push(done);
        Ok(())
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let old = vec![1; 1000];
    std::fs::write(&path, &old).unwrap();
    let mut new = Vec::new();
    write_atomically_with(&path, |file| {
        for piece in 0..40_u8 {
            let bytes = vec![piece; 100_000];
            file.write_all(&bytes)?;
            new.extend(bytes);
        }
        Ok(())
    })
    .unwrap();
    let mut draft = Draft::create(&path).unwrap();
    draft.write_all(b"a draft that is never committed").unwrap();
    let steps = STEPS.lock().unwrap().clone();
    assert!(steps.len() >= 8, "{} steps", steps.len());
    let (mut states, mut are_new) = (0, 0);
    for n in 0..=steps.len() {
        for loss in LOSSES {
            let found = after(&steps[..n], &path, &old, loss)
                .unwrap_or_else(|| panic!("step {n}, {loss:?}: nothing is there"));
            assert!(found == old || found == new, "step {n}, {loss:?}: {} bytes", found.len());
            states += 1;
            are_new += usize::from(found == new);
        }
    }
    println!("{states} states of {} steps: {are_new} hold the new file, the others the old one", steps.len());
    assert!(are_new > 0 && are_new < states);
    // Once the save has returned, nothing takes it away.
    let saved = steps.iter().position(|step| matches!(step, Done::SyncFolder)).unwrap() + 1;
    for loss in LOSSES {
        assert!(after(&steps[..saved], &path, &old, loss).unwrap() == new, "{loss:?}");
    }
}
