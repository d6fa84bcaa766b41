//! A trained network that labels images.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use firstsight_data::{
    Batches as _, DecodedImage, ImageDataset, InputSpec, Sample, Task, decode_bytes, decoding_memory,
};
use firstsight_models::ImageClassifier;
use firstsight_train::{Inference, Outputs, PackedWeights, Predictions, gather, outputs, predict};
use rayon::prelude::*;

use crate::class_means::Measuring;
use crate::task::{Target, TaskAnswer, TaskRow};
use crate::training::{evaluation_batch, in_order};
use crate::{Error, Pretrained, Reject, Rejection, Result, RunFolder, Runtime, Thresholds};

/// A network with its weights, its input and the names of its outputs.
#[derive(Debug)]
pub struct Classifier {
    /// The network.
    pub network: ImageClassifier,
    /// The file of its weights.
    pub weights: PathBuf,
    /// The source of its weights, in words.
    pub origin: String,
    /// Preprocessing of an image file.
    pub input: InputSpec,
    /// The names of its outputs.
    pub label_names: Vec<String>,
    /// The meaning of its outputs.
    pub target: Target,
    /// The temperature that probabilities are calibrated with: a run's, from its validation images. 1 or `None` gives the
    /// network's own. The thresholds of [`reject`](Self::reject) are for probabilities of the run's.
    pub temperature: Option<f64>,
    /// What a run knows about images of none of its classes.
    pub reject: Option<Reject>,
    /// Of the network, between predictions.
    pub(crate) packed: PackedWeights,
    pub(crate) device: Device,
    runtime: Option<Runtime>,
}

/// A class with its probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The index among the network's outputs.
    pub index: usize,
    /// The class's name.
    pub label: String,
    /// The probability, in [0, 1], calibrated where the classifier has a temperature.
    pub probability: f32,
    /// The probability that the network itself gives: the softmax of its outputs.
    pub uncalibrated: f32,
}

/// What is asked of a classifier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PredictOptions {
    /// Number of classes in each answer.
    pub top: usize,
    /// When to answer that an image is none of the classes; see [`Reject::thresholds`].
    pub reject: Option<Thresholds>,
}

/// An image file with its answer, or the reason that there is none.
#[derive(Debug)]
pub struct Row {
    /// The file.
    pub image: PathBuf,
    /// The answer, or the error of reading the file.
    pub answer: Result<Answer, firstsight_data::Error>,
}

/// What a classifier says of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The most probable classes, best first.
    pub predictions: Vec<Prediction>,
    /// Where thresholds were given: the indices of all classes that are probable enough, best first.
    pub set: Vec<usize>,
    /// Why the image is none of the classes, if thresholds were given and say so.
    pub rejection: Option<Rejection>,
    /// What was done to a file that is not as it should be, in words: "repaired: the end is missing".
    pub note: Option<String>,
}

/// An image file, decoded by a classifier's [`input`](Classifier::input), or the error of reading it.
pub type DecodedFile = (PathBuf, Result<DecodedImage, firstsight_data::Error>);

/// What is said of an image and what was done to its file, or the error of reading it.
pub(crate) type Decoded<A> = Result<(A, Option<String>), firstsight_data::Error>;

impl Classifier {
    /// The network of a run.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] for a folder that holds no run; those of [`RunFolder::load`].
    pub fn open(run: &Path, device: &Device) -> Result<Self> {
        let folder = RunFolder::open(run)?;
        let (network, config) = folder.load(device)?;
        Ok(Self {
            network,
            weights: folder.weights(),
            origin: format!("the run {}", run.display()),
            input: config.pretrained_cfg,
            label_names: config.label_names,
            target: config.target,
            temperature: config.temperature,
            reject: folder.read_reject(device)?,
            packed: PackedWeights::default(),
            device: device.clone(),
            runtime: None,
        })
    }

