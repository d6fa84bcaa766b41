//! The files of features in a cache.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use firstsight_data::{CacheFolder, ImageDataset, MappedFile};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest as _, Sha256};

use super::rows::{Bytes, Part, Rows};
use super::{FeatureConfig, FeatureView};

const KEY: &str = "firstsight-features";
const FIRST: &str = "first";

/// The files of the features of some images: `<key>-0.features` holds those of the first images, `<key>-1.features` of the next, and
/// so on, each with a tensor (N, F) for each view.
pub(super) struct CachedFeatures<'a> {
    cache: &'a CacheFolder,
    views: &'a [FeatureView],
    key: String,
    n_images: usize,
    /// The number of the next file.
    next: usize,
}

impl<'a> CachedFeatures<'a> {
    pub(super) fn new(cache: &'a CacheFolder, images: &ImageDataset, config: &FeatureConfig<'a>) -> Self {
        let mut hasher = Sha256::new();
        let FeatureConfig { normalize, views, identity, batch_size: _, communicator: _ } = config;
        let names: Vec<&str> = views.iter().map(|view| view.name()).collect();
        hasher.update(format!("{identity} {normalize:?} {names:?} {:?}", images.shape()));
        for i in 0..images.len() {
            hasher.update(images.checksum(i).to_le_bytes());
        }
        Self { cache, views, key: format!("{:x}", hasher.finalize()), n_images: images.len(), next: 0 }
    }

    fn name(&self) -> String {
        format!("{}-{}.features", &self.key[..16], self.next)
    }

    /// The rows of all images, or of the first ones, in each view.
    pub(super) fn read(&mut self) -> Option<Vec<Rows>> {
        let mut found: Option<Vec<Rows>> = None;
        while let Some(file) = self.map() {
            let before = found.as_ref().and_then(|views| views.first()).map_or(0, Rows::len);
            match self.parts(&file.into(), before) {
                Ok(Some((n_features, parts))) if before + parts[0].n <= self.n_images => {
                    let views = found.get_or_insert_with(|| vec![Rows::new(n_features); parts.len()]);
                    views.iter_mut().zip(parts).for_each(|(view, part)| view.push(part));
                }
                // Left by a run whose files held other numbers of images.
                Ok(_) => break,
                Err(reason) => {
                    let path = self.cache.path().join(self.name());
                    tracing::warn!("{} cannot be used: {reason}; computing features anew", path.display());
                    break;
                }
            }
            self.next += 1;
        }
        found
    }

    fn map(&self) -> Option<MappedFile> {
        let name = self.name();
        self.cache.map(&name).unwrap_or_else(|error| {
            let path = self.cache.path().join(name);
            tracing::warn!("cannot read {}: {error}; computing features anew", path.display());
            None
        })
    }

