//! 2. Convolution, computed by the project's ops and drawn.

use std::path::Path;

use candle_core::{Device, IndexOp as _, Tensor};
use firstsight_models::{Init, Params};
use firstsight_ops::{
    Activation, Conv2dConfig, PadCounting, Padding2d, Pool2dConfig, Rounding, avg_pool2d, conv2d, max_pool2d,
};
use firstsight_report::{
    Column, Figure, Grid, Grids, Image, Picture, Report, Section, Sheet, Table, Tile, number,
};

use super::drawings::{self, sprites};
use super::filters::{FILTERS, NamedFilter, SOBEL};
use super::photo::photo;
use crate::{Context, Result};

/// Height and width that the photo is brought to.
const SIZE: (usize, usize) = (216, 288);

/// Weights of red, green and blue that add up to how yellow a pixel is.
const YELLOW: [f32; 3] = [1.0, 1.0, -1.0];

/// Color of a square of a [`Grid`].
type Rgb = [u8; 3];

pub(super) fn write(photo: Option<&Path>, context: &Context<'_>, report: &mut Report) -> Result<()> {
    let photo = Photo::new(photo, &context.runtime.device)?;
    let section = report.section(Some("2"), "Convolution");
    yellow(section, &photo)?;
    windows(section)?;
    named_filters(section, &photo)?;
    padding_and_stride(section)?;
    channels(section, &photo)?;
    four_over_six(section, &photo, context)?;
    pooling(section, &photo)?;
    output_sizes(section, &photo)
}

/// The picture that the filters go over.
struct Photo {
    /// (1, 3, H, W) f32, bytes 0 to 255.
    rgb: Tensor,
    /// (1, 1, H, W) f32: Rec. 601 luma.
    gray: Tensor,
    source: String,
}

impl Photo {
    fn new(path: Option<&Path>, device: &Device) -> Result<Self> {
        let (drawings::Picture { height, width, pixels }, source) = photo(path, SIZE)?;
        let rgb = tensor(&pixels, (height, width), device)?;
        let gray = filter(&rgb, &[0.299, 0.587, 0.114], (1, 1), &Conv2dConfig::default())?;
        Ok(Self { rgb, gray, source })
    }
}

/// (H, W, 3) bytes as (1, 3, H, W) f32.
fn tensor(pixels: &[u8], (height, width): (usize, usize), device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = pixels.iter().map(|&byte| f32::from(byte)).collect();
    Ok(Tensor::from_vec(values, (1, height, width, 3), device)?.permute((0, 3, 1, 2))?.contiguous()?)
}

/// One filter over all channels of `x`, (1, C, H, W) to (1, 1, oh, ow).
fn filter(x: &Tensor, weights: &[f32], kernel: (usize, usize), config: &Conv2dConfig) -> Result<Tensor> {
    let weight = Tensor::new(weights, x.device())?.reshape((1, x.dim(1)?, kernel.0, kernel.1))?;
    Ok(conv2d(x, &weight, None, config, Activation::Identity)?)
}

/// 3×3 over `x` with the padding that keeps its size.
fn filter_same(x: &Tensor, named: &NamedFilter) -> Result<Tensor> {
    filter(x, &named.kernel(), (3, 3), &same((x.dim(2)?, x.dim(3)?), 1))
}

/// Settings of a 3×3 window with TensorFlow's "same" padding.
fn same(size: (usize, usize), stride: usize) -> Conv2dConfig {
    let stride = (stride, stride);
    Conv2dConfig { stride, padding: Padding2d::same(size, (3, 3), stride, (1, 1)), ..Default::default() }
}

/// Channel `c` of (1, C, H, W) row by row.
fn values(map: &Tensor, c: usize) -> Result<Vec<f32>> {
    Ok(map.i((0, c))?.flatten_all()?.to_vec1()?)
}

/// Channel `c` as a gray picture: `shade` turns a value into the byte that shows it.
fn picture(map: &Tensor, c: usize, shade: impl Fn(f32) -> f32) -> Result<Image> {
    let bytes: Vec<u8> =
        values(map, c)?.into_iter().map(|v| shade(v).round().clamp(0.0, 255.0) as u8).collect();
    Ok(Image::from_pixels(map.dim(2)?, map.dim(3)?, 1, &bytes)?)
}

