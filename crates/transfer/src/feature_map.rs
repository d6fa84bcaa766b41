//! A map of images: the two directions in which their features differ most.

use candle_core::{DType, Device, Tensor};

use firstsight_report::{Report, escape_markup, number};

use crate::{EmbeddingRow, Error, Result, report_sections};

/// Images that the directions are taken from, at most.
const IMAGES: usize = 1000;
/// Images that are drawn, at most.
const MAPPED: usize = 2000;
/// Steps of the power iteration, at most.
const STEPS: usize = 1000;
/// Difference of two directions that are taken for the same.
const TOLERANCE: f64 = 1e-12;

/// The first two principal components of features (Pearson 1901): the directions of the largest variance of the centered features.
#[derive(Debug, Clone)]
pub struct FeatureMap {
    /// (1, F).
    mean: Tensor,
    /// (F, 2), columns of length 1.
    axes: Tensor,
    /// The share of the variance along each.
    pub explained: [f64; 2],
}

impl FeatureMap {
    /// The map of features (N, F); of more than 1000 rows, that of 1000 evenly from among them. `None` for fewer than three rows, or
    /// where they differ in less than two directions.
    ///
    /// # Errors
    ///
    /// Those of the tensor operations.
    pub fn new(features: &Tensor) -> Result<Option<Self>> {
        let (n, n_features) = features.dims2()?;
        if n < 3 || n_features < 2 {
            return Ok(None);
        }
        let some = Tensor::from_iter(Self::some_of(n).into_iter().map(|row| row as u32), features.device())?;
        let some = features.index_select(&some, 0)?;
        let rows = some.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let mean = rows.mean_keepdim(0)?;
        let centered = rows.broadcast_sub(&mean)?;
        // With X the centered rows, the principal components are Xᵀu / ‖Xᵀu‖ for the eigenvectors u of XXᵀ (N, N).
        let gram = centered.matmul(&centered.t()?)?.to_vec2::<f64>()?;
        let variance: f64 = gram.iter().enumerate().map(|(i, row)| row[i]).sum();
        let Some((first, u)) = largest(&gram, None) else { return Ok(None) };
        let Some((second, v)) = largest(&gram, Some(&u)) else { return Ok(None) };
        if second <= variance * 1e-9 {
            return Ok(None);
        }
        let axis = |u: &[f64]| -> Result<Tensor> {
            let axis: Vec<f64> =
                Tensor::new(u, &Device::Cpu)?.unsqueeze(0)?.matmul(&centered)?.squeeze(0)?.to_vec1()?;
            // The sign is free: the largest part is positive.
            let largest = axis.iter().copied().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
            let length = axis.iter().map(|value| value * value).sum::<f64>().sqrt().copysign(largest);
            Ok(Tensor::from_iter(axis.into_iter().map(|value| value / length), &Device::Cpu)?)
        };
        let axes = Tensor::stack(&[axis(&u)?, axis(&v)?], 1)?;
        let here = |tensor: Tensor| tensor.to_dtype(DType::F32)?.to_device(features.device());
        Ok(Some(Self {
            mean: here(mean)?,
            axes: here(axes)?,
            explained: [first / variance, second / variance],
        }))
    }

    /// The images of `n` that the directions are taken from.
    pub(crate) fn some_of(n: usize) -> Vec<usize> {
        (0..n.min(IMAGES)).map(|i| i * n / n.min(IMAGES)).collect()
    }

    /// The places (x, y) of features (B, F).
    ///
    /// # Errors
    ///
    /// Features of another length.
    pub fn place(&self, features: &Tensor) -> candle_core::Result<Vec<[f32; 2]>> {
        let places = features.broadcast_sub(&self.mean)?.matmul(&self.axes)?;
        Ok(places.to_vec2::<f32>()?.into_iter().map(|place| [place[0], place[1]]).collect())
    }
}

/// Images on a map of their own features: of more than 2000, every second, fourth, eighth … one.
#[derive(Debug, Clone)]
pub struct MappedImages {
    /// The name of each one's folder, and its features.
    rows: Vec<(String, Vec<f32>)>,
    seen: usize,
    step: usize,
}

impl Default for MappedImages {
    fn default() -> Self {
        Self { rows: Vec::new(), seen: 0, step: 1 }
    }
}

impl MappedImages {
    /// Adds an image, if it could be read.
    pub fn push(&mut self, row: &EmbeddingRow) {
        let Ok(features) = &row.features else { return };
        if self.seen.is_multiple_of(self.step) {
            let folder = row.image.parent().and_then(|folder| folder.file_name());
            let folder =
                folder.map_or_else(|| "images".to_owned(), |name| name.to_string_lossy().into_owned());
            self.rows.push((folder, features.clone()));
        }
        self.seen += 1;
        if self.rows.len() > MAPPED {
            self.step *= 2;
            let mut i = 0;
            self.rows.retain(|_| {
                i += 1;
                i % 2 == 1
            });
        }
    }