    /// A pretrained network with its own last layer. Classes without names are numbered. Weights of a run answer as the run does.
    ///
    /// # Errors
    ///
    /// [`Error::Models`] for weights that do not fit the network; [`Error::Setting`] for another number of names than
    /// the network has outputs; those of [`Reject::read`].
    pub fn pretrained(pretrained: Pretrained, names: Option<Vec<String>>, device: &Device) -> Result<Self> {
        let network = pretrained.load(device)?;
        let n = network.n_classes();
        let Pretrained { weights, input, origin, label_names, target, temperature, reject, .. } = pretrained;
        let numbered = || (0..n).map(|class| format!("class {class}")).collect();
        let label_names = names.or(label_names).unwrap_or_else(numbered);
        if label_names.len() != n {
            return Err(Error::Setting {
                setting: "label names",
                expected: format!("one for each of {n} outputs"),
                found: label_names.len().to_string(),
            });
        }
        Ok(Self {
            network,
            weights,
            origin,
            input,
            label_names,
            target,
            temperature,
            reject: reject.map(|path| Reject::read(&path, device)).transpose()?,
            packed: PackedWeights::default(),
            device: device.clone(),
            runtime: None,
        })
    }

    /// Works as a [`Runtime`] says. Before photos are decoded it is asked how much memory there is: one that needs more is a row
    /// with an error. Its processes share out the batches of images, and the first gets all rows.
    #[must_use]
    pub fn within(self, runtime: &Runtime) -> Self {
        Self { runtime: Some(runtime.clone()), ..self }
    }

    /// The classes of an image file, the most probable first.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for a file that cannot be decoded.
    pub fn predict(&self, path: &Path) -> Result<Vec<Prediction>> {
        let options = PredictOptions { top: self.label_names.len(), reject: None };
        let mut predictions = Vec::new();
        self.predict_images([Sample::file(path)], &options, |row| -> Result<()> {
            predictions = row.answer?.predictions;
            Ok(())
        })?;
        Ok(predictions)
    }

    /// Answers for images, in their order, each given to `on_row` as soon as it is there. A batch of images is decoded
    /// and in memory at a time. A file that cannot be read is a row as well; an error of `on_row` ends the work.
    ///
    /// ```no_run
    /// use candle_core::Device;
    /// use firstsight_data::Sample;
    /// use firstsight_transfer::{Classifier, PredictOptions};
    ///
    /// let classifier = Classifier::open("models/mine".as_ref(), &Device::Cpu)?;
    /// let photos = ["1.jpg", "2.jpg"].map(Sample::file);
    /// classifier.predict_images(photos, &PredictOptions { top: 1, reject: None }, |row| {
    ///     match row.answer {
    ///         Ok(answer) => println!("{}: {}", row.image.display(), answer.predictions[0].label),
    ///         Err(error) => println!("{error}"),
    ///     }
    ///     Ok::<(), firstsight_transfer::Error>(())
    /// })?;
    /// # Ok::<(), firstsight_transfer::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `on_row`; [`Error::Train`] for outputs that are NaN, [`Error::Setting`] for a network of several labels or of
    /// numbers (see [`predict_task`](Self::predict_task)) and for a temperature that is no number
    /// above 0.
    pub fn predict_images<E: From<Error>>(
        &self,
        images: impl IntoIterator<Item = Sample>,
        options: &PredictOptions,
        mut on_row: impl FnMut(Row) -> Result<(), E>,
    ) -> Result<(), E> {
        self.check_class_task()?;
        let mut images = images.into_iter();
        while let Some(rows) = self.next_rows(&mut images, |images| self.probabilities(images, options))? {
            for row in self.answers(rows, options) {
                on_row(row)?;
            }
        }
        Ok(())
    }

    /// Says of each image file the labels that it has, or its number, for a run of such a task: as
    /// [`predict_images`](Self::predict_images) for one class per image.
    ///
    /// # Errors
    ///
    /// Those of `on_row`; [`Error::Setting`] for a network that tells one class per image; [`Error::Train`] for outputs that are
    /// NaN.
    pub fn predict_task<E: From<Error>>(
        &self,
        images: impl IntoIterator<Item = Sample>,
        mut on_row: impl FnMut(TaskRow) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.target == Target::Class {
            return Err(E::from(self.other_task()));
        }
        let mut images = images.into_iter();
        while let Some(rows) = self.next_rows(&mut images, |images| self.outputs(images))? {
            for row in self.task_answers(rows)? {
                on_row(row)?;
            }
        }
        Ok(())
    }

