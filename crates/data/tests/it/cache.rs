use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use firstsight_data::{
    Alpha, CacheFolder, ColorMode, Damaged, DecodeOptions, DecodeSettings, Error, Exif, ImageDataset,
    ImageFolder, Interpolation, OnError, Reading, ResizeMode, SixteenBit,
};

use crate::support::{folder, golden, settings};

fn small() -> DecodeSettings {
    settings(8, 6, ColorMode::Rgb)
}

/// Two classes of golden images, one of them unreadable.
fn images() -> tempfile::TempDir {
    let root = folder(&[("a/1.png", 10), ("a/2.png", 20), ("b/1.png", 30)]);
    fs::copy(golden("images/scene.png"), root.path().join("b/2.png")).unwrap();
    fs::copy(golden("images/rgb8.png"), root.path().join("b/3.png")).unwrap();
    root
}

fn decode(root: &Path, settings: &DecodeSettings, cache: Option<&Path>) -> ImageDataset {
    let cache = cache.map(CacheFolder::new);
    let options = DecodeOptions { cache: cache.as_ref(), ..Default::default() };
    ImageDataset::decode_with(&ImageFolder::scan(root).unwrap(), settings, options).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn pixels(decoded: &ImageDataset) -> Vec<Cow<'_, [u8]>> {
    (0..decoded.len()).map(|i| decoded.image(i).unwrap()).collect()
}

fn paths(decoded: &ImageDataset) -> Vec<PathBuf> {
    (0..decoded.len()).map(|i| decoded.path(i).unwrap()).collect()
}

/// A link to nothing has no time by which a cache could know that it leads somewhere now: it is another data set then.
#[cfg(unix)]
#[test]
fn a_broken_link_among_the_images_leaves_the_cache_of_use() {
    let root = images();
    let (link, cache) = (root.path().join("a/9.png"), root.path().join(".cache"));
    std::os::unix::fs::symlink("nowhere.png", &link).unwrap();
    let skipping = DecodeSettings { on_error: OnError::Skip, ..small() };
    assert_eq!(decode(root.path(), &skipping, Some(&cache)).len(), 5);
    assert_eq!(files(&cache).len(), 1);
    fs::copy(root.path().join("a/1.png"), root.path().join("a/nowhere.png")).unwrap();
    assert_eq!(decode(root.path(), &skipping, Some(&cache)).len(), 7);
}

#[test]
fn the_second_run_reads_the_cache_and_not_the_images() {
    let root = images();
    let cache = root.path().join(".cache/deep");
    let first = decode(root.path(), &small(), Some(&cache));
    let [file] = &files(&cache)[..] else { panic!("expected one file") };

    // The same names, sizes and times, and other bytes: nobody looks into them.
    let image = root.path().join("a/1.png");
    let modified = fs::metadata(&image).unwrap().modified().unwrap();
    let length = fs::metadata(&image).unwrap().len() as usize;
    fs::write(&image, vec![0; length]).unwrap();
    fs::File::options().write(true).open(&image).unwrap().set_modified(modified).unwrap();
    let second = decode(root.path(), &small(), Some(&cache));
    assert_eq!(pixels(&first), pixels(&second));
    assert_eq!(
        (first.labels(), first.classes(), paths(&first)),
        (second.labels(), second.classes(), paths(&second))
    );
    assert_eq!(files(&cache), vec![file.clone()]);
}