    /// The number of features and the part of each view; `None` for a file that does not go on from `before` images.
    fn parts(&self, file: &Arc<MappedFile>, before: usize) -> Result<Option<(usize, Vec<Part>)>, String> {
        let bytes: &[u8] = (**file).as_ref();
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
        let entry = |name| metadata.metadata().as_ref().and_then(|all| all.get(name));
        if entry(KEY) != Some(&self.key) {
            return Err("it holds features of other images or weights".to_owned());
        }
        if entry(FIRST) != Some(&before.to_string()) {
            return Ok(None);
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let mut shape = None;
        let part = |view: &FeatureView| {
            let tensor = tensors.tensor(view.name()).map_err(|e| e.to_string())?;
            match *tensor.shape() {
                [n, f]
                    if tensor.dtype() == Dtype::F32 && n * f > 0 && shape.is_none_or(|of| of == (n, f)) =>
                {
                    shape = Some((n, f));
                    let start = tensor.data().as_ptr().addr() - bytes.as_ptr().addr();
                    Ok(Part { n, start, bytes: Arc::<MappedFile>::clone(file) as Bytes })
                }
                _ => Err(format!("its view {} has another shape", view.name())),
            }
        };
        let parts = self.views.iter().map(part).collect::<Result<Vec<_>, String>>()?;
        Ok(shape.map(|(_, n_features)| (n_features, parts)))
    }

    /// Writes a file of the rows of `n` images after `before` ones, the bytes of each view, and maps it; `None` where that
    /// cannot be done, or the cache has no room for all images.
    pub(super) fn write(&mut self, before: usize, n: usize, views: &[Vec<u8>]) -> Option<Vec<Part>> {
        let metadata =
            HashMap::from([(KEY.to_owned(), self.key.clone()), (FIRST.to_owned(), before.to_string())]);
        let size = views.iter().map(Vec::len).sum::<usize>() as u64;
        if before == 0 && !self.cache.has_room(size / n as u64 * self.n_images as u64) {
            return None;
        }
        let written = self.cache.write(&self.name(), size, |file| {
            let tensors = self.views.iter().zip(views).map(|(view, bytes)| {
                let shape = vec![n, bytes.len() / (n * size_of::<f32>())];
                Ok((view.name(), TensorView::new(Dtype::F32, shape, bytes)?))
            });
            let tensors = tensors.collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
            let bytes = tensors.and_then(|tensors| safetensors::serialize(tensors, Some(metadata)));
            file.write_all(&bytes.map_err(io::Error::other)?)
        });
        let file = if written { self.map()? } else { return None };
        let (_, parts) = self.parts(&file.into(), before).ok()??;
        self.next += 1;
        Some(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::values;
    use super::*;

    const VIEWS: [FeatureView; 2] = [FeatureView::Plain, FeatureView::Mirrored];

    fn features(cache: &CacheFolder, n_images: usize) -> CachedFeatures<'_> {
        CachedFeatures { cache, views: &VIEWS, key: "0123456789abcdef0123".to_owned(), n_images, next: 0 }
    }

    /// Writes `n` rows of two numbers after `before` ones; those of the other view are negative.
    fn write(features: &mut CachedFeatures<'_>, before: usize, n: usize) -> Option<Vec<Part>> {
        let views = [1.0, -1.0].map(|sign| {
            let numbers = (2 * before..2 * (before + n)).map(|i| sign * i as f32);
            numbers.flat_map(f32::to_le_bytes).collect()
        });
        features.write(before, n, &views)
    }

    fn rows(features: &mut CachedFeatures<'_>) -> Option<Vec<Vec<Vec<f32>>>> {
        let views = features.read()?;
        Some(
            views
                .iter()
                .map(|rows| (0..rows.len()).map(|i| values(rows.row(i)).collect()).collect())
                .collect(),
        )
    }

    #[test]
    fn files_go_on_from_one_another_up_to_the_last_image() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CacheFolder::new(folder.path());
        assert!(rows(&mut features(&cache, 5)).is_none());
        let mut file = features(&cache, 5);
        for (before, n) in [(0, 3), (3, 2)] {
            assert_eq!(write(&mut file, before, n).unwrap().len(), 2);
        }
        let all: Vec<Vec<f32>> = (0..5).map(|i| vec![2.0 * i as f32, 2.0 * i as f32 + 1.0]).collect();
        let found = rows(&mut features(&cache, 5)).unwrap();
        assert_eq!(found[0], all);
        assert!(found[1].iter().flatten().zip(all.iter().flatten()).all(|(a, b)| *a == -b));
        assert_eq!(rows(&mut features(&cache, 4)).unwrap()[0], all[..3], "the second file has one too many");
        assert!(rows(&mut features(&cache, 2)).is_none());
        let mut other = CachedFeatures { key: "0123456789abcdefffff".to_owned(), ..features(&cache, 5) };
        assert!(rows(&mut other).is_none(), "of other images");
        // A file of a run that wrote two images first.
        let mut file = features(&cache, 5);
        write(&mut file, 0, 2).unwrap();
        assert_eq!(rows(&mut features(&cache, 5)).unwrap()[0], all[..2]);
    }

    #[test]
    fn nothing_is_kept_where_not_all_would_fit() {
        let folder = tempfile::tempdir().unwrap();
        // Three rows of two views take 48 bytes, fifteen take 240.
        let cache = CacheFolder::new(folder.path()).limit(Some(239));
        assert!(write(&mut features(&cache, 15), 0, 3).is_none());
        assert!(cache.files().unwrap().is_empty());
        let cache = cache.limit(Some(2400));
        assert!(write(&mut features(&cache, 15), 0, 3).is_some());
    }
}
