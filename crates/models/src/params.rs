use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use firstsight_data::files::write_atomically;
use safetensors::SafeTensors;

use crate::init::{self, Scheme, Tail};
use crate::{Error, Result, WeightsHeader};

/// A network's named variables, in the order of their names, each initialised from `(seed, name)`.
///
/// The initial value of a variable depends on the seed, its own name, its shape and its initialiser, and on
/// nothing else: adding a layer, or asking for layers in another order, leaves the others as they were.
/// Names are the checkpoint's (`conv1.weight`, `blocks.0.0.bn1.running_mean`).
///
/// Cloning is cheap and shares the variables.
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
    tail: Tail,
    frozen: Option<Arc<Select>>,
}

/// Accepts some variables by their names.
type Select = dyn Fn(&str) -> bool + Send + Sync;

struct Inner {
    seed: u64,
    device: Device,
    vars: Mutex<BTreeMap<String, Var>>,
}

impl Params {
    /// An empty set of variables on `device`, whose initial values will follow from `seed`.
    pub fn seeded(seed: u64, device: &Device) -> Self {
        Self {
            inner: Arc::new(Inner { seed, device: device.clone(), vars: Mutex::default() }),
            tail: Tail::Kept,
            frozen: None,
        }
    }

    /// The same variables, but layers built from this set get those that `select` accepts as plain tensors: they record
    /// no graph, and cost no backward pass. They still hold what the variables hold, now and later.
    ///
    /// ```
    /// use candle_core::{Device, Module};
    /// use firstsight_models::Params;
    ///
    /// let params = Params::seeded(7, &Device::Cpu);
    /// let frozen = params.freezing(|name| name.starts_with("body."));
    /// let build = |part: &str| candle_nn::linear(2, 2, frozen.builder().pp(part));
    /// let (body, head) = (build("body")?, build("head")?);
    /// let xs = candle_core::Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
    /// let gradients = head.forward(&body.forward(&xs)?)?.sum_all()?.backward()?;
    /// assert!(gradients.get(&params.get("head.weight").unwrap()).is_some());
    /// assert!(gradients.get(&params.get("body.weight").unwrap()).is_none());
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn freezing(&self, select: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { frozen: Some(Arc::new(select)), ..self.clone() }
    }