fn color_picture(rgb: &Tensor) -> Result<Image> {
    let (_, _, height, width) = rgb.dims4()?;
    let values: Vec<f32> = rgb.permute((0, 2, 3, 1))?.flatten_all()?.to_vec1()?;
    let bytes: Vec<u8> = values.into_iter().map(|v| v.round() as u8).collect();
    Ok(Image::from_pixels(height, width, 3, &bytes)?)
}

/// The shade of a value around 0: mid-gray.
fn around_zero(value: f32) -> f32 {
    127.5 + value / 4.0
}

/// `a × b`, which no line end parts.
fn by((rows, columns): (usize, usize)) -> String {
    format!("{rows}\u{a0}×\u{a0}{columns}")
}

/// A whole number without decimals, another with one.
fn short(value: f32) -> String {
    number::decimal(f64::from(value), if value.fract() == 0.0 { 0 } else { 1 })
}

/// Channel `c` of a small map as a grid: orange above 0, blue below, deeper towards `full`.
fn grid(title: &str, map: &Tensor, c: usize, full: f32) -> Result<Grid> {
    const ABOVE: [f32; 3] = [213.0, 94.0, 0.0];
    const BELOW: [f32; 3] = [0.0, 100.0, 168.0];
    let cell = |value: f32| {
        let depth = 0.75 * (value.abs() / full).min(1.0);
        let hue = if value < 0.0 { BELOW } else { ABOVE };
        let color: Rgb = hue.map(|channel| (255.0 + (channel - 255.0) * depth).round() as u8);
        (short(value), color)
    };
    Ok(Grid::new(title, map.dim(3)?, values(map, c)?.into_iter().map(cell))?)
}

fn kernel_grid(title: &str, weights: &[f32]) -> Result<Grid> {
    let kernel = Tensor::new(weights, &Device::Cpu)?.reshape((1, 1, 3, 3))?;
    grid(title, &kernel, 0, 2.0)
}

/// The detector that weighs the three channels of each pixel.
fn yellow(section: &mut Section, photo: &Photo) -> Result<()> {
    section.text(
        "The smallest filter looks at one pixel: it weighs its channels and adds up. With the weights 1, 1 and −1 for red, \
         green and blue, R + G − B is large where there is red and green and no blue, which is yellow.",
    );
    let mut table = Table::new(
        "R + G − B of some colors",
        [
            Column::text("color"),
            Column::number("R"),
            Column::number("G"),
            Column::number("B"),
            Column::number("response"),
        ],
    );
    let colors: [(&str, Rgb); 8] = [
        ("yellow", [255, 255, 0]),
        ("orange", [255, 160, 0]),
        ("white", [255, 255, 255]),
        ("red", [255, 0, 0]),
        ("green", [0, 255, 0]),
        ("gray", [128, 128, 128]),
        ("black", [0, 0, 0]),
        ("blue", [0, 0, 255]),
    ];
    for (name, color) in colors {
        let pixel = tensor(&color, (1, 1), &Device::Cpu)?;
        let response = values(&filter(&pixel, &YELLOW, (1, 1), &Conv2dConfig::default())?, 0)?[0];
        let channels = color.map(|c| u32::from(c).into());
        table.row([name.into()].into_iter().chain(channels).chain([short(response).into()]));
    }
    section.table(table);

    // 510, the response to pure yellow, is shown as white; 0 and below as black.
    let half = |value: f32| value / 2.0;
    let response = filter(&photo.rgb, &YELLOW, (1, 1), &Conv2dConfig::default())?;
    section.figure_row(vec![
        Figure::new(
            Picture::new(color_picture(&photo.rgb)?),
            format!("{} pixels, three channels", by(SIZE)),
            photo.source.clone(),
        ),
        Figure::new(
            Picture::new(picture(&response, 0, half)?),
            "The response of the yellow detector: white is 510, black 0 and below",
            photo.source.clone(),
        ),
    ]);
    let mut tiles = Vec::new();
    for (name, drawings::Picture { height, width, pixels }) in sprites() {
        tiles.push(Tile::new(Image::from_pixels(height, width, 3, &pixels)?, name));
    }
    for (name, drawings::Picture { height, width, pixels }) in sprites() {
        let x = tensor(&pixels, (height, width), photo.rgb.device())?;
        let response = filter(&x, &YELLOW, (1, 1), &Conv2dConfig::default())?;
        let total: f32 = values(&response, 0)?.iter().map(|v| v.max(0.0)).sum();
        let mean = number::decimal(f64::from(total) / (height * width) as f64, 1);
        tiles.push(Tile::new(picture(&response, 0, half)?, name).sublabel(format!("mean {mean}")));
    }
    section.figure(Figure::new(
        Sheet::new(tiles, 4),
        "The four images of section 1 and what the detector makes of them. The mean counts what is below 0 as 0",
        "drawn by this program",
    ));
    Ok(())
}

