use candle_core::Var;

/// Variables that follow the same rule.
#[derive(Debug, Clone)]
pub struct Group {
    /// The variables.
    pub vars: Vec<Var>,
    /// What the optimiser's rate is multiplied by: lower for layers nearer the input (Howard and Ruder 2018,
    /// section 3.2).
    pub rate: f64,
    /// What the optimiser's weight decay is multiplied by: 0 for biases and the scales of norms.
    pub decay: f64,
    /// λ of a penalty λ/2 · ‖w‖² that is part of what is minimised: λ·w is added to each gradient, after clipping.
    pub l2: f64,
}

/// What a training changes: groups of variables. A plain list of variables is one group.
#[derive(Debug, Clone, Default)]
pub struct Trainable {
    /// The groups.
    pub groups: Vec<Group>,
}

impl From<Vec<Var>> for Trainable {
    fn from(vars: Vec<Var>) -> Self {
        Self { groups: vec![Group { vars, rate: 1.0, decay: 1.0, l2: 0.0 }] }
    }
}

impl From<Vec<Group>> for Trainable {
    fn from(groups: Vec<Group>) -> Self {
        Self { groups }
    }
}
