//! Figures of what a network responds to, for the lecture and the command `visualize`.

use std::path::Path;

use candle_core::{Device, Tensor};
use firstsight_data::InputSpec;
use firstsight_insight::{
    FeatureVis, FeatureVisConfig, InputFormat, Layer, activation, grad_cam, layers, visualize_features,
};
use firstsight_models::{ImageClassifier, InputShape, ModelInfo, Params};
use firstsight_report::{Figure, Image, Section, Sheet, Tile, escape_markup, number};

use crate::Result;

/// The noise that a picture of strokes starts from: in black and white, so that strokes' edges are in it.
pub const STROKES: f64 = 1.5;
/// The noise that a picture in colors starts from.
pub const COLORS: f64 = 0.3;

/// A frozen network to look at.
pub struct Subject {
    /// The network.
    pub network: ImageClassifier,
    params: Params,
    /// Preprocessing of an image.
    pub input: InputSpec,
    /// Names of the outputs.
    pub label_names: Vec<String>,
    /// Which network with which weights, in words, for captions.
    pub source: String,
    device: Device,
}

impl Subject {
    /// The network `kind` with the weights of a file.
    pub fn load(
        kind: &'static ModelInfo,
        weights: &Path,
        input: InputSpec,
        label_names: Vec<String>,
        source: String,
        device: &Device,
    ) -> Result<Self> {
        let params = Params::seeded(0, device);
        let frozen = params.frozen(|_| true);
        let network =
            ImageClassifier::new(kind, InputShape::from(&input), label_names.len(), kind.init, &frozen)?;
        network.load(weights)?;
        Ok(Self { network, params, input, label_names, source, device: device.clone() })
    }

    /// Height and width of its input.
    pub fn size(&self) -> (usize, usize) {
        let (_, height, width) = self.input.input_size;
        (height, width)
    }

    /// Its layers for images of `size`.
    pub fn layers(&self, (height, width): (usize, usize)) -> Result<Vec<Layer>> {
        let channels = self.input.input_size.0;
        let blank = Tensor::zeros((1, channels, height, width), candle_core::DType::F32, &self.device)?;
        Ok(layers(&self.network, &blank)?)
    }

    /// Bytes of images (H, W, C), as the decoder gives them, as the network's input.
    pub fn batch(&self, images: &[&[u8]]) -> Result<Tensor> {
        let (channels, height, width) = self.input.input_size;
        let bytes: Vec<u8> = images.iter().flat_map(|image| image.iter().copied()).collect();
        let pixels = Tensor::from_vec(bytes, (images.len(), height, width, channels), &self.device)?
            .permute((0, 3, 1, 2))?
            .to_dtype(candle_core::DType::F32)?
            .affine(1.0 / 255.0, 0.0)?;
        let each = |values: &[f32]| Tensor::new(values, &self.device)?.reshape((1, channels, 1, 1));
        Ok(pixels.broadcast_sub(&each(&self.input.mean)?)?.broadcast_div(&each(&self.input.std)?)?)
    }

