//! The module `firstsight._firstsight`, which `python/firstsight/__init__.py` wraps.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use firstsight::device::{self, DeviceName};
use firstsight_data::{Sample, decode_bytes};
use firstsight_transfer::task::{TaskAnswer, TaskRow};
use firstsight_transfer::training::evaluation_batch;
use firstsight_transfer::{
    AnswerJson, DecodedFile, Error, PredictOptions, Row, Target, TaskAnswerJson, Thresholds,
};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyFileNotFoundError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rayon::prelude::*;

create_exception!(firstsight, FirstsightError, PyException, "What went wrong, in words.");
create_exception!(
    firstsight,
    RunError,
    FirstsightError,
    "A folder that is no run, or one whose files cannot be used."
);
create_exception!(firstsight, ImageError, FirstsightError, "An image that cannot be read.");

/// An image, as Python gives it.
#[derive(FromPyObject)]
enum Input {
    /// A file.
    Path(PathBuf),
    /// Pixels (H, W, C) by rows, with height, width and channels.
    Pixels(Vec<u8>, usize, usize, usize),
}

impl Input {
    fn path(&self) -> PathBuf {
        match self {
            Self::Path(path) => path.clone(),
            Self::Pixels(..) => PathBuf::from("array"),
        }
    }

    /// The pixels as a network takes them. An array goes the way of a file, as one of PNM, which has no header but its size.
    fn decoded(&self, of: &firstsight_transfer::Classifier) -> DecodedFile {
        let (path, settings) = (self.path(), of.input.decode_settings());
        let image = match self {
            Self::Path(path) => {
                Sample::file(path).read().and_then(|bytes| decode_bytes(path, &bytes, &settings))
            }
            Self::Pixels(pixels, height, width, channels) => {
                let kind = if *channels == 1 { "P5" } else { "P6" };
                let header = format!("{kind}\n{width} {height}\n255\n");
                decode_bytes(&path, &[header.as_bytes(), pixels].concat(), &settings)
            }
        };
        (path, image)
    }
}

/// What is said of a batch.
enum Rows {
    Classes(Vec<Row>),
    Other(Vec<TaskRow>),
}

/// The network of a run.
#[pyclass(frozen, module = "firstsight._firstsight")]
struct Classifier(Mutex<firstsight_transfer::Classifier>);

#[pymethods]
impl Classifier {
    #[new]
    fn new(py: Python<'_>, run: PathBuf, device: Option<&str>) -> PyResult<Self> {
        let device: Option<DeviceName> =
            device.map(str::parse).transpose().map_err(|error: String| PyValueError::new_err(error))?;
        let device = device::open(device).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let opened = py.detach(|| firstsight_transfer::Classifier::open(&run, &device));
        match opened {
            Ok(classifier) => Ok(Self(Mutex::new(classifier))),
            Err(_) if !run.exists() => {
                Err(PyFileNotFoundError::new_err(format!("no run at {}", run.display())))
            }
            Err(error) => Err(RunError::new_err(error.to_string())),
        }
    }

    #[getter]
    fn labels(&self, py: Python<'_>) -> Vec<String> {
        self.of(py, |classifier| classifier.label_names.clone())
    }

    #[getter]
    fn task(&self, py: Python<'_>) -> String {
        self.of(py, |classifier| classifier.target.task().to_string())
    }

    /// (C, H, W).
    #[getter]
    fn input_size(&self, py: Python<'_>) -> (usize, usize, usize) {
        self.of(py, |classifier| classifier.input.input_size)
    }

    #[getter]
    fn temperature(&self, py: Python<'_>) -> Option<f64> {
        self.of(py, |classifier| classifier.temperature)
    }

    /// The rows of `predict --json`, each as JSON.
    fn predict(
        &self,
        py: Python<'_>,
        images: Vec<Input>,
        top: usize,
        reject: Option<f64>,
    ) -> PyResult<Vec<String>> {
        let thresholds = self.thresholds(py, reject)?;
        let options = PredictOptions { top, reject: thresholds };
        let mut said = Vec::with_capacity(images.len());
        self.each_batch(py, &images, &options, |classifier, rows| {
            let text = |row: serde_json::Result<String>| {
                row.map_err(|error| FirstsightError::new_err(error.to_string()))
            };
            match rows {
                Rows::Classes(rows) => {
                    for row in &rows {
                        let row = AnswerJson::new(row, classifier, reject.is_some());
                        said.push(text(serde_json::to_string(&row))?);
                    }
                }
                Rows::Other(rows) => {
                    for row in &rows {
                        said.push(text(serde_json::to_string(&TaskAnswerJson::from(row)))?);
                    }
                }
            }
            Ok(())
        })?;
        Ok(said)
    }