    /// Answers for images that were decoded before, by the settings of [`input`](Self::input), in their order: one pass of the
    /// network. For programs that decode elsewhere, such as a service.
    ///
    /// # Errors
    ///
    /// As [`predict_images`](Self::predict_images).
    pub fn predict_decoded(&self, images: Vec<DecodedFile>, options: &PredictOptions) -> Result<Vec<Row>> {
        self.check_class_task()?;
        let rows = self.rows_of(images, |images| self.probabilities(images, options))?;
        Ok(self.answers(rows, options))
    }

    /// A decoded image as the network takes it: (1, C, H, W), normalized.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for an image of another size than [`input`](Self::input)'s.
    pub fn tensor(&self, image: &DecodedImage) -> Result<Tensor> {
        let (channels, height, width) = self.input.input_size;
        let (pixels, size) = (image.pixels.clone(), (height, width, channels));
        let one = ImageDataset::from_pixels(pixels, size, vec![0], self.label_names.clone())?;
        let found = in_order(&one, &self.input, &self.device)?.epoch(0).next();
        let batch = found.ok_or_else(|| Error::Setting {
            setting: "the image",
            expected: "pixels".to_owned(),
            found: "none".to_owned(),
        })?;
        Ok(batch?.inputs)
    }

    /// As [`predict_decoded`](Self::predict_decoded), for a network of several labels or of numbers.
    ///
    /// # Errors
    ///
    /// As [`predict_task`](Self::predict_task).
    pub fn predict_decoded_task(&self, images: Vec<DecodedFile>) -> Result<Vec<TaskRow>> {
        if self.target == Target::Class {
            return Err(self.other_task());
        }
        self.task_answers(self.rows_of(images, |images| self.outputs(images))?)
    }

    fn check_class_task(&self) -> Result<()> {
        if self.target != Target::Class {
            return Err(self.other_task());
        }
        match self.temperature.filter(|t| !(t.is_finite() && *t > 0.0)) {
            None => Ok(()),
            Some(temperature) => Err(Error::Setting {
                setting: "the temperature",
                expected: "a number above 0".to_owned(),
                found: temperature.to_string(),
            }),
        }
    }

    /// The network's own outputs for each image.
    fn outputs(&self, images: &ImageDataset) -> Result<Vec<Vec<f32>>> {
        let network = Inference::in_pool(&self.network, &self.packed);
        let Outputs { values, n_outputs, .. } =
            outputs(&network, &in_order(images, &self.input, &self.device)?)?;
        Ok(values.chunks_exact(n_outputs).map(<[f32]>::to_vec).collect())
    }

    /// The answers by [`outputs`](Self::outputs).
    fn task_answers(&self, rows: Vec<Numbered>) -> Result<Vec<TaskRow>> {
        let row = |(image, decoded): Numbered| {
            let (answer, note) = match decoded {
                Ok((row, note)) => {
                    let answer = TaskAnswer::of(&self.target, &self.label_names, &row);
                    (Ok(answer.ok_or_else(|| self.other_task())?), note)
                }
                Err(error) => (Err(error), None),
            };
            Ok(TaskRow { image, answer, note })
        };
        rows.into_iter().map(row).collect()
    }

    fn other_task(&self) -> Error {
        let task = self.target.task();
        Error::Setting {
            setting: "the task",
            expected: match task {
                Task::SingleLabel => "a network for several labels or for numbers".to_owned(),
                Task::MultiLabel | Task::Regression => "a network for one class per image".to_owned(),
            },
            found: format!("one for {task}"),
        }
    }