/// A kernel moving over a small image.
fn windows(section: &mut Section) -> Result<()> {
    section.subsection("A window that moves");
    let [across, _] = SOBEL;
    // The disc's red channel around the corner of its mouth, as 0 and 1.
    let (_, disc) = &sprites()[2];
    let image = (tensor(&disc.pixels, (disc.height, disc.width), &Device::Cpu)? / 255.0)?;
    let image = image.i((.., ..1, 2..8, 6..12))?.contiguous()?;
    let output = filter(&image, &across.kernel(), (3, 3), &Conv2dConfig::default())?;
    section.text(
        "A larger filter weighs a pixel and its neighbors. The kernel is laid on the top left corner of the image, each of \
         its weights is multiplied by the pixel beneath, and the nine products are added: that is the first number of the \
         output. Then it moves one column on, and at the end of a line one row down.",
    );
    section.figure(Figure::new(
        Grids::new([
            grid("image, 6 × 6", &image, 0, 2.0)?,
            kernel_grid("kernel, 3 × 3", &across.weights)?,
            grid("output, 4 × 4", &output, 0, 4.0)?,
        ]),
        "A piece of the disc, Sobel’s filter for vertical edges, and the output: there are 4 · 4 places for a 3 × 3 window \
         in a 6 × 6 image. Going right, + is from dark to light and − from light to dark",
        "the red channel of “disc, right”, 255 as 1",
    ));
    let window = values(&image.i((.., .., ..3, ..3))?.contiguous()?, 0)?;
    let products: Vec<String> = window
        .iter()
        .zip(across.weights)
        .map(|(pixel, weight)| format!("{}·{}", short(*pixel), short(weight)))
        .collect();
    section.pre(
        "The first number of the output",
        &format!("{} = {}", products.join(" + "), short(values(&output, 0)?[0])),
    );
    section.note(
        "Mathematics turns the kernel upside down before it moves it, and calls what is done here **cross-correlation**. \
         Networks learn their weights, so it makes no difference to them, and every framework says convolution.",
    );
    Ok(())
}

fn named_filters(section: &mut Section, photo: &Photo) -> Result<()> {
    section.subsection("Filters with names");
    let mut grids = Vec::new();
    let mut tiles = Vec::new();
    for named in &FILTERS {
        let divided = if named.divisor == 1.0 { String::new() } else { format!(", all / {}", named.divisor) };
        grids.push(kernel_grid(&format!("{}{divided}", named.name), &named.weights)?);
        let output = filter_same(&photo.gray, named)?;
        let shown =
            if named.signed { picture(&output, 0, around_zero)? } else { picture(&output, 0, |v| v)? };
        tiles.push(Tile::new(shown, named.name).sublabel(named.does));
    }
    section.figure(Figure::new(
        Grids::new(grids),
        "The weights. Those of the blurs add up to 1 and keep the brightness; those of the edge filters add up to 0, and \
         an even surface gives 0",
        "",
    ));
    section.figure(Figure::new(
        Sheet::new(tiles, 2),
        "Each filter over the picture in gray, with padding. Where a filter gives numbers below 0, mid-gray is 0",
        photo.source.clone(),
    ));
    Ok(())
}