    /// A builder of float32 variables: the constructors of layers ask it for theirs, and get the existing
    /// variable of that name or a new one.
    pub fn builder(&self) -> VarBuilder<'static> {
        self.builder_dtype(DType::F32)
    }

    /// [`Params::builder`] for another floating-point type (float64 for gradient checks).
    pub fn builder_dtype(&self, dtype: DType) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), dtype, self.inner.device.clone())
    }

    /// [`Params::builder`] for layers that `scheme` initialises: normal draws are cut off where it says so.
    pub fn builder_for(&self, scheme: Scheme) -> VarBuilder<'static> {
        let tail = if scheme.truncates() { Tail::Cut } else { Tail::Kept };
        Self { tail, ..self.clone() }.builder()
    }

    /// The device that the variables live on.
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// The seed that the initial values follow from.
    pub fn seed(&self) -> u64 {
        self.inner.seed
    }

    /// The variables whose names `select` accepts, in the order of their names.
    pub fn vars(&self, select: impl Fn(&str) -> bool) -> Vec<Var> {
        self.lock().iter().filter(|(name, _)| select(name)).map(|(_, var)| var.clone()).collect()
    }

    /// Every variable that an optimiser may change: all but the [buffers](is_buffer).
    pub fn trainable(&self) -> Vec<Var> {
        self.vars(|name| !is_buffer(name))
    }

    /// Every variable with its name, buffers included, in the order of names.
    pub fn named(&self) -> Vec<(String, Var)> {
        self.lock().iter().map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// The names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Drops the variables whose names `select` accepts, so that they can be asked for anew with another shape.
    /// Layers that hold them keep theirs.
    pub fn remove(&self, select: impl Fn(&str) -> bool) {
        self.lock().retain(|name, _| !select(name));
    }

    /// The variable called `name`.
    pub fn get(&self, name: &str) -> Option<Var> {
        self.lock().get(name).cloned()
    }

    /// Writes every variable to a safetensors file, under a temporary name first, synced and renamed.
    ///
    /// # Errors
    /// [`Error::Io`] naming `path`; an existing file is then left as it was.
    pub fn save(&self, path: &Path) -> Result<()> {
        let named = self.named();
        let tensors = named.iter().map(|(name, var)| (name.as_str(), var.as_tensor()));
        let bytes = safetensors::serialize(tensors, None)
            .map_err(|source| Error::Safetensors { path: path.to_path_buf(), source })?;
        write_atomically(path, &bytes).map_err(|source| Error::Io { path: path.to_path_buf(), source })
    }

    /// Sets every variable from a safetensors file that holds exactly these names and shapes, in any floating-point type.
    ///
    /// Nothing is changed unless all of them fit, and nothing but the header is read before that is known.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::WeightsHeader`] and [`Error::Safetensors`] name the file; [`Error::Mismatch`] names the
    /// first missing, unexpected, misshapen and mistyped tensor.
    pub fn load(&self, path: &Path) -> Result<()> {
        self.load_except(path, |_| false)
    }

    /// [`Params::load`] from a file that may also hold tensors whose names `left_out` accepts: another network's last
    /// layer, say.
    ///
    /// # Errors
    /// As [`Params::load`].
    pub fn load_except(&self, path: &Path, left_out: impl Fn(&str) -> bool) -> Result<()> {
        let header = WeightsHeader::read(path)?;
        let vars = self.lock();
        let mut mismatch = Mismatch { path: path.to_path_buf(), ..Mismatch::default() };
        for (name, var) in vars.iter() {
            let name = name.clone();
            match header.get(&name) {
                None => mismatch.missing.push(name),
                Some(found) if found.shape != var.dims() => {
                    let (expected, found) = (var.dims().to_vec(), found.shape.clone());
                    mismatch.misshapen.push(Misshapen { name, expected, found });
                }
                Some(found) if !found.is_float() => {
                    mismatch.mistyped.push(Mistyped { name, found: found.dtype.clone() });
                }
                Some(_) => {}
            }
        }
        // PyTorch's count of the batches that its batch norm has seen, which nothing here uses.
        let known =
            |name: &str| vars.contains_key(name) || name.ends_with(".num_batches_tracked") || left_out(name);
        let names = header.tensors.iter().map(|tensor| &tensor.name);
        mismatch.unexpected = names.filter(|name| !known(name)).cloned().collect();
        if !mismatch.is_empty() {
            return Err(Error::Mismatch(Box::new(mismatch)));
        }
        let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        SafeTensors::deserialize(&bytes)
            .map_err(|source| Error::Safetensors { path: path.to_path_buf(), source })?;
        let loaded = candle_core::safetensors::load_buffer(&bytes, &self.inner.device)?;
        for (name, var) in vars.iter() {
            if let Some(tensor) = loaded.get(name) {
                var.set(&tensor.to_dtype(var.dtype())?)?;
            }
        }
        Ok(())
    }

    /// What a layer gets: the variable, or, frozen, its storage alone.
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
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let mut vars = self.lock();
        if let Some(var) = vars.get(name) {
            if var.shape() != &shape {
                candle_core::bail!(
                    "{name} exists with shape {:?}, and was asked for as {shape:?}",
                    var.shape()
                );
            }
            return Ok(self.tensor(name, var));
        }
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

/// Whether a variable of this name is a buffer in PyTorch's sense, saved with the weights but changed by the
/// forward pass alone: batch norm's `running_mean`, `running_var`, `num_batches_tracked`.
pub fn is_buffer(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    matches!(last, "running_mean" | "running_var" | "num_batches_tracked")
}

/// How a file's tensors differ from a network's variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// The file.
    pub path: PathBuf,
    /// Names that the network has and the file lacks, sorted.
    pub missing: Vec<String>,
    /// Names that the file has and the network lacks, sorted.
    pub unexpected: Vec<String>,
    /// Names that both have, with other shapes, sorted.
    pub misshapen: Vec<Misshapen>,
    /// Names that both have, with the same shape, of a type that holds no floating-point numbers, sorted.
    pub mistyped: Vec<Mistyped>,
}

/// A tensor whose shape is not the variable's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshapen {
    /// The tensor's name.
    pub name: String,
    /// The variable's shape.
    pub expected: Vec<usize>,
    /// The file's shape.
    pub found: Vec<usize>,
}

/// A tensor that holds no floating-point numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistyped {
    /// The tensor's name.
    pub name: String,
    /// Its type in the file.
    pub found: String,
}

impl Mismatch {
    fn is_empty(&self) -> bool {
        self.missing.is_empty()
            && self.unexpected.is_empty()
            && self.misshapen.is_empty()
            && self.mistyped.is_empty()
    }
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} holds another network's weights", self.path.display())?;
        let mut separator = ": ";
        for (what, names) in [("missing", &self.missing), ("unexpected", &self.unexpected)] {
            if let Some(first) = names.first() {
                write!(f, "{separator}{} {what} (first: {first})", names.len())?;
                separator = ", ";
            }
        }
        if let Some(m) = self.misshapen.first() {
            let (n, name) = (self.misshapen.len(), &m.name);
            write!(
                f,
                "{separator}{n} of another shape (first: {name}, expected {:?}, found {:?})",
                m.expected, m.found
            )?;
            separator = ", ";
        }
        if let Some(m) = self.mistyped.first() {
            let n = self.mistyped.len();
            write!(
                f,
                "{separator}{n} of another type (first: {}, expected F32, F16, BF16 or F64, found {})",
                m.name, m.found
            )?;
        }
        Ok(())
    }
}
