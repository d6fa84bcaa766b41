//! Losses on logits. Gradients need no value from the device.

use candle_core::{Result, Shape, Tensor};

use crate::cuda::node::{self, DeviceOp};
use crate::cuda::program::{Geometry, LOSS, Program, Slot, int, long};
use crate::cuda::{has_kernels, on_device};
use crate::reference;
use crate::shape::{check_labels, check_targets};

/// [`crate::softmax_cross_entropy`]. A label that is no class gives NaN.
pub(crate) fn softmax_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    if !has_kernels(&[logits]) || !on_device(&[labels]) {
        return reference::softmax_cross_entropy(logits, labels);
    }
    with_labels(logits, labels, check_labels(logits, labels)?)
}

/// [`softmax_cross_entropy`] of arguments whose shapes fit.
pub(in crate::cuda) fn with_labels(logits: &Tensor, labels: &Tensor, classes: usize) -> Result<Tensor> {
    let target = Target::Labels(labels.contiguous()?);
    node::apply(CrossEntropy { target, rows: logits.dim(0)?, classes }, &[logits])
}

/// [`crate::soft_cross_entropy`]
pub(crate) fn soft_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    if !has_kernels(&[logits, targets]) {
        return reference::soft_cross_entropy(logits, targets);
    }
    let classes = check_targets(logits, targets)?;
    let target = Target::Probabilities(targets.detach().contiguous()?);
    node::apply(CrossEntropy { target, rows: logits.dim(0)?, classes }, &[logits])
}

enum Target {
    /// (B,)
    Labels(Tensor),
    /// (B, K)
    Probabilities(Tensor),
}

struct CrossEntropy {
    target: Target,
    rows: usize,
    classes: usize,
}

impl CrossEntropy {
    fn inputs(&self, program: &mut Program) -> [Slot; 2] {
        let count = self.rows * self.classes;
        let logits = program.input(count);
        let target = match self.target {
            Target::Labels(_) => program.input_u32(self.rows),
            Target::Probabilities(_) => program.input(count),
        };
        [logits, target]
    }
}

impl DeviceOp for CrossEntropy {
    fn name(&self) -> &'static str {
        match self.target {
            Target::Labels(_) => "softmax_cross_entropy",
            Target::Probabilities(_) => "soft_cross_entropy",
        }
    }

    fn output_shape(&self) -> Shape {
        Shape::from(())
    }

    fn extras(&self) -> Vec<&Tensor> {
        match &self.target {
            Target::Labels(target) | Target::Probabilities(target) => vec![target],
        }
    }

    fn forward(&self, _: bool) -> Program {
        let &Self { rows, classes, .. } = self;
        let mut program = Program::default();
        let [logits, target] = self.inputs(&mut program);
        let (mean, log_sums, losses) = (program.output(1), program.output(rows), program.scratch(rows));
        let args = [logits.into(), target.into(), log_sums.into(), losses.into(), long(rows), int(classes)];
        let kernel = match self.target {
            Target::Labels(_) => "cross_entropy_rows",
            Target::Probabilities(_) => "soft_cross_entropy_rows",
        };
        program.launch(LOSS, kernel, Geometry::rows(rows, classes), args);
        let args = [losses.into(), mean.into(), long(rows)];
        program.launch(LOSS, "mean_of_all", Geometry::one_block(), args);
        program
    }

    fn backward(&self, _: &[bool]) -> Program {
        let &Self { rows, classes, .. } = self;
        let mut program = Program::default();
        let [logits, target] = self.inputs(&mut program);
        let (_y, log_sums, grad) = (program.input(1), program.input(rows), program.input(1));
        let logits_grad = program.output(rows * classes);
        let [logits, target, log_sums, grad, logits_grad] =
            [logits, target, log_sums, grad, logits_grad].map(Into::into);
        let args = [logits, target, log_sums, grad, logits_grad, long(rows), int(classes)];
        let kernel = match self.target {
            Target::Labels(_) => "cross_entropy_backward",
            Target::Probabilities(_) => "soft_cross_entropy_backward",
        };
        program.launch(LOSS, kernel, Geometry::rows(rows, classes), args);
        program
    }
}
