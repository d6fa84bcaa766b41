//! Models and their parameter groups.

use std::collections::HashSet;

use candle_core::{ModuleT, Result, Tensor, Var};

use crate::Error;

/// A network as [`fit`](crate::fit) sees it: a forward pass and its variables by name.
///
/// The loop takes all variables from here: those that the optimizer changes, and those that
/// [`EarlyStopping`](crate::callbacks::EarlyStopping) restores and
/// [`Checkpoint`](crate::callbacks::Checkpoint) saves. For a network that does not hold its own variables, see
/// [`Trainable`].
pub trait Model: ModuleT {
    /// Every variable with its name, running statistics included, each time in the same order.
    fn named_vars(&self) -> Vec<(String, Var)>;

    /// The variables that the optimizer changes, and how. By default all but the running statistics of batch norm
    /// (`running_mean`, `running_var`, `num_batches_tracked`), in one group.
    fn param_groups(&self) -> ParamGroups {
        trained(self.named_vars())
    }
}

/// Whether a variable of this name is a running statistic of batch norm.
pub(crate) fn is_statistic(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    matches!(last, "running_mean" | "running_var" | "num_batches_tracked")
}

/// All but the running statistics, as one group.
fn trained(named: Vec<(String, Var)>) -> ParamGroups {
    let vars = named.into_iter().filter(|(name, _)| !is_statistic(name));
    vars.map(|(_, var)| var).collect::<Vec<_>>().into()
}

/// The groups of `model`, whose variables are `named`.
///
/// # Errors
///
/// [`Error::UnnamedVariable`]: a checkpoint without that variable could not resume.
pub(crate) fn param_groups(model: &impl Model, named: &[(String, Var)]) -> crate::Result<ParamGroups> {
    let known: HashSet<_> = named.iter().map(|(_, var)| var.id()).collect();
    let groups = model.param_groups();
    match groups.0.iter().flat_map(|group| &group.vars).find(|var| !known.contains(&var.id())) {
        Some(var) => Err(Error::UnnamedVariable { shape: var.dims().to_vec() }),
        None => Ok(groups),
    }
}

/// A network with its named variables and, optionally, groups of them.
///
/// ```
/// use candle_core::{Device, Module, Tensor, Var};
/// use candle_nn::Linear;
/// use firstsight_train::{Model, Trainable};
///
/// let weight = Var::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let linear = Linear::new(weight.as_tensor().clone(), None);
/// let model = Trainable::new(&linear, vec![("weight".to_owned(), weight)]);
/// assert_eq!(model.named_vars().len(), 1);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Trainable<'a, M> {
    network: &'a M,
    named: Vec<(String, Var)>,
    groups: Option<ParamGroups>,
}

impl<'a, M: ModuleT> Trainable<'a, M> {
    /// `named` are all variables of `network`, running statistics included.
    pub fn new(network: &'a M, named: Vec<(String, Var)>) -> Self {
        Self { network, named, groups: None }
    }

    /// Sets which variables the optimizer changes, and how. By default see [`Model::param_groups`].
    pub fn groups(mut self, groups: impl Into<ParamGroups>) -> Self {
        self.groups = Some(groups.into());
        self
    }
}

impl<M: ModuleT> ModuleT for Trainable<'_, M> {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.network.forward_t(xs, train)
    }
}

impl<M: ModuleT> Model for Trainable<'_, M> {
    fn named_vars(&self) -> Vec<(String, Var)> {
        self.named.clone()
    }

    fn param_groups(&self) -> ParamGroups {
        self.groups.clone().unwrap_or_else(|| trained(self.named.clone()))
    }
}

/// Variables that share a learning rate scale, a weight decay and a penalty.
#[derive(Debug, Clone)]
pub struct ParamGroup {
    /// The variables.
    pub vars: Vec<Var>,
    /// Factor of the optimizer's learning rate: below 1 for layers near the input (Howard and Ruder 2018,
    /// section 3.2).
    pub lr_scale: f64,
    /// Factor of the optimizer's weight decay: 0 for biases and the scales of norms.
    pub weight_decay: f64,
    /// λ of a penalty λ/2 · ‖w‖² on the loss: λ·w is added to each gradient, after clipping.
    pub l2: f64,
}

impl ParamGroup {
    /// `vars` with the optimizer's own learning rate and weight decay, and no penalty.
    pub fn new(vars: Vec<Var>) -> Self {
        Self { vars, lr_scale: 1.0, weight_decay: 1.0, l2: 0.0 }
    }
}

/// The groups of variables that an optimizer changes. A list of variables is one group.
#[derive(Debug, Clone, Default)]
pub struct ParamGroups(pub Vec<ParamGroup>);

impl From<Vec<Var>> for ParamGroups {
    fn from(vars: Vec<Var>) -> Self {
        Self(vec![ParamGroup::new(vars)])
    }
}

impl From<Vec<ParamGroup>> for ParamGroups {
    fn from(groups: Vec<ParamGroup>) -> Self {
        Self(groups)
    }
}
