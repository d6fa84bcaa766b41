//! Optimizer steps: one launch for all variables, over a table of chunks.

use candle_core::{Result, Tensor};

use crate::cuda::program::{Arg, Geometry, OPTIM, Program, Slot, Word};
use crate::cuda::{has_kernels, run};
use crate::optim::{AdamFactors, AdamUpdate, SgdUpdate};
use crate::reference;

/// Values of a block.
const CHUNK: usize = 16_384;

/// [`crate::optim::adam_steps`]
pub(crate) fn adam_steps(updates: &[(AdamUpdate<'_>, AdamFactors)]) -> Result<()> {
    let ours = |(AdamUpdate { param, grad, m, v, .. }, _): &(AdamUpdate<'_>, AdamFactors)| {
        takes(&[param, *m, *v], grad)
    };
    let (ours, others): (Vec<_>, Vec<_>) = updates.iter().copied().partition(ours);
    let mut chunks = Chunks::default();
    for (AdamUpdate { param, grad, m, v, step }, factors) in &ours {
        let rates = [
            factors.decay,
            factors.alpha,
            factors.root_scale,
            step.beta1,
            step.beta2,
            1.0 - step.beta1,
            1.0 - step.beta2,
            step.epsilon,
        ];
        chunks.add(&[param, *m, *v], grad, &rates.map(|rate| rate as f32))?;
    }
    chunks.run("adam_steps")?;
    reference::optim::adam_steps(&others)
}

/// [`crate::optim::sgd_steps`]
pub(crate) fn sgd_steps(updates: &[SgdUpdate<'_>]) -> Result<()> {
    let ours = |SgdUpdate { param, grad, velocity, .. }: &SgdUpdate<'_>| takes(&[param, *velocity], grad);
    let (ours, others): (Vec<_>, Vec<_>) = updates.iter().copied().partition(ours);
    let mut chunks = Chunks::default();
    for SgdUpdate { param, grad, velocity, step } in &ours {
        // The factor of the gradient and that of the velocity in what the variable moves by.
        let (of_grad, of_velocity) = if step.nesterov { (1.0, step.momentum) } else { (0.0, 1.0) };
        let rates = [step.lr, step.momentum, step.weight_decay, of_grad, of_velocity, 0.0];
        chunks.add(&[param, *velocity], grad, &rates.map(|rate| rate as f32))?;
    }
    chunks.run("sgd_steps")?;
    reference::optim::sgd_steps(&others)
}

fn takes(in_place: &[&Tensor], grad: &Tensor) -> bool {
    has_kernels(in_place) && has_kernels(&[grad]) && in_place.iter().all(|tensor| tensor.is_contiguous())
}

/// The table of a launch, and its buffers.
#[derive(Default)]
struct Chunks {
    program: Program,
    tensors: Vec<Tensor>,
    words: Vec<Word>,
    count: usize,
}

impl Chunks {
    /// Appends the chunks of a variable: the addresses of its tensors and its gradient, the number of values, and the rates.
    fn add(&mut self, in_place: &[&Tensor], grad: &Tensor, rates: &[f32]) -> Result<()> {
        let count = grad.elem_count();
        let mut slots: Vec<Slot> = in_place.iter().map(|_| self.program.in_place(count)).collect();
        slots.push(self.program.input(count));
        self.tensors.extend(in_place.iter().map(|&tensor| tensor.clone()));
        self.tensors.push(grad.detach().contiguous()?);
        for start in (0..count).step_by(CHUNK) {
            self.words.extend(slots.iter().map(|&slot| Word::Address(slot, start)));
            self.words.push(Word::Long(CHUNK.min(count - start) as i64));
            self.words.extend(rates.chunks_exact(2).map(|pair| Word::Floats(pair[0], pair[1])));
            self.count += 1;
        }
        Ok(())
    }

    fn run(mut self, kernel: &'static str) -> Result<()> {
        if self.count > 0 {
            let args = [Arg::Table(self.words)];
            self.program.launch(OPTIM, kernel, Geometry::chunks(self.count), args);
            run(&self.program, &self.tensors.iter().collect::<Vec<_>>())?;
        }
        Ok(())
    }
}