fn padding_and_stride(section: &mut Section) -> Result<()> {
    section.subsection("Padding");
    section.text(
        "A 3 × 3 window finds no place around the outermost pixels. Without padding (**valid**) the output is two rows and \
         two columns smaller. With a border of zeros around the image (**same**) it keeps its size; but at the border the window \
         sees zeros that are not in the picture.",
    );
    let ones = [1.0; 9];
    let image = Tensor::ones((1, 1, 5, 5), candle_core::DType::F32, &Device::Cpu)?;
    let valid = filter(&image, &ones, (3, 3), &Conv2dConfig::default())?;
    let padded = filter(&image, &ones, (3, 3), &same((5, 5), 1))?;
    section.figure(Figure::new(
        Grids::new([
            grid("image", &image, 0, 9.0)?,
            kernel_grid("kernel", &ones)?,
            grid("valid, 3 × 3", &valid, 0, 9.0)?,
            grid("same, 5 × 5", &padded, 0, 9.0)?,
        ]),
        "How many pixels each window sees: all ones, added up",
        "",
    ));
    section.subsection("Stride");
    section.text(
        "With a **stride** of 2 the window moves two pixels at a time, right and down, and the output has half the rows and \
         half the columns. The identity filter shows which pixels are at a window’s center.",
    );
    let image = Tensor::arange(11f32, 60.0, &Device::Cpu)?.reshape((1, 1, 7, 7))?;
    let mut grids = vec![grid("image, 7 × 7", &image, 0, 60.0)?];
    for stride in 1..=3 {
        let config = Conv2dConfig { stride: (stride, stride), ..Default::default() };
        let output = filter(&image, &FILTERS[0].weights, (3, 3), &config)?;
        let title = format!("stride {stride}, {}", by((output.dim(2)?, output.dim(3)?)));
        grids.push(grid(&title, &output, 0, 60.0)?);
    }
    section.figure(Figure::new(
        Grids::new(grids),
        "The identity filter with strides 1, 2 and 3, without padding",
        "",
    ));
    Ok(())
}

/// One filter over the three channels of a piece of the photo.
fn channels(section: &mut Section, photo: &Photo) -> Result<()> {
    section.subsection("One filter over RGB: 27 weights");
    let [across, _] = SOBEL;
    let weights: Vec<f32> = YELLOW.iter().flat_map(|c| across.weights.map(|w| w * c)).collect();
    let bias = 10.0;
    // Where the response is largest, there is something to see.
    let whole = filter(&photo.rgb, &weights, (3, 3), &Conv2dConfig::default())?;
    let responses = values(&whole, 0)?;
    let best = (0..responses.len()).fold(0, |best, i| if responses[i] > responses[best] { i } else { best });
    let (row, column) = (best / whole.dim(3)?, best % whole.dim(3)?);
    let window = photo.rgb.i((.., .., row..row + 3, column..column + 3))?.contiguous()?;
    section.text(
        "A filter goes through all channels of its input at once. Over a color picture a 3 × 3 filter has 3 · 3 · 3 = **27 \
         weights**, and one bias; the 27 products and the bias are one sum, and the output has one channel. Here is a filter \
         that finds where yellow begins, from left to right: the yellow detector times Sobel’s filter.",
    );
    let names = ["red", "green", "blue"];
    let mut grids = Vec::new();
    for (c, name) in names.iter().enumerate() {
        grids.push(grid(&format!("window, {name}"), &window, c, 255.0)?);
    }
    for (name, slice) in names.iter().zip(weights.chunks(9)) {
        grids.push(kernel_grid(&format!("weights, {name}"), slice)?);
    }
    section.figure(Figure::new(
        Grids::new(grids),
        format!("The window at row {row}, column {column}, where the filter answers most, and the filter’s 27 weights"),
        photo.source.clone(),
    ));
    let mut table =
        Table::new("From 27 products to one number", [Column::text("part"), Column::number("sum")]);
    let mut sum = bias;
    for (c, name) in names.iter().enumerate() {
        let part: f32 = values(&window, c)?.iter().zip(&weights[c * 9..]).map(|(x, w)| x * w).sum();
        sum += part;
        table.row([format!("the nine products of {name}").into(), short(part).into()]);
    }
    table.row(["bias".into(), short(bias).into()]).row(["together".into(), short(sum).into()]);
    let weight = Tensor::new(weights.as_slice(), window.device())?.reshape((1, 3, 3, 3))?;
    let bias = Tensor::new(&[bias], window.device())?;
    let output = conv2d(&window, &weight, Some(&bias), &Conv2dConfig::default(), Activation::Identity)?;
    table.footer(["what conv2d computes".into(), short(values(&output, 0)?[0]).into()]);
    section.table(table);
    Ok(())
}