    /// The probabilities of all labels, or the numbers, of each image: (N, K) float32 by rows, as bytes.
    fn probabilities<'py>(&self, py: Python<'py>, images: Vec<Input>) -> PyResult<Bound<'py, PyBytes>> {
        let n_labels = self.of(py, |classifier| classifier.label_names.len());
        let options = PredictOptions { top: n_labels, reject: None };
        let mut numbers: Vec<f32> = Vec::with_capacity(images.len() * n_labels);
        self.each_batch(py, &images, &options, |_, rows| {
            match rows {
                Rows::Classes(rows) => {
                    for row in rows {
                        let answer = row.answer.map_err(|error| ImageError::new_err(error.to_string()))?;
                        let mut of_image = vec![0.0; n_labels];
                        answer.predictions.iter().for_each(|guess| of_image[guess.index] = guess.probability);
                        numbers.append(&mut of_image);
                    }
                }
                Rows::Other(rows) => {
                    for row in rows {
                        match row.answer.map_err(|error| ImageError::new_err(error.to_string()))? {
                            TaskAnswer::Labels { labels } => {
                                numbers.extend(labels.iter().map(|label| label.probability));
                            }
                            TaskAnswer::Value { value, .. } => numbers.push(value),
                        }
                    }
                }
            }
            Ok(())
        })?;
        let bytes: Vec<u8> = numbers.into_iter().flat_map(f32::to_ne_bytes).collect();
        Ok(PyBytes::new(py, &bytes))
    }
}

impl Classifier {
    fn lock(&self) -> MutexGuard<'_, firstsight_transfer::Classifier> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Without the interpreter's lock, since another thread may have the network and wait for it.
    fn of<T: Send>(
        &self,
        py: Python<'_>,
        read: impl FnOnce(&firstsight_transfer::Classifier) -> T + Send,
    ) -> T {
        py.detach(|| read(&self.lock()))
    }

    fn thresholds(&self, py: Python<'_>, coverage: Option<f64>) -> PyResult<Option<Thresholds>> {
        let Some(coverage) = coverage else { return Ok(None) };
        let found = self.of(py, |classifier| {
            classifier
                .reject
                .as_ref()
                .map(|reject| reject.thresholds(coverage).map_err(|error| error.to_string()))
        });
        match found {
            None => Err(PyValueError::new_err(
                "the run knows nothing of images of no class: it has no reject.safetensors",
            )),
            Some(Err(error)) => Err(PyValueError::new_err(error)),
            Some(Ok(thresholds)) => Ok(Some(thresholds)),
        }
    }

    /// Gives what the network says of the images to `on_rows`, a batch at a time: that of `predict`, since a network's last bits may
    /// depend on it. Between batches, Ctrl-C is heeded.
    fn each_batch(
        &self,
        py: Python<'_>,
        images: &[Input],
        options: &PredictOptions,
        mut on_rows: impl FnMut(&firstsight_transfer::Classifier, Rows) -> PyResult<()> + Send,
    ) -> PyResult<()> {
        let batch = self.of(py, |classifier| evaluation_batch(&classifier.input));
        for images in images.chunks(batch) {
            py.check_signals()?;
            py.detach(|| {
                let classifier = self.lock();
                let rows = rows(&classifier, images, options).map_err(|error| python_error(&error))?;
                on_rows(&classifier, rows)
            })?;
        }
        Ok(())
    }
}

fn rows(
    classifier: &firstsight_transfer::Classifier,
    images: &[Input],
    options: &PredictOptions,
) -> Result<Rows, Error> {
    let decoded: Vec<DecodedFile> = images.par_iter().map(|image| image.decoded(classifier)).collect();
    Ok(match classifier.target {
        Target::Class => Rows::Classes(classifier.predict_decoded(decoded, options)?),
        Target::Labels { .. } | Target::Value { .. } => {
            Rows::Other(classifier.predict_decoded_task(decoded)?)
        }
    })
}

fn python_error(error: &Error) -> PyErr {
    match error {
        Error::Setting { .. } => PyValueError::new_err(error.to_string()),
        _ => FirstsightError::new_err(error.to_string()),
    }
}

/// Runs the command with these arguments, and returns its exit code.
#[pyfunction]
fn main(py: Python<'_>, arguments: Vec<std::ffi::OsString>) -> u8 {
    py.detach(|| firstsight::main_from(arguments))
}

#[pymodule]
mod _firstsight {
    use super::*;

    #[pymodule_export]
    use super::{Classifier, FirstsightError, ImageError, RunError, main};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
