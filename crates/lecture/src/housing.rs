//! California housing: a CSV file that the reader names, or a drawn table of the same columns.

use std::path::Path;

use candle_core::{Device, Tensor};
use firstsight_data::{Sampling, Table, TensorBatches, train_test_split};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use firstsight_report::escape_markup;
use firstsight_transfer::files;

use crate::Result;

pub(super) const FEATURES: [&str; 8] =
    ["MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude"];
pub(super) const TARGET: &str = "MedHouseVal";

/// Rows of the real table, and of the drawn one.
const ROWS: usize = 20_640;

/// The seed of both splits.
const RANDOM_STATE: u32 = 1;

const BATCH: usize = 256;

/// Standardized features (N, 8) and targets (N,) of 60, 20 and 20 % of the rows.
pub(super) struct Housing {
    pub(super) source: String,
    pub(super) real: bool,
    train: (Tensor, Tensor),
    pub(super) val: TensorBatches,
    pub(super) test: TensorBatches,
}

impl Housing {
    /// Reads `file`, or else the table that is drawn into the folder `datasets`.
    pub(super) fn read(file: Option<&Path>, datasets: &Path, seed: u64, device: &Device) -> Result<Self> {
        let (table, source) = match file {
            Some(path) => {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
                (Table::read_csv(path)?, format!("the table {}", escape_markup(&name)))
            }
            None => {
                files::create_dir(datasets)?;
                let path = datasets.join(format!("housing-{seed}.csv"));
                files::write(&path, drawn(seed).as_bytes())?;
                (Table::read_csv(&path)?, format!("a housing table that this program draws, seed {seed}"))
            }
        };
        let real = file.is_some();
        for name in FEATURES.iter().chain([&TARGET]) {
            if !table.columns().iter().any(|column| column == name) {
                let path = file.map_or_else(|| source.clone(), |path| path.display().to_string());
                let expected = format!("{} and {TARGET}", FEATURES.join(", "));
                return Err(crate::Error::Column { path: path.into(), column: name, expected });
            }
        }
        let (rest, test) = train_test_split(table.n_rows(), 0.2, RANDOM_STATE)?;
        let (train, val) = train_test_split(rest.len(), 0.25, RANDOM_STATE)?;
        let of_rest = |places: &[usize]| places.iter().map(|&i| rest[i]).collect::<Vec<_>>();
        let (train, val) = (of_rest(&train), of_rest(&val));

        let features = table.select(&FEATURES)?;
        let scaler = features.subset(&train).standardizer();
        let targets = table.column(TARGET).unwrap_or_default();
        let tensors = |rows: &[usize]| -> Result<(Tensor, Tensor)> {
            let x = scaler.transform(&features.subset(rows))?;
            let x: Vec<f32> = x.rows().flatten().map(|&v| v as f32).collect();
            let y: Vec<f32> = rows.iter().map(|&i| targets[i] as f32).collect();
            let n = rows.len();
            Ok((Tensor::from_vec(x, (n, FEATURES.len()), device)?, Tensor::from_vec(y, n, device)?))
        };
        let in_order = |(x, y)| TensorBatches::new(x, y, BATCH, Sampling::Sequential);
        Ok(Self {
            source,
            real,
            train: tensors(&train)?,
            val: in_order(tensors(&val)?)?,
            test: in_order(tensors(&test)?)?,
        })
    }

    /// The training rows in batches of 256, shuffled from `seed`.
    pub(super) fn train(&self, seed: u64) -> Result<TensorBatches> {
        let (x, y) = self.train.clone();
        Ok(TensorBatches::new(x, y, BATCH, Sampling::Shuffled { seed })?)
    }

    /// Rows to train, validate and test on.
    pub(super) fn sizes(&self) -> [usize; 3] {
        use firstsight_data::Batches as _;
        [self.train.1.elem_count(), self.val.n_examples(), self.test.n_examples()]
    }
}

/// A table of the real one's columns and sizes. Incomes and sizes of households are log-normal, ages uniform,
/// places lie along a coast line; the value rises with income, falls with the distance from two centers, and
/// carries noise; it is cut off at 5, as the real one is.
fn drawn(seed: u64) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut text = format!("{},{TARGET}\n", FEATURES.join(","));
    for _ in 0..ROWS {
        let mut normal = || rng.sample::<f64, _>(StandardNormal);
        let income = (1.25 + 0.47 * normal()).exp().clamp(0.5, 15.0);
        let rooms = (1.65 + 0.12 * income.ln() + 0.25 * normal()).exp();
        let bedrooms = (0.06 + 0.12 * normal()).exp();
        let occupants = (1.05 + 0.25 * normal()).exp();
        let population = (7.0 + 0.7 * normal()).exp().round().max(3.0);
        let along = rng.random::<f64>();
        let inland = rng.random::<f64>().powi(2);
        let age = (1.0 + 51.0 * rng.random::<f64>()).round();
        let latitude = 32.5 + 9.0 * along;
        let longitude = -117.2 - 7.0 * along + 4.5 * inland;
        let distance = |lat: f64, lon: f64| ((latitude - lat).powi(2) + (longitude - lon).powi(2)).sqrt();
        let center = (-distance(34.0, -118.3)).exp() + 1.3 * (-distance(37.7, -122.3)).exp();
        let noise = 0.08 * rng.sample::<f64, _>(StandardNormal);
        let log_value =
            -0.75 + 0.75 * income.ln() + 0.8 * center - 0.25 * (occupants / 3.0).ln() + 0.003 * age + noise;
        let value = log_value.exp().clamp(0.15, 5.0);
        text.push_str(&format!(
            "{income},{age},{rooms},{bedrooms},{population},{occupants},{latitude},{longitude},{value}\n"
        ));
    }
    text
}