/// A first layer of six filters, and a second of four over its six channels.
fn four_over_six(section: &mut Section, photo: &Photo, context: &Context<'_>) -> Result<()> {
    section.subsection("Four filters over six channels");
    let (height, width) = SIZE;
    let edges =
        |x: &Tensor| -> Result<Vec<Tensor>> { SOBEL.iter().map(|named| filter_same(x, named)).collect() };
    let yellow = filter(&photo.rgb, &YELLOW, (1, 1), &Conv2dConfig::default())?;
    let mut six: Vec<Tensor> = (0..3).map(|c| photo.rgb.narrow(1, c, 1)).collect::<Result<_, _>>()?;
    six.push(yellow);
    six.extend(edges(&photo.gray)?);
    let x = Tensor::cat(&six, 1)?;
    let names = ["red", "green", "blue", "yellow", "vertical edges", "horizontal edges"];

    let shape = [4, 6, 3, 3];
    let params = Params::seeded(context.settings.seed, &context.runtime.device);
    let weight =
        params.builder().get_with_hints(shape.as_slice(), "four.weight", Init::Keras.weight(&shape))?;
    let bias = Tensor::zeros(4, candle_core::DType::F32, &context.runtime.device)?;
    let y = conv2d(&x, &weight, Some(&bias), &same(SIZE, 1), Activation::Relu)?.detach();
    section.text(&format!(
        "What comes out of one layer is the next one’s input. A layer of several filters gives one channel for each of them. \
         Four filters over six channels have 4 · 6 · 3 · 3 = {} weights and 4 biases, **{} parameters**, whatever the \
         picture’s size: (1, 6, {height}, {width}) becomes (1, 4, {}, {}). The weights here are what such a layer begins its training \
         with, random ones.",
        weight.elem_count(),
        weight.elem_count() + bias.elem_count(),
        y.dim(2)?,
        y.dim(3)?,
    ));
    let mut tiles = Vec::new();
    for (c, name) in names.into_iter().enumerate() {
        let shown = if c < 3 { picture(&x, c, |v| v)? } else { picture(&x, c, around_zero)? };
        tiles.push(Tile::new(shown, name).sublabel(format!("channel {c} of the input")));
    }
    for c in 0..4 {
        let most = values(&y, c)?.into_iter().fold(1e-6, f32::max);
        tiles.push(
            Tile::new(picture(&y, c, |v| 255.0 * v / most)?, format!("filter {c}"))
                .sublabel("output, after ReLU"),
        );
    }
    section.figure(Figure::new(
        Sheet::new(tiles, 3),
        "Six channels in, four out. Of channels with numbers below 0, mid-gray is 0; outputs are shown from 0, black, to \
         their largest, white",
        photo.source.clone(),
    ));
    Ok(())
}

fn pooling(section: &mut Section, photo: &Photo) -> Result<()> {
    section.subsection("Pooling");
    section.text(
        "Pooling makes a map smaller without weights: of each window, the largest number or the mean. Each channel is pooled \
         alone. Windows usually lie side by side; AlexNet’s overlap, 3 × 3 with stride 2.",
    );
    let image = Tensor::new(
        &[
            [1f32, 3., 2., 0., 4.],
            [5., 2., 1., 1., 0.],
            [0., 1., 8., 2., 3.],
            [2., 4., 6., 0., 1.],
            [7., 0., 1., 3., 2.],
        ],
        &Device::Cpu,
    )?
    .reshape((1, 1, 5, 5))?;
    let four = image.i((.., .., ..4, ..4))?.contiguous()?;
    let two = Pool2dConfig::square(2);
    section.figure(Figure::new(
        Grids::new([
            grid("map, 5 × 5", &image, 0, 8.0)?,
            grid("max 2 × 2 of its 4 × 4", &max_pool2d(&four, &two)?, 0, 8.0)?,
            grid("mean 2 × 2 of its 4 × 4", &avg_pool2d(&four, &two, PadCounting::Exclude)?, 0, 8.0)?,
            grid("max 3 × 3, stride 2", &max_pool2d(&image, &OVERLAPPING)?, 0, 8.0)?,
        ]),
        "Max and mean of windows side by side, and of windows that overlap",
        "",
    ));
    let mut tiles = Vec::new();
    for size in [2, 4, 8] {
        let config = Pool2dConfig::square(size);
        for (name, pooled) in [
            ("max", max_pool2d(&photo.gray, &config)?),
            ("mean", avg_pool2d(&photo.gray, &config, PadCounting::Exclude)?),
        ] {
            let tile = Tile::new(picture(&pooled, 0, |v| v)?, format!("{name} {}", by((size, size))));
            tiles.push(tile.sublabel(by((pooled.dim(2)?, pooled.dim(3)?))));
        }
    }
    section.figure(Figure::new(
        Sheet::new(tiles, 2),
        "The picture in gray, pooled: the maximum lets bright spots grow, the mean blurs",
        photo.source.clone(),
    ));
    Ok(())
}