    /// What the network gives for each of the next images: a batch of them, or one for each of several processes, of which the
    /// first gets all. `None` after the last.
    pub(crate) fn next_rows(
        &self,
        images: &mut impl Iterator<Item = Sample>,
        of_images: impl FnOnce(&ImageDataset) -> Result<Vec<Vec<f32>>>,
    ) -> Result<Option<Vec<Numbered>>> {
        let batch = evaluation_batch(&self.input);
        let processes = self.runtime.as_ref().map(|runtime| &*runtime.communicator);
        let (rank, size) = processes.map_or((0, 1), |processes| (processes.rank(), processes.size()));
        let round: Vec<Sample> = images.by_ref().take(batch * size).collect();
        let own = round.iter().skip(rank * batch).take(batch).cloned().collect();
        match processes.filter(|processes| processes.size() > 1) {
            _ if round.is_empty() => Ok(None),
            None => self.rows(own, of_images).map(Some),
            Some(processes) => {
                let all = gather(processes, self.rows(own, of_images).and_then(|rows| to_bytes(&rows)))?;
                let is_root = rank == 0;
                let paths = round.into_iter().map(|sample| sample.path());
                let rows: Vec<_> =
                    all.iter().map(|rows| from_bytes(rows)).collect::<Result<Vec<_>>>()?.concat();
                let rows =
                    paths.zip(rows).map(|(path, row)| (path, row.map_err(firstsight_data::Error::Said)));
                Ok(Some(rows.filter(|_| is_root).collect()))
            }
        }
    }

    /// Decodes images side by side, those that take a large part of the memory one after the other.
    fn decoded(&self, batch: &[Sample]) -> Vec<firstsight_data::Result<DecodedImage>> {
        let settings = self.input.decode_settings();
        let available = || self.runtime.as_ref().and_then(Runtime::available).unwrap_or(u64::MAX);
        let share = available() / (2 * rayon::current_num_threads() as u64);
        let within = |sample: &Sample, limit: u64| {
            let bytes = sample.read()?;
            // What isn't known to be too large is decoded: that tells what is wrong with it.
            match decoding_memory(&sample.path(), &bytes, &settings).unwrap_or(0) {
                needed if needed > limit => Ok(Err(needed)),
                _ => decode_bytes(&sample.path(), &bytes, &settings).map(Ok),
            }
        };
        let side_by_side: Vec<_> = batch.par_iter().map(|sample| within(sample, share)).collect();
        let alone = |(sample, found): (&Sample, _)| match found {
            Ok(Ok(image)) => Ok(image),
            Err(error) => Err(error),
            Ok(Err(_)) => {
                let available = available();
                let too_large = |needed| {
                    let path = sample.path();
                    firstsight_data::Error::DecodingMemory { path, needed, available }
                };
                within(sample, available)?.map_err(too_large)
            }
        };
        batch.iter().zip(side_by_side).map(alone).collect()
    }

    /// Decodes a batch for [`rows_of`](Self::rows_of).
    fn rows<A>(
        &self,
        batch: Vec<Sample>,
        answers: impl FnOnce(&ImageDataset) -> Result<Vec<A>>,
    ) -> Result<Vec<(PathBuf, Decoded<A>)>> {
        let decoded = self.decoded(&batch);
        self.rows_of(batch.iter().map(Sample::path).zip(decoded).collect(), answers)
    }

    /// Lets `answers` say something of each image that could be read, and puts it beside the file.
    fn rows_of<A>(
        &self,
        mut decoded: Vec<DecodedFile>,
        answers: impl FnOnce(&ImageDataset) -> Result<Vec<A>>,
    ) -> Result<Vec<(PathBuf, Decoded<A>)>> {
        let mut pixels = Vec::new();
        let mut n = 0;
        for image in decoded.iter_mut().filter_map(|(_, image)| image.as_mut().ok()) {
            pixels.append(&mut image.pixels);
            n += 1;
        }
        let (channels, height, width) = self.input.input_size;
        let (unknown, size) = (vec![0; n], (height, width, channels));
        let images = ImageDataset::from_pixels(pixels, size, unknown, self.label_names.clone())?;
        let mut answers = if n > 0 { answers(&images)? } else { Vec::new() }.into_iter();
        let mut rows = Vec::with_capacity(decoded.len());
        for (path, decoded) in decoded {
            let row = match decoded {
                Ok(decoded) => match answers.next() {
                    Some(answer) => Ok((answer, decoded.note)),
                    None => break,
                },
                Err(error) => Err(error),
            };
            rows.push((path, row));
        }
        Ok(rows)
    }