#[test]
fn every_setting_and_every_file_has_a_cache_of_its_own() {
    let root = images();
    let cache = root.path().join(".cache");
    let reading = |reading| DecodeSettings { reading, ..small() };
    let variants = [
        small(),
        DecodeSettings { height: 6, width: 8, ..small() },
        DecodeSettings { color: ColorMode::Gray, ..small() },
        DecodeSettings { interpolation: Interpolation::Nearest, ..small() },
        DecodeSettings { resize_mode: ResizeMode::CenterCrop, crop_pct: 0.875, ..small() },
        DecodeSettings { crop_pct: 0.875, ..small() },
        DecodeSettings { crop_pct: 0.5, ..small() },
        DecodeSettings { on_error: OnError::Skip, ..small() },
        reading(Reading { max_pixels: 1 << 20, ..Reading::pillow() }),
        reading(Reading { exif: Exif::Apply, ..Reading::pillow() }),
        reading(Reading { sixteen_bit: SixteenBit::Scale, ..Reading::pillow() }),
        reading(Reading { alpha: Alpha::Blend, ..Reading::pillow() }),
        reading(Reading { damaged: Damaged::Accept, ..Reading::pillow() }),
    ];
    for (i, settings) in variants.iter().enumerate() {
        let decoded = decode(root.path(), settings, Some(&cache));
        assert_eq!(pixels(&decoded), pixels(&decode(root.path(), settings, None)));
        assert_eq!(files(&cache).len(), i + 1, "{settings:?}");
    }
    let n = files(&cache).len();
    // Another time, another length, another name.
    let image = root.path().join("a/1.png");
    fs::File::options().write(true).open(&image).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    decode(root.path(), &small(), Some(&cache));
    assert_eq!(files(&cache).len(), n + 1);
    fs::rename(&image, image.with_file_name("0.png")).unwrap();
    decode(root.path(), &small(), Some(&cache));
    assert_eq!(files(&cache).len(), n + 2);
}

#[test]
fn a_damaged_cache_is_made_anew() {
    let root = images();
    let bad = root.path().join("a/3.png");
    fs::write(&bad, "text").unwrap();
    let exclude = DecodeSettings { on_error: OnError::Skip, ..small() };
    let cache = root.path().join(".cache");
    let expected = decode(root.path(), &exclude, Some(&cache));
    let [file] = &files(&cache)[..] else { panic!("expected one file") };
    let whole = fs::read(file).unwrap();

    let mut damaged: Vec<Vec<u8>> =
        [0, 3, 16, 60, 70, whole.len() / 2, whole.len() - 1].map(|n| whole[..n].to_vec()).into();
    damaged.push([&whole[..], b"x"].concat());
    for place in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x40;
        damaged.push(bytes);
    }
    for bytes in damaged {
        // Another file under this name: those that are mapped must not change.
        firstsight_data::files::write_atomically(file, &bytes).unwrap();
        let found = decode(root.path(), &exclude, Some(&cache));
        assert_eq!(pixels(&found), pixels(&expected));
        assert_eq!(found.excluded(), expected.excluded());
        assert_eq!(fs::read(file).unwrap(), whole);
    }
    // And whole, it is read, with what was excluded.
    assert_eq!(decode(root.path(), &exclude, Some(&cache)).excluded(), expected.excluded());
    assert_eq!(expected.excluded()[0].0, bad);
}

#[test]
fn a_cache_without_its_folder_or_a_file_is_empty_there() {
    let root = tempfile::tempdir().unwrap();
    let cache = CacheFolder::new(root.path().join("cache"));
    assert_eq!(cache.files().unwrap(), []);
    assert!(cache.map("a.images").unwrap().is_none());
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(CacheFolder::new(&file).files().is_err() && CacheFolder::new(&file).map("a.images").is_err());
}

#[test]
fn runs_at_the_same_time_share_a_cache() {
    let root = images();
    let cache = root.path().join(".cache");
    let expected = decode(root.path(), &small(), None);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                assert_eq!(pixels(&decode(root.path(), &small(), Some(&cache))), pixels(&expected))
            });
        }
    });
    assert_eq!(files(&cache).len(), 1);
}

#[test]
fn a_cache_that_cannot_be_written_or_read_is_none() {
    let root = images();
    let expected = decode(root.path(), &small(), None);
    // A file instead of a folder also stops root.
    let cache = root.path().join("a/1.png/cache");
    assert_eq!(pixels(&decode(root.path(), &small(), Some(&cache))), pixels(&expected));
    // A folder in the place of the file.
    let cache = root.path().join(".cache");
    decode(root.path(), &small(), Some(&cache));
    let [file] = &files(&cache)[..] else { panic!("expected one file") };
    fs::remove_file(file).unwrap();
    fs::create_dir(file).unwrap();
    assert_eq!(pixels(&decode(root.path(), &small(), Some(&cache))), pixels(&expected));
}

