//! What a frozen backbone makes of images, computed once and kept in a file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, ModuleT, Tensor};
use firstsight_data::files::write_atomically;
use firstsight_data::{Batches as _, ImageDataset, Loader, LoaderConfig, Normalize, Sampling};
use firstsight_models::Params;
use safetensors::SafeTensors;
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// How an image is shown to the backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FeatureView {
    /// As it is.
    Plain,
    /// Left and right exchanged.
    Mirrored,
}

impl FeatureView {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Mirrored => "mirrored",
        }
    }

    /// (B, C, H, W) to the same shape.
    fn apply(self, images: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Plain => Ok(images.clone()),
            Self::Mirrored => {
                let width = images.dim(3)? as u32;
                let from_the_right = Tensor::from_iter((0..width).rev(), images.device())?;
                images.index_select(&from_the_right, 3)
            }
        }
    }
}

/// Features of images, one row for each image in each view.
#[derive(Debug, Clone)]
pub struct Features {
    /// (V·N, F) f32: all images in the first view, then all in the next.
    pub rows: Tensor,
    /// The label of each image, (N,).
    pub labels: Vec<u32>,
    /// How many classes there are.
    pub n_classes: usize,
}

impl Features {
    /// N.
    pub fn n_images(&self) -> usize {
        self.labels.len()
    }

    /// F.
    pub fn n_features(&self) -> usize {
        self.rows.dims()[1]
    }

    /// V.
    pub fn n_views(&self) -> usize {
        self.rows.dims()[0] / self.labels.len().max(1)
    }

    /// The rows and labels of some images, in every view or in the first alone: (R, F) and (R,).
    pub fn of(&self, images: &[usize], views: usize) -> candle_core::Result<(Tensor, Vec<u32>)> {
        let n = self.n_images();
        let of_view = |view: usize| images.iter().map(move |i| (view * n + i) as u32);
        let rows: Vec<u32> = (0..views.min(self.n_views())).flat_map(of_view).collect();
        let labels = rows.iter().map(|row| self.labels[*row as usize % n]).collect();
        let rows = self.rows.index_select(&Tensor::new(rows, self.rows.device())?, 0)?;
        Ok((rows, labels))
    }
}

/// What features are extracted with.
#[derive(Debug, Clone)]
pub struct FeatureConfig<'a> {
    /// From bytes to the backbone's input.
    pub normalize: Normalize,
    /// Each costs a pass over the images.
    pub views: &'a [FeatureView],
    /// Images at a time.
    pub batch_size: usize,
    /// Stands for the backbone's weights and the preprocessing before the bytes: [`fingerprint`] and the input's
    /// description.
    pub identity: String,
}

/// The features of `images`, from the folder `cache` if an earlier run left them there; else computed in inference mode
/// and kept there.
///
/// The file's name is a hash of the extraction's identity, normalisation, views, and the images' bytes: a change to any
/// of these computes anew. A file that is damaged is computed anew, with a warning. `progress` is told (images done,
/// images in all), a view counting as an image.
///
/// # Errors
/// Those of the backbone and the batches; [`Error::Io`] where the cache can't be written.
pub fn features(
    backbone: &impl ModuleT,
    images: &ImageDataset,
    config: &FeatureConfig<'_>,
    cache: Option<&Path>,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Features> {
    let (labels, n_classes) = (images.labels().to_vec(), images.classes().len());
    let n_rows = images.len() * config.views.len();
    let file = cache.map(|folder| CacheFile::new(folder, images, config));
    if let Some(rows) = file.as_ref().and_then(|file| file.read(n_rows, device)) {
        progress(n_rows, n_rows);
        return Ok(Features { rows, labels, n_classes });
    }
    let rows = extract(backbone, images, config, device, progress)?;
    if let Some(file) = file {
        file.write(&rows)?;
    }
    Ok(Features { rows, labels, n_classes })
}

fn extract(
    backbone: &impl ModuleT,
    images: &ImageDataset,
    config: &FeatureConfig<'_>,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Tensor> {
    let loading = LoaderConfig {
        batch_size: config.batch_size,
        sampling: Sampling::Sequential,
        normalize: config.normalize.clone(),
        prefetch: 2,
    };
    let batches = Loader::new(images.clone(), loading, device)?;
    let total = images.len() * config.views.len();
    let mut by_view = vec![Vec::new(); config.views.len()];
    let mut done = 0;
    for batch in batches.epoch(0) {
        let inputs = batch?.inputs;
        for (view, rows) in config.views.iter().zip(&mut by_view) {
            rows.push(backbone.forward_t(&view.apply(&inputs)?, false)?.detach());
            done += inputs.dim(0)?;
            progress(done, total);
        }
    }
    Ok(Tensor::cat(&by_view.concat(), 0)?)
}

/// A hash of the variables whose names `select` accepts: the same for the same names and values.
pub fn fingerprint(params: &Params, select: impl Fn(&str) -> bool) -> Result<String> {
    let mut hasher = Sha256::new();
    for (name, var) in params.named() {
        if select(&name) {
            hasher.update(name.as_bytes());
            for value in var.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()? {
                hasher.update(value.to_le_bytes());
            }
        }
    }
    Ok(format!("{:x}", hasher.finalize()))
}

const KEY: &str = "firstsight-features";
const ROWS: &str = "features";

/// Where the features of these images lie, and the key that the file must hold.
struct CacheFile {
    path: PathBuf,
    key: String,
}

impl CacheFile {
    fn new(folder: &Path, images: &ImageDataset, config: &FeatureConfig<'_>) -> Self {
        let mut hasher = Sha256::new();
        let FeatureConfig { normalize, views, identity, batch_size: _ } = config;
        let views: Vec<&str> = views.iter().map(|view| view.name()).collect();
        hasher.update(format!("{identity} {normalize:?} {views:?} {:?}", images.shape()));
        for i in 0..images.len() {
            hasher.update(images.image(i));
        }
        let key = format!("{:x}", hasher.finalize());
        Self { path: folder.join(format!("{}.features", &key[..16])), key }
    }

    fn read(&self, n_rows: usize, device: &Device) -> Option<Tensor> {
        let bytes = std::fs::read(&self.path).ok()?;
        let read = || -> Result<Tensor, String> {
            let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| e.to_string())?;
            let key = metadata.metadata().as_ref().and_then(|m| m.get(KEY));
            if key != Some(&self.key) {
                return Err("it is of other images or weights".to_owned());
            }
            let tensors = candle_core::safetensors::load_buffer(&bytes, device).map_err(|e| e.to_string())?;
            let rows = tensors.get(ROWS).filter(|t| t.rank() == 2 && t.dims()[0] == n_rows);
            rows.cloned().ok_or_else(|| "it holds another number of rows".to_owned())
        };
        match read() {
            Ok(rows) => Some(rows),
            Err(reason) => {
                tracing::warn!(path = %self.path.display(), %reason, "computing features anew");
                None
            }
        }
    }

    fn write(&self, rows: &Tensor) -> Result<()> {
        let metadata = HashMap::from([(KEY.to_owned(), self.key.clone())]);
        let bytes = safetensors::serialize([(ROWS, rows)], Some(metadata))
            .map_err(|e| Error::io("write", &self.path)(std::io::Error::other(e)))?;
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        write_atomically(&self.path, &bytes).map_err(Error::io("write", &self.path))
    }
}
