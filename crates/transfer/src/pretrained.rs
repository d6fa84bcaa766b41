use std::path::{Path, PathBuf};

use candle_core::Device;
use firstsight_data::{InputSpec, Reading};
use firstsight_models::{
    Block, ForeignFile, ImageClassifier, InputShape, ModelInfo, Params, Renaming, WeightsHeader, registry,
};

use crate::hub::{commit_of, is_repository};
use crate::imagenet::imagenet_classes;
use crate::task::Target;
use crate::{Error, Hub, HubError, HubFile, HubModelConfig, HubProgress, Result};

const WEIGHTS: &str = "model.safetensors";
/// Weights in several files.
const INDEX: &str = "model.safetensors.index.json";
const CONFIG: &str = "config.json";
/// What a run knows about images of none of its classes.
const REJECT: &str = "reject.safetensors";
/// Ends the name of a repository in [`Pretrained::origin`].
const ON_THE_HUB: &str = " on the hub";

/// Where pretrained weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightsSource {
    /// The [published](firstsight_models::Weights) ones, from the hub.
    Published,
    /// Any hub repository in timm's layout: `config.json` and `model.safetensors`.
    Repository {
        /// `owner/name`.
        repository: String,
        /// A branch, tag or commit.
        revision: String,
    },
    /// A folder in that layout, or a safetensors file.
    Local(PathBuf),
}

impl WeightsSource {
    /// A path that exists, or `owner/name`, `owner/name@revision`, either with `hf-hub:` or `hf_hub:` before it as in
    /// timm.
    ///
    /// # Errors
    /// [`Error::NoSource`].
    pub fn parse(text: &str) -> Result<Self> {
        let stripped = text.strip_prefix("hf-hub:").or_else(|| text.strip_prefix("hf_hub:"));
        if stripped.is_none() && Path::new(text).exists() {
            return Ok(Self::Local(PathBuf::from(text)));
        }
        let id = stripped.unwrap_or(text);
        let (repository, revision) = id.split_once('@').unwrap_or((id, "main"));
        if !is_repository(repository) || revision.is_empty() {
            return Err(Error::NoSource(text.to_owned()));
        }
        Ok(Self::Repository { repository: repository.to_owned(), revision: revision.to_owned() })
    }
}

/// Pretrained weights on this machine, with what they want their input to be.
///
/// ```no_run
/// use candle_core::Device;
/// use firstsight_models::networks::MOBILENET_V2;
/// use firstsight_transfer::{Hub, HubConfig, Pretrained, WeightsSource};
///
/// let hub = Hub::new(HubConfig::new("/home/me/.cache/huggingface/hub".into()))?;
/// let weights = Pretrained::locate(&MOBILENET_V2, &WeightsSource::Published, &hub, &mut |_| ())?;
/// let network = weights.load(&Device::Cpu)?;
/// # Ok::<(), firstsight_transfer::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Pretrained {
    /// The network.
    pub model: &'static ModelInfo,
    /// The safetensors file.
    pub weights: PathBuf,
    /// Preprocessing of an image.
    pub input: InputSpec,
    /// Height and width of the inputs that the file's positions are for, where they are known. `input` may be changed, these stay.
    pub size: Option<(usize, usize)>,
    /// How the pixels of files were read in training, where the weights' `config.json` says.
    pub reading: Option<Reading>,
    /// Outputs of the last layer; 0 for weights without one.
    pub n_classes: usize,
    /// The classes' names, where the weights' `config.json` has them or says that they are ImageNet-1k's.
    pub label_names: Option<Vec<String>>,
    /// The meaning of the outputs: a run's, or else classes.
    pub target: Target,
    /// The temperature of a run's probabilities.
    pub temperature: Option<f64>,
    /// The file of what a run knows about images of none of its classes: see [`Reject::read`](crate::Reject::read).
    pub reject: Option<PathBuf>,
    /// The source, in words.
    pub origin: String,
    /// The license, where it is known.
    pub license: Option<&'static str>,
    /// How the names in the file are read.
    pub renaming: Renaming,
    /// Whether `input` has one channel and the file's first convolution more, which are summed.
    pub for_gray: bool,
    /// Whether a `config.json` says how images are fitted and normalized, or the weights are known; otherwise the network's
    /// usual way is assumed.
    pub has_config: bool,
}