    /// Pictures that excite `channels` of `layer`, of `size`.
    pub fn draw(
        &self,
        layer: &str,
        channels: &[usize],
        (height, width): (usize, usize),
        settings: &FeatureVisConfig,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Vec<FeatureVis>> {
        let pixels = InputFormat {
            height,
            width,
            mean: self.input.mean.clone(),
            std: self.input.std.clone(),
            device: self.device.clone(),
        };
        Ok(visualize_features(&self.network, &pixels, layer, channels, settings, go_on)?)
    }

    /// The `n` channels of `layer` that images excite most on average, in order.
    pub fn most_excited(&self, layer: &str, images: &[&[u8]], n: usize) -> Result<Vec<usize>> {
        let output = activation(&self.network, &self.batch(images)?, layer)?;
        let means: Vec<f32> = output.flatten_from(2)?.mean(2)?.mean(0)?.to_vec1()?;
        let mut channels: Vec<usize> = (0..means.len()).collect();
        channels.sort_by(|a, b| means[*b].total_cmp(&means[*a]).then(a.cmp(b)));
        channels.truncate(n);
        channels.sort_unstable();
        Ok(channels)
    }

    /// Name of a channel of `layer`: the class for an output.
    pub fn channel_name(&self, layer: &str, channel: usize) -> String {
        match self.label_names.get(channel) {
            Some(name) if layer == self.network.head_name() => name.clone(),
            _ => format!("channel {channel}"),
        }
    }

    /// The kernels of the first convolution, if the network begins with one.
    fn first_filters(&self) -> Option<Tensor> {
        let name = self.network.info().first_conv?;
        let weight = self.params.get(&format!("{name}.weight"))?.as_tensor().detach();
        (weight.rank() == 4 && weight.dims()[1] == self.input.input_size.0).then_some(weight)
    }
}

/// `n` of `all` things, spread evenly.
pub fn spread(all: usize, n: usize) -> Vec<usize> {
    let n = n.min(all);
    (0..n).map(|i| i * all / n.max(1)).collect()
}

/// The kernels of the first convolution as pictures.
pub fn show_filters(section: &mut Section, subject: &Subject) -> Result<()> {
    let Some(weight) = subject.first_filters() else { return Ok(()) };
    let (n, channels, height, width) = weight.dims4()?;
    let mut tiles = Vec::with_capacity(n);
    for i in 0..n {
        let kernel = weight.get(i)?.permute((1, 2, 0))?.flatten_all()?.to_vec1::<f32>()?;
        let largest = kernel.iter().fold(f32::MIN_POSITIVE, |most, w| most.max(w.abs()));
        let bytes: Vec<u8> = kernel.iter().map(|w| (127.5 + 127.5 * w / largest).round() as u8).collect();
        // Pages show pixels of three channels as colors: a kernel over other numbers of channels is not one picture.
        if channels != 1 && channels != 3 {
            return Ok(());
        }
        tiles.push(Tile::new(Image::from_pixels(height, width, channels, &bytes)?, i.to_string()));
    }
    let axes = if channels == 3 { ", red, green and blue as the colors of the image" } else { "" };
    let caption = format!(
        "The {n} kernels of the first convolution, {height} × {width} pixels{axes}. Mid-gray is 0, lighter adds and darker \
         subtracts, each scaled by its largest weight"
    );
    section.figure(Figure::new(Sheet::new(tiles, 16), caption, subject.source.clone()));
    Ok(())
}

/// The pictures of one layer.
pub fn show_visions(
    section: &mut Section,
    subject: &Subject,
    layer: &str,
    visions: &[FeatureVis],
) -> Result<()> {
    let mut tiles = Vec::with_capacity(visions.len());
    for vision in visions {
        let change = match vision.initial_activation == 0.0 && vision.activation == 0.0 {
            true => "silent".to_owned(),
            false => {
                format!(
                    "{} → {}",
                    number::decimal(vision.initial_activation, 2),
                    number::decimal(vision.activation, 2)
                )
            }
        };
        let name = subject.channel_name(layer, vision.channel);
        tiles.push(Tile::new(picture(&vision.image)?, name).sublabel(change));
    }
    let what = match layer == subject.network.head_name() {
        true => "Pictures that raise the logit of a class most".to_owned(),
        false => format!("Pictures that excite channels of `{layer}` most"),
    };
    let caption = format!(
        "{what}. Below each is the channel’s mean activation for the noise at the start and for the picture; a silent \
         channel gives no gradient to follow"
    );
    let columns = visions.len().clamp(1, 8);
    section.figure(Figure::new(Sheet::new(tiles, columns), caption, subject.source.clone()));
    Ok(())
}

/// The strongest feature maps of `layer` for an image.
pub fn show_maps(
    section: &mut Section,
    subject: &Subject,
    image: &[u8],
    layer: &str,
    shown: usize,
    of: &str,
) -> Result<()> {
    let maps = activation(&subject.network, &subject.batch(&[image])?, layer)?.squeeze(0)?;
    let [n, height, width] = *maps.dims() else { return Ok(()) };
    let maps: Vec<Vec<f32>> = maps.flatten_from(1)?.to_vec2()?;
    let strength = |map: &[f32]| map.iter().fold(0f32, |most, v| most.max(v.abs()));
    let mut strongest: Vec<usize> = (0..n).collect();
    strongest.sort_by(|a, b| strength(&maps[*b]).total_cmp(&strength(&maps[*a])).then(a.cmp(b)));
    strongest.truncate(shown);
    strongest.sort_unstable();
    let signed = maps.iter().flatten().any(|v| *v < 0.0);
    let tile = |&channel: &usize| -> Result<Tile> {
        let map = &maps[channel];
        let scale = strength(map).max(f32::MIN_POSITIVE);
        let byte = |v: &f32| match signed {
            true => (127.5 + 127.5 * v / scale).round() as u8,
            false => (255.0 * v / scale).round() as u8,
        };
        let bytes: Vec<u8> = map.iter().map(byte).collect();
        Ok(Tile::new(Image::from_pixels(height, width, 1, &bytes)?, channel.to_string()))
    };
    let tiles = strongest.iter().map(tile).collect::<Result<Vec<_>>>()?;
    let scale = if signed {
        "mid-gray is 0, white and black the largest of either sign"
    } else {
        "black is 0, white the largest value"
    };
    let caption = format!(
        "`{layer}`: the {} strongest of {n} maps of {height} × {width} for {of}; {scale} of each map",
        tiles.len()
    );
    section.figure(Figure::new(Sheet::new(tiles, 8), caption, subject.source.clone()));
    Ok(())
}

/// An image and a class whose evidence is looked for.
pub struct Evidence<'a> {
    /// The image, (H, W, C) bytes.
    pub image: &'a [u8],
    /// The class.
    pub class: usize,
}

