//! What a writer leaves, however it ends.

use std::io;

use firstsight_files::*;

#[test]
fn a_full_disk_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    write_atomically(&path, b"old").unwrap();
    write_atomically_with(&path, |file| {
        file.write_all(&vec![7; 3 << 20])?;
        Err(io::ErrorKind::StorageFull.into())
    })
    .unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    write_atomically_with(&path, |file| file.write_all(b"new")).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
}

#[test]
fn a_folder_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("folder");
    std::fs::create_dir(&path).unwrap();
    write_atomically(&path, b"new").unwrap_err();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// As a process that is killed would leave it at any moment.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_is_replaced_is_there_at_every_moment() {
    use std::sync::atomic::{AtomicBool, Ordering};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digits");
    std::fs::create_dir(&path).unwrap();
    let is_done = AtomicBool::new(false);
    let missing = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut missing = 0;
            while !is_done.load(Ordering::Relaxed) {
                missing += usize::from(!path.exists());
            }
            missing
        });
        for _ in 0..2000 {
            DraftFolder::create(&path).unwrap().commit().unwrap();
        }
        is_done.store(true, Ordering::Relaxed);
        looking.join().unwrap()
    });
    assert_eq!(missing, 0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