impl Pretrained {
    /// Finds the weights of `model`, fetching them from the hub if need be.
    ///
    /// # Errors
    /// Those of [`Hub::fetch`]; [`Error::Config`] and [`Error::Architecture`] for files of another network;
    /// [`Error::Unpublished`].
    pub fn locate(
        model: &'static ModelInfo,
        source: &WeightsSource,
        hub: &Hub,
        progress: &mut dyn FnMut(HubProgress<'_>),
    ) -> Result<Self> {
        match source {
            WeightsSource::Local(path) => Self::local(model, path),
            WeightsSource::Published => {
                let known = model.weights.first().ok_or(Error::Unpublished(model.name))?;
                let file = HubFile {
                    repository: known.repository,
                    revision: known.revision,
                    file: known.file,
                    sha256: known.sha256,
                };
                let weights = hub.fetch(&file, progress)?;
                let input = (known.input)();
                Ok(Self {
                    model,
                    weights,
                    size: Some((input.input_size.1, input.input_size.2)),
                    input,
                    reading: None,
                    n_classes: known.n_classes,
                    label_names: (known.n_classes == 1000).then(imagenet_names),
                    target: Target::Class,
                    temperature: None,
                    reject: None,
                    origin: format!("{}{ON_THE_HUB}", known.repository),
                    license: known.license,
                    renaming: Renaming::default(),
                    for_gray: false,
                    has_config: true,
                })
            }
            WeightsSource::Repository { repository, revision } => {
                let config =
                    hub.fetch(&HubFile { repository, revision, file: CONFIG, sha256: None }, progress)?;
                // Weights of another network need not be fetched to find that out.
                let stated = HubModelConfig::read(&config, &usual_input(model))?;
                check_architecture(model, &stated, &config)?;
                // The branch may have moved on since the configuration was fetched.
                let commit = commit_of(&config, CONFIG).unwrap_or(revision);
                let mut fetch = |file| match hub
                    .fetch(&HubFile { repository, revision: commit, file, sha256: None }, progress)
                {
                    Err(HubError::NotFound { what: "file", .. }) => Ok(None),
                    fetched => fetched.map(Some),
                };
                let weights = fetch(WEIGHTS)?;
                let weights =
                    weights.ok_or_else(|| Error::NoSafetensors { repository: repository.clone() })?;
                let reject = if stated.rejects { fetch(REJECT)? } else { None };
                Self::read(model, weights, Some(config), reject, format!("{repository}{ON_THE_HUB}"))
            }
        }
    }

    /// The weights of `model` in a folder that holds `model.safetensors` (or its parts with their index) and, perhaps,
    /// `config.json`, or in a file beside which `config.json` may lie.
    ///
    /// # Errors
    /// As [`Pretrained::locate`]; [`Error::NoWeights`] for a folder without weights.
    pub fn local(model: &'static ModelInfo, path: &Path) -> Result<Self> {
        let (weights, config) = match path.is_dir() {
            true => (in_folder(path)?, path.join(CONFIG)),
            false => (path.to_path_buf(), path.with_file_name(CONFIG)),
        };
        let config = config.exists().then_some(config);
        let reject = config.as_ref().map(|config| config.with_file_name(REJECT));
        let reject = reject.filter(|path| path.is_file());
        Self::read(model, weights, config, reject, path.display().to_string())
    }

    /// The weights in a folder whose `config.json` names the network, such as a run of ours or a clone of a hub
    /// repository.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a folder whose configuration names no known network; those of [`Pretrained::local`].
    pub fn folder(path: &Path) -> Result<Self> {
        let config = path.join(CONFIG);
        Self::local(stated_model(&config)?, path)
    }

    /// The weights of a hub repository whose `config.json` names the network: `owner/name` or `owner/name@revision`.
    ///
    /// # Errors
    ///
    /// As [`Pretrained::locate`].
    pub fn hub(id: &str, hub: &Hub, progress: &mut dyn FnMut(HubProgress<'_>)) -> Result<Self> {
        let source = WeightsSource::parse(id)?;
        let WeightsSource::Repository { repository, revision } = &source else {
            return Err(Error::NoSource(id.to_owned()));
        };
        let config = hub.fetch(&HubFile { repository, revision, file: CONFIG, sha256: None }, progress)?;
        Self::locate(stated_model(&config)?, &source, hub, progress)
    }

    fn read(
        model: &'static ModelInfo,
        weights: PathBuf,
        config: Option<PathBuf>,
        reject: Option<PathBuf>,
        origin: String,
    ) -> Result<Self> {
        let usual = usual_input(model);
        let stated = match &config {
            Some(path) => {
                let stated = HubModelConfig::read(path, &usual)?;
                check_architecture(model, &stated, path)?;
                Some(stated)
            }
            None => None,
        };
        let (n_classes, renaming) = outputs(model, &weights)?;
        if let (Some(HubModelConfig { num_classes: Some(stated), .. }), Some(path)) = (&stated, &config)
            && *stated != n_classes
            && n_classes > 0
        {
            let reason = format!("it states {stated} classes, and {} has {n_classes}", weights.display());
            return Err(Error::Config { path: path.clone(), reason });
        }
        let target = match (&stated, &config) {
            (Some(stated), Some(path)) if n_classes > 0 => {
                let unusable = |reason| Error::Config { path: path.clone(), reason };
                stated.target.clone().target(n_classes).map_err(unusable)?
            }
            _ => Target::Class,
        };
        let (reading, temperature) =
            stated.as_ref().map_or((None, None), |stated| (stated.reading, stated.temperature));
        let (input, label_names) = match stated {
            Some(stated) => {
                let imagenet = stated.is_imagenet().then(imagenet_names);
                (stated.input, stated.label_names.or(imagenet))
            }
            None => (usual, None),
        };
        // The libraries that have other names for a network publish its weights for ImageNet-1k alone.
        let published = || (renaming.other.is_some() && n_classes == 1000).then(imagenet_names);
        let label_names = label_names.filter(|names| names.len() == n_classes).or_else(published);
        Ok(Self {
            model,
            weights,
            size: config.is_some().then_some((input.input_size.1, input.input_size.2)),
            input,
            reading,
            n_classes,
            label_names,
            target,
            temperature,
            reject,
            origin,
            license: None,
            renaming,
            for_gray: false,
            has_config: config.is_some(),
        })
    }

    /// The same weights for images of so many channels.
    ///
    /// From color to gray, the first convolution's weight is summed over its channels, as in timm (`in_chans=1`), and mean
    /// and std are the averages over the channels, where timm leaves them to the caller. So a gray image gives nearly what
    /// it gives as a color image whose channels are equal.
    ///
    /// # Errors
    /// [`Error::Channels`] from gray to color, for which there is no rule.
    pub fn with_channels(mut self, channels: usize) -> Result<Self> {
        let (found, height, width) = self.input.input_size;
        if channels == found {
            return Ok(self);
        }
        if channels != 1 || self.model.first_conv.is_none() {
            return Err(Error::Channels { weights: self.weights, found, expected: channels });
        }
        let average = |values: &[f32]| vec![values.iter().sum::<f32>() / values.len() as f32];
        self.input.input_size = (1, height, width);
        (self.input.mean, self.input.std) = (average(&self.input.mean), average(&self.input.std));
        self.for_gray = true;
        Ok(self)
    }

    /// The repository of weights of this [`origin`](Self::origin), where they are one of the hub's.
    pub(crate) fn repository(origin: &str) -> Option<&str> {
        origin.strip_suffix(ON_THE_HUB).filter(|repository| is_repository(repository))
    }

    /// What a user should know of how the weights are read, if anything is out of the ordinary.
    pub fn remark(&self) -> Option<String> {
        let names = (!self.renaming.is_none()).then(|| self.renaming.to_string());
        let gray = self
            .for_gray
            .then(|| "its first convolution is summed over the colors, for gray images".to_owned());
        let assumed = (!self.has_config).then(|| self.assumed());
        let said: Vec<String> = names.into_iter().chain(gray).chain(assumed).collect();
        (!said.is_empty()).then(|| format!("{}: {}", self.origin, said.join("; ")))
    }

    /// What stands in the place of a `config.json`.
    fn assumed(&self) -> String {
        let InputSpec {
            input_size: (channels, height, width),
            interpolation,
            crop_mode,
            crop_pct,
            mean,
            std,
            ..
        } = &self.input;
        let classes = match (&self.label_names, self.n_classes) {
            (_, 0) => String::new(),
            (Some(_), n) => format!("; its {n} classes are taken for ImageNet's"),
            (None, n) => format!("; its {n} classes have no names"),
        };
        format!(
            "there is no config.json, so images are read as is usual for {}: {height}x{width}x{channels}, {interpolation}, \
             {crop_mode} {crop_pct}, mean {mean:?}, std {std:?}{classes}",
            self.model
        )
    }

    /// The network with these weights and its own last layer.
    ///
    /// # Errors
    /// [`Error::Config`] for weights without a last layer; [`firstsight_models::Error::Mismatch`] names the tensors that don't fit.
    pub fn load(&self, device: &Device) -> Result<ImageClassifier> {
        self.check_last_layer()?;
        let params = Params::zeros(device);
        let network = ImageClassifier::new(
            self.model,
            InputShape::from(&self.input),
            self.n_classes,
            self.model.init,
            &params,
        )?;
        self.load_into(&network)?;
        Ok(network)
    }

    /// The network's blocks from the input to the last layer: the units of fine-tuning.
    ///
    /// # Errors
    /// [`Error::Models`] for an input that the network cannot take.
    pub fn blocks(&self) -> Result<Vec<Block>> {
        let (input, params) = (InputShape::from(&self.input), Params::zeros(&Device::Cpu));
        Ok(ImageClassifier::new(self.model, input, self.n_classes.max(1), self.model.init, &params)?.blocks())
    }

    /// Checks that the weights have a last layer.
    ///
    /// # Errors
    /// [`Error::Config`] for weights without one.
    pub fn check_last_layer(&self) -> Result<()> {
        if self.n_classes > 0 {
            return Ok(());
        }
        let reason = format!(
            "the weights have no last layer ({}.weight is missing), so they tell no classes: fine-tune gives them one",
            self.model.head_name()
        );
        Err(Error::Config { path: self.weights.clone(), reason })
    }

    /// Sets the variables of a network of this kind, input and number of classes.
    ///
    /// # Errors
    /// [`firstsight_models::Error::Mismatch`] names the tensors that don't fit.
    pub fn load_into(&self, network: &ImageClassifier) -> Result<()> {
        match self.for_gray {
            true => network.load_for_gray(&self.weights, self.size)?,
            false => network.load_for_size(&self.weights, self.size)?,
        };
        Ok(())
    }
}

/// The file of weights in a folder.
fn in_folder(folder: &Path) -> Result<PathBuf> {
    let usual = [WEIGHTS, INDEX].map(|name| folder.join(name));
    if let Some(found) = usual.iter().find(|path| path.exists()) {
        return Ok(found.clone());
    }
    let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    let is = |path: &Path, endings: &[&str]| {
        path.extension().is_some_and(|end| endings.iter().any(|known| end.eq_ignore_ascii_case(known)))
    };
    let other = files.iter().find(|path| is(path, &["safetensors"])).cloned();
    let foreign = [
        "bin", "pt", "pth", "ckpt", "h5", "keras", "onnx", "pb", "tflite", "gguf", "npz", "zip", "gz",
        "msgpack",
    ];
    let foreign = files.iter().filter(|path| is(path, &foreign));
    Err(Error::NoWeights {
        folder: folder.to_path_buf(),
        other,
        foreign: foreign.filter_map(|path| ForeignFile::recognize(path)).next().map(Box::new),
    })
}

/// The network that a `config.json` names.
fn stated_model(config: &Path) -> Result<&'static ModelInfo> {
    let wrong = |reason: String| Error::Config { path: config.to_path_buf(), reason };
    let stated = HubModelConfig::read(config, &InputSpec::imagenet(3, 224, 224))?;
    let architecture = stated.architecture.ok_or_else(|| wrong("architecture is missing".to_owned()))?;
    registry::find(&architecture).map_err(|e| wrong(e.to_string()))
}

fn imagenet_names() -> Vec<String> {
    imagenet_classes().map(str::to_owned).collect()
}

fn usual_input(model: &'static ModelInfo) -> InputSpec {
    match model.weights.first() {
        Some(known) => (known.input)(),
        None => {
            let (c, h, w) = model.usual_input;
            model.input_spec(c, h, w)
        }
    }
}

fn check_architecture(model: &'static ModelInfo, stated: &HubModelConfig, path: &Path) -> Result<()> {
    let Some(architecture) = &stated.architecture else { return Ok(()) };
    match registry::find(architecture) {
        Ok(found) if found == model => Ok(()),
        _ => Err(Error::Architecture {
            path: path.to_path_buf(),
            expected: model.architecture(),
            found: architecture.clone(),
        }),
    }
}

/// The rows of the last layer's weight, from the file's header, and how its names are read; 0 for a file that has all but
/// the last layer. Any other is another network's, and the error says what of the network it lacks and what else it has.
fn outputs(model: &'static ModelInfo, weights: &Path) -> Result<(usize, Renaming)> {
    let name = format!("{}.weight", model.head_name());
    let header = WeightsHeader::read(weights)?;
    let rows = |name: &str| header.get(name)?.shape.first().copied().filter(|n| *n > 0);
    if let Some(n) = rows(&name) {
        return Ok((n, Renaming::default()));
    }
    let params = Params::zeros(&Device::Cpu);
    let (channels, height, width) = model.usual_input;
    let input = InputShape::Map { channels, height, width };
    let network = ImageClassifier::new(model, input, model.usual_classes, model.init, &params)?;
    let (renaming, theirs) = network.renaming(&header);
    if let Some(n) = theirs.get(&name).and_then(|theirs| rows(theirs.first()?)) {
        return Ok((n, renaming));
    }
    params.remove(|name| network.in_head(name));
    if let Ok(renaming) = network.load(weights) {
        return Ok((0, renaming));
    }
    let params = Params::zeros(&Device::Cpu);
    ImageClassifier::new(model, input, model.usual_classes, model.init, &params)?.load(weights)?;
    Err(Error::Config { path: weights.to_path_buf(), reason: format!("the last layer, {name}, is missing") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let hub = |repository: &str, revision: &str| WeightsSource::Repository {
            repository: repository.to_owned(),
            revision: revision.to_owned(),
        };
        assert_eq!(WeightsSource::parse("timm/a.b_in1k").unwrap(), hub("timm/a.b_in1k", "main"));
        assert_eq!(WeightsSource::parse("hf-hub:timm/a@v2").unwrap(), hub("timm/a", "v2"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(WeightsSource::parse(path).unwrap(), WeightsSource::Local(path.into()));
        for text in ["nothing", "/no/such/file", "a/b/c", "timm/a@", ""] {
            assert!(matches!(WeightsSource::parse(text), Err(Error::NoSource(_))), "{text}");
        }
    }

    /// 4 × 4 patches are as many as 2 × 8.
    #[test]
    fn positions_are_for_the_inputs_that_the_configuration_states() {
        let folder = tempfile::tempdir().unwrap();
        let model = registry::find("vit_tiny_patch16_224").unwrap();
        let input = InputShape::Map { channels: 3, height: 64, width: 64 };
        let params = Params::seeded(1, &Device::Cpu);
        ImageClassifier::new(model, input, 2, model.init, &params)
            .unwrap()
            .save(&folder.path().join(WEIGHTS))
            .unwrap();
        let positions = |network: &ImageClassifier| {
            let positions = network.params().get("pos_embed").unwrap();
            positions.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let loaded = |stated: (usize, usize), input: (usize, usize)| {
            let config = serde_json::json!({
                "architecture": model.name,
                "pretrained_cfg": { "input_size": [3, stated.0, stated.1] },
            });
            std::fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
            let mut found = Pretrained::local(model, folder.path()).unwrap();
            assert_eq!(found.input.input_size, (3, stated.0, stated.1));
            found.input.input_size = (3, input.0, input.1);
            positions(&found.load(&Device::Cpu).unwrap())
        };
        let of_file = loaded((64, 64), (64, 64));
        assert_eq!(loaded((32, 128), (32, 128)), of_file);
        assert_ne!(loaded((64, 64), (32, 128)), of_file);
    }
}