/// Grad-CAM's maps over the images, as pictures.
pub fn evidence(subject: &Subject, cases: &[Evidence<'_>], layer: &str) -> Result<Vec<Image>> {
    let images: Vec<&[u8]> = cases.iter().map(|case| case.image).collect();
    let classes: Vec<usize> = cases.iter().map(|case| case.class).collect();
    let maps = grad_cam(&subject.network, &subject.batch(&images)?, &classes, layer)?;
    let (channels, height, width) = subject.input.input_size;
    let mut pictures = Vec::with_capacity(cases.len());
    for (i, image) in images.iter().enumerate() {
        let map: Vec<Vec<f32>> = maps.get(i)?.to_vec2()?;
        pictures.push(overlaid(image, (height, width, channels), &map)?);
    }
    Ok(pictures)
}

/// A grayed image under the map, enlarged: the more evidence, the redder.
fn overlaid(
    image: &[u8],
    (height, width, channels): (usize, usize, usize),
    map: &[Vec<f32>],
) -> Result<Image> {
    const HOT: [f32; 3] = [230.0, 60.0, 0.0];
    const STRENGTH: f32 = 0.75;
    let largest = map.iter().flatten().fold(0f32, |most, v| most.max(*v));
    let read = |row: usize, column: usize| {
        let place = |i: usize, n: usize, m: usize| {
            ((i as f32 + 0.5) * m as f32 / n as f32 - 0.5).clamp(0.0, m as f32 - 1.0)
        };
        let (y, x) = (place(row, height, map.len()), place(column, width, map[0].len()));
        let (top, left) = (y as usize, x as usize);
        let (below, right) = ((top + 1).min(map.len() - 1), (left + 1).min(map[0].len() - 1));
        let (down, across) = (y.fract(), x.fract());
        let line = |row: &[f32]| row[left] * (1.0 - across) + row[right] * across;
        line(&map[top]) * (1.0 - down) + line(&map[below]) * down
    };
    let mut bytes = Vec::with_capacity(height * width * 3);
    for (i, pixel) in image.chunks_exact(channels).enumerate() {
        let gray = pixel.iter().map(|b| f32::from(*b)).sum::<f32>() / channels as f32;
        let share = if largest > 0.0 { STRENGTH * read(i / width, i % width) / largest } else { 0.0 };
        bytes.extend(HOT.map(|hot| (gray * (1.0 - share) + hot * share).round() as u8));
    }
    Ok(Image::from_pixels(height, width, 3, &bytes)?)
}

/// (C, H, W) of 0..=1 as a picture.
pub fn picture(values: &Tensor) -> Result<Image> {
    let (channels, height, width) = values.dims3()?;
    let values = values.permute((1, 2, 0))?.flatten_all()?.to_vec1::<f32>()?;
    let bytes: Vec<u8> = values.into_iter().map(|v| (255.0 * v).round() as u8).collect();
    Ok(Image::from_pixels(height, width, channels, &bytes)?)
}

/// A file's name in running text.
pub fn named(path: &Path) -> String {
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
    escape_markup(&name)
}