/// On Linux, as root: `mount -t tmpfs -o size=64k none DIR`, then FIRSTSIGHT_FULL_DISK=DIR.
#[test]
#[ignore = "needs FIRSTSIGHT_FULL_DISK, a folder on a file system of at most 64 KiB"]
fn a_full_disk_leaves_nothing_half_written() {
    let Some(disk) = std::env::var_os("FIRSTSIGHT_FULL_DISK") else {
        println!("skipped: FIRSTSIGHT_FULL_DISK is not set");
        return;
    };
    let root = images();
    let cache = Path::new(&disk).join("cache");
    let large = settings(300, 300, ColorMode::Rgb);
    let decoded = decode(root.path(), &large, Some(&cache));
    assert_eq!(pixels(&decoded), pixels(&decode(root.path(), &large, None)));
    assert_eq!(files(&cache), [] as [PathBuf; 0]);
}

#[test]
fn a_cache_with_a_limit_keeps_what_was_used_last() {
    let root = images();
    let cache = CacheFolder::new(root.path().join(".cache")).limit(Some(1800));
    let folder = ImageFolder::scan(root.path()).unwrap();
    // 5 images of 8×6×3 bytes and a header: about 800 bytes each.
    let sizes = [(8, 6), (6, 8), (4, 12)].map(|(height, width)| DecodeSettings { height, width, ..small() });
    let use_now = |settings: &DecodeSettings| {
        let options = DecodeOptions { cache: Some(&cache), ..Default::default() };
        ImageDataset::decode_with(&folder, settings, options).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    let kept_files = || cache.files().unwrap().into_iter().map(|file| file.path).collect::<Vec<_>>();
    use_now(&sizes[0]);
    let first = kept_files();
    use_now(&sizes[1]);
    use_now(&sizes[0]);
    fs::write(cache.path().join("notes.txt"), [0; 5000]).unwrap();
    use_now(&sizes[2]);
    let kept = kept_files();
    assert_eq!((kept.len(), &kept[0]), (2, &first[0]), "the second was not used for the longest time");
    // One that never fits removes nothing.
    use_now(&DecodeSettings { height: 100, width: 100, ..small() });
    assert_eq!(kept_files(), kept);
    assert_eq!(cache.clear().unwrap().0, 2);
    assert_eq!(files(cache.path()), [cache.path().join("notes.txt")], "others' files stay");
}

#[cfg(unix)]
#[test]
fn others_may_read_a_cache_as_far_as_the_umask_lets_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = images();
    let cache = root.path().join(".cache");
    decode(root.path(), &small(), Some(&cache));
    let plain = root.path().join("plain");
    fs::write(&plain, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&files(&cache)[0]), mode(&plain));
}

#[test]
fn more_pixels_than_memory_are_an_error() {
    let root = images();
    let folder = ImageFolder::scan(root.path()).unwrap();
    let large = settings(1 << 20, 1 << 21, ColorMode::Rgb);
    let error = ImageDataset::decode(&folder, &large).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
}

#[test]
fn progress_counts_to_the_number_of_images() {
    let root = images();
    let folder = ImageFolder::scan(root.path()).unwrap();
    let (calls, largest) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let progress = |done, of| {
        assert_eq!(of, 5);
        calls.fetch_add(1, Ordering::Relaxed);
        largest.fetch_max(done, Ordering::Relaxed);
    };
    let cache = CacheFolder::new(root.path().join(".cache"));
    ImageDataset::decode_with(
        &folder,
        &small(),
        DecodeOptions { cache: Some(&cache), progress: Some(&progress), ..Default::default() },
    )
    .unwrap();
    assert_eq!((calls.load(Ordering::Relaxed), largest.load(Ordering::Relaxed)), (5, 5));
    ImageDataset::decode_with(
        &folder,
        &small(),
        DecodeOptions { cache: Some(&cache), progress: Some(&progress), ..Default::default() },
    )
    .unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 6);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let root = images();
    let decode_with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| decode(root.path(), &small(), None))
    };
    assert_eq!(pixels(&decode_with(1)), pixels(&decode_with(5)));
}
