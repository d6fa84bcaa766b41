//! The example of the README.

use std::io::Write as _;
use std::path::Path;

use firstsight_files::{Draft, Lock, Locked, write_atomically};

fn main() -> std::io::Result<()> {
    let folder = Path::new("target/files-example");
    std::fs::create_dir_all(folder)?;
    // Held until the end of main, or of the process, however that ends.
    let Locked::Here(_lock) = Lock::acquire(&folder.join(".lock"))? else {
        return Err(std::io::Error::other("another process writes into this folder"));
    };
    write_atomically(&folder.join("settings.json"), b"{}\n")?;

    // A long file, piece by piece: until `commit`, the old one stays.
    let mut draft = Draft::create(&folder.join("rows.csv"))?;
    for row in 0..1000 {
        writeln!(draft, "{row},{}", row * row)?;
    }
    draft.commit()?;
    Ok(())
}
