use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init as Distribution, VarBuilder};

use crate::Result;
use crate::init::{self, Init, Tail};
use crate::weights::{self, Renaming, Rules, SaveDtype};

/// Named variables of a network, in the order of their names.
///
/// The initial value of a variable follows from the seed, its name, its shape and its distribution alone, so that a
/// new layer or another order of layers leaves the others unchanged. Names are those of checkpoints (`conv1.weight`,
/// `blocks.0.0.bn1.running_mean`).
///
/// Clones share the variables.
///
/// ```
/// use candle_core::{Device, DType};
/// use candle_nn::Init;
/// use firstsight_models::Params;
///
/// let params = Params::seeded(7, &Device::Cpu);
/// let vb = params.builder();
/// let w = vb.pp("dense").get_with_hints((3, 4), "weight", Init::Uniform { lo: -0.5, up: 0.5 })?;
/// assert_eq!(w.dtype(), DType::F32);
/// assert_eq!(params.names(), ["dense.weight"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Params {
    inner: Arc<Inner>,
    /// Whether variables begin as drawn, and not as zeros.
    drawn: bool,
    tail: Tail,
    frozen: Option<Arc<Select>>,
}

/// Predicate on names.
type Select = dyn Fn(&str) -> bool + Send + Sync;

struct Inner {
    seed: u64,
    device: Device,
    vars: Mutex<BTreeMap<String, Var>>,
}

impl Params {
    /// An empty set on `device`. Initial values follow from `seed`.
    pub fn seeded(seed: u64, device: &Device) -> Self {
        Self {
            inner: Arc::new(Inner { seed, device: device.clone(), vars: Mutex::default() }),
            drawn: true,
            tail: Tail::Kept,
            frozen: None,
        }
    }

    /// An empty set on `device` whose variables begin as zeros: for a network that is only counted, or whose weights are
    /// loaded next. On the CPU these zeros cost no time, and no memory until they are used.
    ///
    /// ```
    /// use candle_core::Device;
    /// use firstsight_models::{ImageClassifier, InputShape, Params, registry};
    ///
    /// let input = InputShape::Map { channels: 3, height: 224, width: 224 };
    /// let (info, params) = (registry::find("mobilenet-v2")?, Params::zeros(&Device::Cpu));
    /// let network = ImageClassifier::new(info, input, 1000, info.init, &params)?;
    /// assert_eq!(network.summary().total_params(), 3_504_872);
    /// # Ok::<(), firstsight_models::Error>(())
    /// ```
    pub fn zeros(device: &Device) -> Self {
        Self::seeded(0, device).undrawn()
    }

    /// The same set, to which layers add variables as zeros: for weights that are loaded next. A [new last
    /// layer](crate::ImageClassifier::reset_classifier) is drawn from the seed all the same.
    pub fn undrawn(&self) -> Self {
        Self { drawn: false, ..self.clone() }
    }

    pub(crate) fn drawn(&self) -> Self {
        Self { drawn: true, ..self.clone() }
    }

    /// The same set, from which layers get the variables that `select` accepts as constants: these record no graph and
    /// cost no backward pass. They share the variables' storage.
    ///
    /// ```
    /// use candle_core::{Device, Module};
    /// use firstsight_models::Params;
    ///
    /// let params = Params::seeded(7, &Device::Cpu);
    /// let frozen = params.frozen(|name| name.starts_with("body."));
    /// let build = |part: &str| candle_nn::linear(2, 2, frozen.builder().pp(part));
    /// let (body, head) = (build("body")?, build("head")?);
    /// let xs = candle_core::Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
    /// let gradients = head.forward(&body.forward(&xs)?)?.sum_all()?.backward()?;
    /// assert!(gradients.get(&params.get("head.weight").unwrap()).is_some());
    /// assert!(gradients.get(&params.get("body.weight").unwrap()).is_none());
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn frozen(&self, select: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { frozen: Some(Arc::new(select)), ..self.clone() }
    }

