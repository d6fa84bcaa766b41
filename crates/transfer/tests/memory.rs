//! Memory for each image, counted. The images are files of 8 × 8 pixels, no two alike.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use std::sync::{Mutex, PoisonError};

use candle_core::{Device, ModuleT, Tensor};
use firstsight_data::{CacheFolder, DatasetFolder, ImageDataset, Normalize, Reading};
use firstsight_train::Alone;
use firstsight_transfer::check::{DataCheck, Looker};
use firstsight_transfer::{
    ClassMeans, FeatureConfig, FeatureView, Head, HeadConfig, Runtime, SplitConfig, Splits, features,
};

const IMAGES: usize = 20_000;
/// What does not grow with the images: buffers, and tables of the search for near pictures.
const CONSTANT: usize = 1 << 20;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with the bytes counted.
struct Counting;

fn taken(bytes: usize) {
    PEAK.fetch_max(HELD.fetch_add(bytes, SeqCst) + bytes, SeqCst);
}

// SAFETY: the system's allocator does what is promised; counting touches no memory that it gives.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), SeqCst);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Large blocks grow in place, since their pages are moved.
        HELD.fetch_sub(layout.size(), SeqCst);
        taken(size);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Held by the test that counts.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What `work` gives, the bytes that this holds, and those that the work took at its peak.
fn counted<T>(work: impl FnOnce() -> T) -> (T, usize, usize) {
    let before = HELD.load(SeqCst);
    PEAK.store(before, SeqCst);
    let made = work();
    (made, HELD.load(SeqCst) - before, PEAK.load(SeqCst) - before)
}

fn write_images(root: &Path) {
    for class in ["a", "b"] {
        std::fs::create_dir(root.join(class)).unwrap();
    }
    for i in 0..IMAGES as u64 {
        let mut bytes = b"P5 8 8 255\n".to_vec();
        // Numbers without a pattern.
        let mut state = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        for _ in 0..8 {
            state = (state ^ (state >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bytes.extend((state ^ (state >> 27)).to_le_bytes());
        }
        std::fs::write(root.join(["a", "b"][(i % 2) as usize]).join(format!("{i:05}.pgm")), bytes).unwrap();
    }
}

#[test]
fn an_image_takes_some_hundred_bytes() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let root = tempfile::tempdir().unwrap();
    write_images(root.path());
    let runtime = Runtime::new(Device::Cpu);
    let within = |bytes: usize, of_image: usize, what: &str| {
        let found = bytes.saturating_sub(CONSTANT) as f64 / IMAGES as f64;
        assert!(found <= of_image as f64, "{what}: {found} bytes an image, {of_image} expected");
    };

    let config = SplitConfig::stratified(1);
    let (splits, held, _) = counted(|| Splits::scan_with(root.path(), config, &runtime).unwrap());
    within(held + CONSTANT, 100, "splits");
    let (_, held, peak) = counted(|| splits.write_record(&root.path().join("split.csv")).unwrap());
    within(held + CONSTANT, 1, "a record that is written");
    within(peak, 1, "writing a record");
    let (_, held, _) = counted(|| splits.announce(&runtime).unwrap());
    within(held + CONSTANT, 1, "another list of the same images");
    drop(splits);

    let data = DatasetFolder::scan(root.path()).unwrap();
    let check = DataCheck { looker: Looker::None, reading: Reading::viewer(), seed: 1 };
    let (result, held, peak) = counted(|| check.run(&data, &runtime).unwrap());
    assert_eq!((result.images.len(), result.n_broken()), (IMAGES, 0));
    within(held + CONSTANT, 160, "a check's result");
    within(peak, 170, "a check");
}

/// As many features as the widest backbones have, from the brightness of the first pixels.
struct Wide;

impl ModuleT for Wide {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> candle_core::Result<Tensor> {
        let pixels = xs.flatten_from(1)?;
        let copies = vec![&pixels; 2048 / pixels.dim(1)?];
        Tensor::cat(&copies, 1)?.sin()
    }
}

#[test]
fn features_that_a_cache_holds_take_no_memory() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let pixels = (0..IMAGES * 8).map(|i| (i * 37 % 251) as u8 / 2 + u8::from(i / 8 % 2 == 1) * 100).collect();
    let labels = (0..IMAGES as u32).map(|i| i % 2).collect();
    let images = ImageDataset::from_pixels(pixels, (2, 4, 1), labels, vec!["a".into(), "b".into()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cache = CacheFolder::new(folder.path());
    let config = FeatureConfig {
        normalize: Normalize { mean: vec![0.5], std: vec![0.5] },
        views: &[FeatureView::Plain],
        batch_size: 64,
        communicator: &Alone,
        identity: "wide".to_owned(),
    };
    let head = HeadConfig {
        penalties: vec![1e-3, 1e-1],
        folds: 2,
        steps: 10,
        batch_size: 256,
        lr: 0.02,
        balanced: false,
        seed: 1,
    };
    let all = IMAGES * 2048 * size_of::<f32>();
    let work = || {
        let found = features(&Wide, &images, &config, Some(&cache), &Device::Cpu, &mut |_, _| ()).unwrap();
        let head = Head::train(&found, &head, &mut |_, _| ()).unwrap();
        (found.n_images(), ClassMeans::of(&found).unwrap().is_some(), head)
    };
    for from in ["the network", "the cache"] {
        let ((n, has_means, _), _, peak) = counted(work);
        assert_eq!((n, has_means), (IMAGES, true));
        assert!(peak < all / 2, "{peak} bytes for {all} bytes of features from {from}");
    }
}
