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

#[cfg(unix)]
#[test]
fn links_stay_and_what_they_name_is_replaced() {
    use std::os::unix::fs::symlink;

    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("elsewhere/digits/old")).unwrap();
    std::fs::write(at("elsewhere/rows"), "old").unwrap();
    symlink("elsewhere/digits", at("digits")).unwrap();
    symlink(at("elsewhere/rows"), at("first")).unwrap();
    symlink("first", at("second")).unwrap();
    symlink("elsewhere/new", at("third")).unwrap();
    symlink("endless", at("endless")).unwrap();

    let draft = DraftFolder::create(&folder.path().join("digits/")).unwrap();
    std::fs::create_dir(draft.path().join("new")).unwrap();
    draft.commit().unwrap();
    write_atomically(&at("second"), b"new").unwrap();
    write_atomically(&at("third"), b"newer").unwrap();
    write_atomically(&at("endless"), b"").unwrap_err();

    for (name, to) in [("digits", at("elsewhere/digits")), ("second", at("elsewhere/rows"))] {
        assert!(at(name).is_symlink());
        assert_eq!(at(name).canonicalize().unwrap(), to.canonicalize().unwrap());
    }
    assert!(at("digits/new").exists() && !at("digits/old").exists());
    assert_eq!(std::fs::read(at("elsewhere/rows")).unwrap(), b"new");
    assert_eq!(std::fs::read(at("elsewhere/new")).unwrap(), b"newer");
    let count = |name: &str| std::fs::read_dir(at(name)).unwrap().count();
    assert_eq!((count("."), count("elsewhere")), (6, 3));
}