    /// A builder of float32 variables, for the constructors of layers. It gives the existing variable of a name, or else
    /// a new one.
    pub fn builder(&self) -> VarBuilder<'static> {
        self.builder_dtype(DType::F32)
    }

    /// [`Params::builder`] for another floating-point type, such as float64 for gradient checks.
    pub fn builder_dtype(&self, dtype: DType) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), dtype, self.inner.device.clone())
    }

    /// [`Params::builder`] for layers with the initialization `init`, which may truncate normal distributions.
    pub fn builder_for(&self, init: Init) -> VarBuilder<'static> {
        let tail = if init.truncates() { Tail::Cut } else { Tail::Kept };
        Self { tail, ..self.clone() }.builder()
    }

    /// Device of the variables.
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// Seed of the initial values.
    pub fn seed(&self) -> u64 {
        self.inner.seed
    }

    /// Variables whose names `select` accepts, in the order of their names.
    pub fn vars(&self, select: impl Fn(&str) -> bool) -> Vec<Var> {
        self.lock().iter().filter(|(name, _)| select(name)).map(|(_, var)| var.clone()).collect()
    }

    /// Variables for an optimizer: all but the [buffers](is_buffer).
    pub fn trainable(&self) -> Vec<Var> {
        self.vars(|name| !is_buffer(name))
    }

    /// Every variable with its name, buffers included, in the order of names.
    pub fn named(&self) -> Vec<(String, Var)> {
        self.lock().iter().map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// Names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Removes the variables whose names `select` accepts, so that new ones can have another shape. Layers keep theirs.
    pub fn remove(&self, select: impl Fn(&str) -> bool) {
        self.lock().retain(|name, _| !select(name));
    }

    /// Adds variables that were [removed](Self::remove).
    pub(crate) fn put(&self, vars: impl IntoIterator<Item = (String, Var)>) {
        self.lock().extend(vars);
    }

    /// The variable called `name`.
    pub fn get(&self, name: &str) -> Option<Var> {
        self.lock().get(name).cloned()
    }

    /// Writes every variable to a safetensors file in float32, atomically.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`]. An existing file is then unchanged.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.save_as(path, SaveDtype::Float32)
    }

    /// [`Params::save`] in another type, which takes half as many bytes. The variables stay as they are; [`Params::load`] reads
    /// rounded ones.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`]; [`crate::Error::Overflow`] names a tensor with values beyond the type's range.
    pub fn save_as(&self, path: &Path, dtype: SaveDtype) -> Result<()> {
        weights::save(path, &self.lock(), dtype)
    }

    /// Rounds every variable to the nearest value of a type, so that they are those that [`Params::save_as`] writes.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Overflow`] names a tensor with values beyond the type's range; the variables are then unchanged.
    pub fn round_to(&self, dtype: SaveDtype) -> Result<()> {
        weights::round(&self.lock(), dtype)
    }

    /// Sets every variable from a safetensors file with exactly these names and shapes, of any floating-point type. The
    /// file may be an index (`model.safetensors.index.json`) of several, and all names may share a prefix such as
    /// `module.`, which the result tells.
    ///
    /// All variables are set or none: the file's header is checked first.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`], [`crate::Error::Foreign`], [`crate::Error::WeightsHeader`] and [`crate::Error::Safetensors`] name the file;
    /// [`crate::Error::Mismatch`] names the first missing, unexpected, misshapen and mistyped tensor; [`crate::Error::NotFinite`] names
    /// tensors that hold NaN or infinity.
    pub fn load(&self, path: &Path) -> Result<Renaming> {
        self.load_by(path, &Rules::PLAIN)
    }

    /// [`Params::load`] from a file with other tensors, whose names `ignored` accepts, such as those of a last layer.
    ///
    /// # Errors
    ///
    /// Those of [`Params::load`].
    pub fn load_except(&self, path: &Path, ignored: impl Fn(&str) -> bool) -> Result<Renaming> {
        self.load_by(path, &Rules { ignored: &ignored, ..Rules::PLAIN })
    }

    pub(crate) fn load_by(&self, path: &Path, rules: &Rules<'_>) -> Result<Renaming> {
        weights::load(path, &self.lock(), &self.inner.device, rules)
    }

    /// The tensor that a layer gets: the variable, or, if frozen, a constant with its storage.
    fn tensor(&self, name: &str, var: &Var) -> Tensor {
        match &self.frozen {
            Some(frozen) if frozen(name) => var.as_tensor().detach(),
            _ => var.as_tensor().clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Var>> {
        self.inner.vars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Params {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Params").field("seed", &self.inner.seed).field("names", &self.names()).finish()
    }
}

impl SimpleBackend for Params {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Distribution,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let mut vars = self.lock();
        if let Some(var) = vars.get(name) {
            if var.shape() != &shape {
                candle_core::bail!(
                    "cannot build {name} with shape {shape:?}: it exists with shape {:?}",
                    var.shape()
                );
            }
            return Ok(self.tensor(name, var));
        }
        let init = if self.drawn { init } else { Distribution::Const(0.0) };
        let var = init::var(init, self.tail, &shape, self.inner.seed, name, dtype, device)?;
        let tensor = self.tensor(name, &var);
        vars.insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        match self.lock().get(name) {
            Some(var) => Ok(self.tensor(name, var)),
            None => candle_core::bail!("no variable is called {name}"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }
}

/// Whether a variable of this name is a buffer in PyTorch's sense: batch norm's `running_mean`, `running_var` and
/// `num_batches_tracked`, which are saved but not trained.
pub fn is_buffer(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    matches!(last, "running_mean" | "running_var" | "num_batches_tracked")
}