    /// The probabilities of each image's classes and, where means tell images of no class, its distance.
    fn probabilities(&self, images: &ImageDataset, options: &PredictOptions) -> Result<Vec<Vec<f32>>> {
        let means = self.reject.as_ref().filter(|_| options.reject.is_some());
        let measuring =
            Measuring::new(&self.network, &self.packed, means.and_then(|reject| reject.means.as_ref()));
        let raw = predict(&measuring, &in_order(images, &self.input, &self.device)?)?;
        let distances = measuring.into_places().map(|places| places.distances);
        let distance = |i: usize| distances.as_ref().map(|distances| distances[i]);
        Ok((0..raw.len()).map(|i| raw.row(i).iter().copied().chain(distance(i)).collect()).collect())
    }

    /// The answers by [`probabilities`](Self::probabilities).
    fn answers(&self, rows: Vec<Numbered>, options: &PredictOptions) -> Vec<Row> {
        let n_classes = self.label_names.len();
        let answer = |numbers: &[f32]| {
            let (probabilities, distance) = numbers.split_at(n_classes.min(numbers.len()));
            let raw = Predictions { probabilities: probabilities.to_vec(), labels: vec![0], n_classes };
            let calibrated = self.temperature.map(|t| raw.with_temperature(t));
            let calibrated = calibrated.as_ref().unwrap_or(&raw);
            let row = calibrated.row(0);
            let named = |(index, probability): (usize, f32)| Prediction {
                index,
                label: self.label_names[index].clone(),
                probability,
                uncalibrated: raw.row(0)[index],
            };
            Answer {
                predictions: calibrated.ranked(0, options.top).into_iter().map(named).collect(),
                set: options.reject.map(|thresholds| thresholds.set(row)).unwrap_or_default(),
                rejection: options
                    .reject
                    .and_then(|thresholds| thresholds.judge(row, distance.first().copied())),
                note: None,
            }
        };
        let row = |(image, decoded): Numbered| Row {
            image,
            answer: decoded.map(|(numbers, note)| Answer { note, ..answer(&numbers) }),
        };
        rows.into_iter().map(row).collect()
    }
}

/// An image with what the network gives for it, and what was done to its file, or the error of reading it.
pub(crate) type Numbered = (PathBuf, Decoded<Vec<f32>>);

/// A row from another process: numbers, or their bits, and what was done to the file, or the error of reading it.
type Said<N> = Result<(Vec<N>, Option<String>), String>;

fn to_bytes(rows: &[Numbered]) -> Result<Vec<u8>> {
    let said = |(_, row): &Numbered| -> Said<u32> {
        let (numbers, note) = row.as_ref().map_err(ToString::to_string)?;
        Ok((numbers.iter().map(|number| number.to_bits()).collect(), note.clone()))
    };
    serde_json::to_vec(&rows.iter().map(said).collect::<Vec<_>>()).map_err(unreadable)
}

fn from_bytes(bytes: &[u8]) -> Result<Vec<Said<f32>>> {
    let rows: Vec<Said<u32>> = serde_json::from_slice(bytes).map_err(unreadable)?;
    let heard =
        |(bits, note): (Vec<u32>, Option<String>)| (bits.into_iter().map(f32::from_bits).collect(), note);
    Ok(rows.into_iter().map(|row| row.map(heard)).collect())
}

fn unreadable(error: serde_json::Error) -> Error {
    firstsight_train::Error::Communication(error.to_string()).into()
}
