//! The memory that decoding takes, counted, beside what `decoding_memory` says of the header.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use firstsight_data::{DecodeSettings, Reading, decode_bytes, decoding_memory};
use image::{DynamicImage, ImageFormat};
use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress, compress_progressive};
use tiff::encoder::{TiffEncoder, colortype};

type Tiff<'a> = TiffEncoder<&'a mut Cursor<Vec<u8>>>;

const WIDTH: usize = 1200;
const HEIGHT: usize = 1000;

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

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
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

/// A file of each kind that encoders are at hand for.
fn files() -> Vec<(String, Vec<u8>)> {
    let (width, height) = (WIDTH as u32, HEIGHT as u32);
    let color =
        |x: u32, y: u32| image::Rgba([(3 * x + y) as u8, (x ^ y) as u8, (y / 5) as u8, (x + y) as u8]);
    let rgba = DynamicImage::from(image::RgbaImage::from_fn(width, height, color));
    let kinds = [
        DynamicImage::from(rgba.to_luma8()),
        rgba.to_luma_alpha8().into(),
        rgba.to_rgb8().into(),
        rgba.to_luma16().into(),
        rgba.to_luma_alpha16().into(),
        rgba.to_rgb16().into(),
        rgba.to_rgba16().into(),
        rgba.clone(),
    ];
    let mut files = Vec::new();
    for picture in &kinds {
        for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Gif] {
            let mut bytes = Cursor::new(Vec::new());
            // Not every format takes every kind.
            if picture.write_to(&mut bytes, format).is_ok() {
                files.push((format!("{format:?} of {:?}", picture.color()), bytes.into_inner()));
            }
        }
    }
    let rgb = rgba.to_rgb8().into_raw();
    for subsampling in [Subsampling::S420, Subsampling::S444] {
        for (name, compress) in
            [("baseline", compress as fn(_, _, _, _, _, _) -> _), ("progressive", compress_progressive)]
        {
            let bytes = compress(&rgb, WIDTH, HEIGHT, PixelFormat::Rgb, 90, subsampling).unwrap();
            files.push((format!("{name} JPEG of {subsampling:?}"), bytes));
        }
    }
    let mut tiff = |name: &str, write: &dyn Fn(&mut Tiff<'_>)| {
        let mut bytes = Cursor::new(Vec::new());
        write(&mut TiffEncoder::new(&mut bytes).unwrap());
        files.push((format!("TIFF of {name}"), bytes.into_inner()));
    };
    let (four, wide) = (rgba.to_rgba8().into_raw(), rgba.to_rgba16().into_raw());
    tiff("RGB", &|to| to.write_image::<colortype::RGB8>(width, height, &rgb).unwrap());
    tiff("CMYK", &|to| to.write_image::<colortype::CMYK8>(width, height, &four).unwrap());
    tiff("RGBA of 16 bits", &|to| to.write_image::<colortype::RGBA16>(width, height, &wide).unwrap());
    let text: Vec<String> = rgb.iter().map(u8::to_string).collect();
    files.push(("PPM".to_owned(), [format!("P6 {WIDTH} {HEIGHT} 255\n").as_bytes(), &rgb].concat()));
    files.push(("plain PPM".to_owned(), format!("P3 {WIDTH} {HEIGHT} 255\n{}", text.join(" ")).into_bytes()));
    files
}

#[test]
fn decoding_takes_what_is_said_at_most_and_a_fifth_at_least() {
    let settings = DecodeSettings { reading: Reading::viewer(), ..DecodeSettings::rgb(32, 32) };
    let files = files();
    assert!(files.len() > 15, "{}", files.len());
    let mut wrong = Vec::new();
    for (name, bytes) in &files {
        let path = Path::new(name);
        let said = decoding_memory(path, bytes, &settings).unwrap() as f64;
        let held = HELD.load(SeqCst);
        PEAK.store(held, SeqCst);
        decode_bytes(path, bytes, &settings).unwrap();
        let peak = (PEAK.load(SeqCst) - held) as f64;
        let per_pixel = |bytes: f64| bytes / (WIDTH * HEIGHT) as f64;
        let line = format!("{name}: {:.2} of {:.2} bytes", per_pixel(peak), per_pixel(said));
        if peak > said || 5.0 * peak < said {
            wrong.push(line);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
