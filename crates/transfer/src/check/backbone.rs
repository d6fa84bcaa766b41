//! Features of images by pretrained weights, some images at a time, kept by content.

use std::collections::HashMap;

use candle_core::{Module, Tensor};
use firstsight_data::{CacheFolder, DecodeSettings, ImageDataset, Reading, decode_bytes};
use firstsight_train::{Inference, PackedWeights};
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::images::CheckedImage;
use crate::training::{evaluation_batch, in_order};
use crate::{ContentHash, Pretrained, Result, Runtime, TransferModel, fingerprint};

/// Images that are decoded at a time, in batches.
const BATCHES: usize = 8;

/// The features of images.
pub(super) struct BackboneFeatures {
    /// The images, by index.
    pub(super) images: Vec<usize>,
    /// Their features (N, F), of length 1 each.
    pub(super) rows: Tensor,
}

/// The features of all images that can be decoded; those of an earlier check are read from the runtime's cache.
pub(super) fn features(
    images: &[CheckedImage],
    pretrained: &Pretrained,
    reading: Reading,
    runtime: &Runtime,
) -> Result<BackboneFeatures> {
    let model = TransferModel::new(pretrained, pretrained.input.clone(), 2, 0, runtime)?;
    let settings = DecodeSettings { reading, ..model.input.decode_settings() };
    let identity = format!(
        "{} {settings:?} {:?}",
        fingerprint(model.network.params(), |name| !model.network.in_head(name))?,
        model.input.normalize()
    );
    let store = runtime.cache.as_ref().map(|cache| Store::new(cache, &identity));
    let mut known = store.as_ref().map(Store::read).unwrap_or_default();

    let sound: Vec<usize> = (0..images.len()).filter(|&i| images[i].is_sound()).collect();
    let key = |i: usize| images[i].content.map(|content| content.to_string());
    let mut missing: Vec<(String, usize)> = sound.iter().filter_map(|&i| Some((key(i)?, i))).collect();
    missing.retain(|(key, _)| !known.contains_key(key));
    missing.sort();
    missing.dedup_by(|a, b| a.0 == b.0);
    let computed = !missing.is_empty();
    let packed = PackedWeights::default();
    runtime.counted("features", |report| -> Result<()> {
        let mut done = 0;
        for chunk in missing.chunks(BATCHES * evaluation_batch(&model.input)) {
            let rows = forward(&model, &packed, chunk, images, &settings, runtime)?;
            known.extend(chunk.iter().map(|(key, _)| key.clone()).zip(rows));
            done += chunk.len();
            report(done, missing.len());
        }
        Ok(())
    })?;
    if computed && let Some(store) = &store {
        store.write(&known);
    }

    let (mut kept, mut values) = (Vec::new(), Vec::new());
    for i in sound {
        if let Some(row) = key(i).and_then(|key| known.get(&key)) {
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            values.extend(row.iter().map(|x| x / length));
            kept.push(i);
        }
    }
    let n_features = values.len() / kept.len().max(1);
    let rows = Tensor::from_vec(values, (kept.len(), n_features), &candle_core::Device::Cpu)?;
    Ok(BackboneFeatures { images: kept, rows })
}

fn forward(
    model: &TransferModel,
    packed: &PackedWeights,
    chunk: &[(String, usize)],
    images: &[CheckedImage],
    settings: &DecodeSettings,
    runtime: &Runtime,
) -> Result<Vec<Vec<f32>>> {
    let decode = |(_, i): &(String, usize)| -> Result<Vec<u8>> {
        let sample = &images[*i].sample;
        Ok(decode_bytes(&sample.path(), &sample.read()?, settings)?.pixels)
    };
    let pixels = chunk.par_iter().map(decode).collect::<Result<Vec<_>>>()?.concat();
    let size = (settings.height, settings.width, settings.color.channels());
    let dataset = ImageDataset::from_pixels(pixels, size, vec![0; chunk.len()], vec![String::new()])?;
    let batches = in_order(&dataset, &model.input, &runtime.device)?;
    let mut rows = Vec::new();
    let inference = Inference::in_pool(model.network.backbone(), packed);
    for batch in firstsight_data::Batches::epoch(&batches, 0) {
        let features = inference.forward(&batch?.inputs)?.flatten_from(1)?;
        rows.extend(features.to_dtype(candle_core::DType::F32)?.to_vec2::<f32>()?);
    }
    Ok(rows)
}

const KEYS: &str = "sha256";
const ROWS: &str = "features";

/// A file of features by the hash of the image file's content. A damaged one counts as empty.
struct Store<'a> {
    cache: &'a CacheFolder,
    name: String,
}

impl<'a> Store<'a> {
    fn new(cache: &'a CacheFolder, identity: &str) -> Self {
        let key = ContentHash::of(identity.as_bytes()).to_string();
        Self { cache, name: format!("check-{}.features", &key[..16]) }
    }

    fn read(&self) -> HashMap<String, Vec<f32>> {
        let read = || -> Option<HashMap<String, Vec<f32>>> {
            let bytes = std::fs::read(self.cache.find(&self.name)).ok()?;
            let tensors = SafeTensors::deserialize(&bytes).ok()?;
            let (keys, rows) = (tensors.tensor(KEYS).ok()?, tensors.tensor(ROWS).ok()?);
            let values: Vec<f32> = rows.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            let width = *rows.shape().get(1)?;
            let names = keys.data().chunks_exact(64).map(|key| String::from_utf8_lossy(key).into_owned());
            Some(names.zip(values.chunks_exact(width.max(1)).map(<[f32]>::to_vec)).collect())
        };
        read().unwrap_or_default()
    }

    fn write(&self, known: &HashMap<String, Vec<f32>>) {
        let mut sorted: Vec<(&String, &Vec<f32>)> = known.iter().collect();
        sorted.sort_by_key(|(key, _)| *key);
        let keys: Vec<u8> = sorted.iter().flat_map(|(key, _)| key.as_bytes()).copied().collect();
        let rows: Vec<u8> =
            sorted.iter().flat_map(|(_, row)| row.iter()).flat_map(|x| x.to_le_bytes()).collect();
        let (n, width) = (sorted.len(), sorted.first().map_or(0, |(_, row)| row.len()));
        let bytes = (keys.len() + rows.len()) as u64;
        self.cache.write(&self.name, bytes, |file| {
            let serialize = || {
                let keys = TensorView::new(Dtype::U8, vec![n, 64], &keys)?;
                let rows = TensorView::new(Dtype::F32, vec![n, width], &rows)?;
                safetensors::serialize([(KEYS, keys), (ROWS, rows)], None)
            };
            file.write_all(&serialize().map_err(std::io::Error::other)?)
        });
    }
}