/// AlexNet's pooling.
const OVERLAPPING: Pool2dConfig =
    Pool2dConfig { kernel: (3, 3), stride: (2, 2), padding: (0, 0), rounding: Rounding::Floor };

/// A window's settings with the map that they are shown on.
enum Window {
    Conv { kernel: usize, config: Conv2dConfig },
    MaxPool(Pool2dConfig),
    MeanPool(Pool2dConfig),
}

fn output_sizes(section: &mut Section, photo: &Photo) -> Result<()> {
    section.subsection("Sizes of outputs");
    section.text(
        "For an input of n pixels on a side, a window of k, a stride of s and p pixels of padding in all, the output has \
         ⌊(n + p − k) / s⌋ + 1 pixels on that side. With “same” padding that is ⌈n / s⌉. Each row below was run: the last \
         column is the shape of what came out.",
    );
    let mut table = Table::new(
        "Output sizes",
        [
            Column::text("operation"),
            Column::text("input"),
            Column::text("window"),
            Column::number("stride"),
            Column::text("padding"),
            Column::text("by the formula"),
            Column::text("computed"),
        ],
    );
    let conv = |kernel, stride: usize, padding| Window::Conv {
        kernel,
        config: Conv2dConfig { stride: (stride, stride), padding, ..Default::default() },
    };
    let none = Padding2d::none();
    let padding = |size, kernel, stride| Padding2d::same(size, (kernel, kernel), (stride, stride), (1, 1));
    let small = (32, 32);
    let rows = [
        (SIZE, "valid", conv(3, 1, none)),
        (SIZE, "same", conv(3, 1, padding(SIZE, 3, 1))),
        (SIZE, "valid", conv(3, 2, none)),
        (SIZE, "same", conv(3, 2, padding(SIZE, 3, 2))),
        (SIZE, "valid", conv(1, 1, none)),
        (SIZE, "valid", conv(11, 4, none)),
        (small, "valid", conv(5, 1, none)),
        ((227, 227), "valid", conv(11, 4, none)),
        ((27, 27), "2 on each side", conv(5, 1, Padding2d::symmetric(2, 2))),
        (SIZE, "valid", Window::MaxPool(Pool2dConfig::square(2))),
        (SIZE, "valid", Window::MeanPool(Pool2dConfig::square(2))),
        (SIZE, "valid", Window::MaxPool(Pool2dConfig::square(5))),
        ((55, 55), "valid", Window::MaxPool(OVERLAPPING)),
        ((28, 28), "valid", Window::MeanPool(Pool2dConfig::square(2))),
        ((7, 7), "valid", Window::MaxPool(Pool2dConfig::square(2))),
    ];
    for (size, padding, window) in rows {
        let x = map_of(photo, size)?;
        let (name, kernel, stride, expected, output) = match window {
            Window::Conv { kernel, config } => {
                let ones = vec![1.0; kernel * kernel];
                let output = filter(&x, &ones, (kernel, kernel), &config)?;
                ("convolution", kernel, config.stride.0, config.output_size(size, (kernel, kernel))?, output)
            }
            Window::MaxPool(config) => (
                "max pooling",
                config.kernel.0,
                config.stride.0,
                config.output_size(size)?,
                max_pool2d(&x, &config)?,
            ),
            Window::MeanPool(config) => {
                let output = avg_pool2d(&x, &config, PadCounting::Exclude)?;
                ("mean pooling", config.kernel.0, config.stride.0, config.output_size(size)?, output)
            }
        };
        table.row([
            name.into(),
            by(size).into(),
            by((kernel, kernel)).into(),
            stride.into(),
            padding.into(),
            by(expected).into(),
            by((output.dim(2)?, output.dim(3)?)).into(),
        ]);
    }
    section.table(table);
    Ok(())
}

/// A map of `size`: the photo in gray or its top left corner, with zeros where it is too small.
fn map_of(photo: &Photo, (height, width): (usize, usize)) -> Result<Tensor> {
    let (rows, columns) = (height.min(photo.gray.dim(2)?), width.min(photo.gray.dim(3)?));
    let piece = photo.gray.i((.., .., ..rows, ..columns))?;
    Ok(piece.pad_with_zeros(2, 0, height - rows)?.pad_with_zeros(3, 0, width - columns)?.contiguous()?)
}