    /// A page with the map. `source` says what the images are.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for images that do not differ in two directions, such as fewer than three.
    pub fn report(&self, source: &str) -> Result<Report> {
        let width = self.rows.first().map_or(0, |(_, features)| features.len());
        let values: Vec<f32> = self.rows.iter().flat_map(|(_, features)| features).copied().collect();
        let features = Tensor::from_vec(values, (self.rows.len(), width), &Device::Cpu)?;
        let map = FeatureMap::new(&features)?.ok_or_else(|| Error::Setting {
            setting: "the images of a map",
            expected: "three or more that differ".to_owned(),
            found: format!("{} images", self.rows.len()),
        })?;
        let mut report = Report::new("Firstsight: a map of images");
        report.lead(&match self.step {
            1 => format!("{} images, in the colors of their folders.", number::count(self.seen as u64)),
            _ => format!(
                "{} of {} images, in the colors of their folders.",
                number::count(self.rows.len() as u64),
                number::count(self.seen as u64)
            ),
        });
        let names = self.rows.iter().map(|(folder, _)| folder.as_str());
        let places = names.zip(map.place(&features)?);
        report_sections::places(report.section(None, "The map"), &map, places, &escape_markup(source));
        Ok(report)
    }
}

/// The largest eigenvalue of a symmetric matrix without negative ones, and its eigenvector, by power iteration; the largest whose
/// eigenvector is orthogonal to another one, if there is one. `None` for a matrix of zeros, or of nothing but that other one.
fn largest(matrix: &[Vec<f64>], other: Option<&[f64]>) -> Option<(f64, Vec<f64>)> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let unit = |mut x: Vec<f64>| {
        let before = dot(&x, &x).sqrt();
        if let Some(other) = other {
            let along = dot(&x, other);
            x.iter_mut().zip(other).for_each(|(x, other)| *x -= along * other);
        }
        let length = dot(&x, &x).sqrt();
        // What is left of a vector along the other one is rounding, in any direction.
        (length > before * 1e-6).then(|| x.iter().map(|value| value / length).collect::<Vec<f64>>())
    };
    // A start that is orthogonal to nothing in particular: multiples of the golden ratio, without their whole parts.
    let mut x = unit((0..matrix.len()).map(|i| (i as f64 * 0.618_033_988_749_895).fract() - 0.5).collect())?;
    let times = |x: &[f64]| matrix.iter().map(|row| dot(row, x)).collect::<Vec<f64>>();
    for _ in 0..STEPS {
        let next = unit(times(&x))?;
        let is_same = 1.0 - dot(&x, &next) < TOLERANCE;
        x = next;
        if is_same {
            break;
        }
    }
    Some((dot(&x, &times(&x)), x))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor<const N: usize>(rows: &[[f32; 4]; N]) -> Tensor {
        Tensor::new(rows, &Device::Cpu).unwrap()
    }

    /// scikit-learn 1.9.1: `PCA(2).fit(rows)`, its `explained_variance_ratio_` and `transform(rows)`.
    #[test]
    fn it_is_scikit_learns() {
        let rows = tensor(&[
            [2.5, 2.4, 0.5, 1.0],
            [0.5, 0.7, 1.5, 0.0],
            [2.2, 2.9, 0.1, 1.0],
            [1.9, 2.2, 0.9, 3.0],
            [3.1, 3.0, 0.2, 0.5],
            [2.3, 2.7, 0.4, 2.0],
        ]);
        let map = FeatureMap::new(&rows).unwrap().unwrap();
        let expected: ([f64; 2], [[f32; 2]; 6]) = (
            [0.6297520, 0.3489454],
            [
                [0.21368, -0.39847],
                [-2.73711, -0.03494],
                [0.46905, -0.50586],
                [0.50372, 1.71294],
                [0.79655, -1.24016],
                [0.75412, 0.46649],
            ],
        );
        for (found, expected) in map.explained.iter().zip(expected.0) {
            assert!((found - expected).abs() < 1e-6, "{:?}", map.explained);
        }
        for (found, expected) in
            map.place(&rows).unwrap().as_flattened().iter().zip(expected.1.as_flattened())
        {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
    }

    #[test]
    fn many_rows_and_features_have_axes_of_length_1_that_are_orthogonal() {
        let value = |i: usize, j: usize| ((i * 7 + j * 13) % 101) as f32 * if j < 2 { 3.0 } else { 0.1 };
        let rows: Vec<f32> = (0..2500 * 30).map(|k| value(k / 30, k % 30)).collect();
        let rows = Tensor::from_vec(rows, (2500, 30), &Device::Cpu).unwrap();
        let map = FeatureMap::new(&rows).unwrap().unwrap();
        let product = map.axes.t().unwrap().matmul(&map.axes).unwrap().to_vec2::<f32>().unwrap();
        assert!((product[0][0] - 1.0).abs() < 1e-5 && (product[1][1] - 1.0).abs() < 1e-5, "{product:?}");
        assert!(product[0][1].abs() < 1e-5 && map.explained[0] >= map.explained[1]);
    }

    #[test]
    fn rows_that_are_equal_or_on_a_line_have_none() {
        assert!(FeatureMap::new(&tensor(&[[1.0; 4]; 5])).unwrap().is_none());
        assert!(FeatureMap::new(&tensor(&[[1.0; 4], [2.0; 4], [3.0; 4], [5.0; 4]])).unwrap().is_none());
        assert!(FeatureMap::new(&tensor(&[[1.0; 4], [2.0; 4]])).unwrap().is_none());
    }
}
