//! A few kills at random moments of each command that is to survive them; `cargo xtask torture` kills as often as one likes.
//!
//! `FIRSTSIGHT_KILLS` is the number of kills of each, `FIRSTSIGHT_TORTURE` a part of the names of those that are killed.
#![cfg(unix)]

#[allow(dead_code)]
#[path = "../../crates/hpo/tests/server/mod.rs"]
mod postgresql;
#[path = "../../xtask/src/torture.rs"]
mod torture;

use torture::Torture;

#[test]
fn commands_killed_at_random_leave_what_undisturbed_ones_do() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str| std::env::var(name).ok();
    let kills = of("FIRSTSIGHT_KILLS").map_or(3, |kills| kills.parse().unwrap());
    let seed = of("FIRSTSIGHT_SEED").map_or(1, |seed| seed.parse().unwrap());
    let program = env!("CARGO_BIN_EXE_firstsight-tests").into();
    // Without PostgreSQL's programs this says so.
    let postgresql = postgresql::server().map(|server| server.database());
    let torture = Torture { program, folder: folder.path().to_owned(), kills, seed, postgresql };
    let mut done = 0;
    let filter = of("FIRSTSIGHT_TORTURE").unwrap_or_default();
    let ended = torture.run(&filter, &mut |outcome| {
        let torture::Outcome { task, kills, lives, read } = outcome;
        println!("{task}: {kills} kills in {lives} lives, {read} files read after them");
        done += 1;
    });
    if let Err(error) = ended {
        panic!("{error} ({} is left)", folder.keep().display());
    }
    assert!(done > 0);
}
