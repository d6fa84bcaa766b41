//! Notification of all callbacks.

use std::ops::ControlFlow;

use candle_core::Var;

use super::{Callback, Resume, SavedState};
use crate::{Epoch, Error, Optimizer, Result, StopReason};

/// The callbacks of a training, and whether one of them has stopped it.
pub(crate) struct Notifier<'a, 'b> {
    callbacks: &'a mut [&'b mut dyn Callback],
    pub(crate) stopped: Option<StopReason>,
}

impl<'a, 'b> Notifier<'a, 'b> {
    pub(crate) fn new(callbacks: &'a mut [&'b mut dyn Callback]) -> Self {
        Self { callbacks, stopped: None }
    }

    /// Restores an earlier training, if a callback knows one: returns its epochs, those before it was restarted, and what
    /// its callbacks saved.
    pub(crate) fn resume(
        &mut self,
        vars: &[(String, Var)],
        optimizer: &mut Optimizer,
    ) -> Result<(Vec<Epoch>, usize, SavedState)> {
        for callback in self.callbacks.iter_mut() {
            if let Some(Resume { epochs, restarted, optimizer_steps, moments, state, path }) =
                callback.resume(vars)?
            {
                if let Some(moments) = moments {
                    optimizer
                        .restore(optimizer_steps, &moments)
                        .map_err(|reason| Error::Checkpoint { path, reason })?;
                }
                return Ok((epochs, restarted, state));
            }
        }
        Ok(Default::default())
    }

    /// Tells all callbacks of an event. The first reason to stop counts, but an interruption outweighs others.
    pub(crate) fn notify(
        &mut self,
        mut event: impl FnMut(&mut dyn Callback) -> Result<ControlFlow<StopReason>>,
    ) -> Result<()> {
        for callback in self.callbacks.iter_mut() {
            if let ControlFlow::Break(reason) = event(&mut **callback)?
                && (self.stopped.is_none() || reason == StopReason::Interrupted)
            {
                self.stopped = Some(reason);
            }
        }
        Ok(())
    }

    /// Tells all callbacks of an event at which none can stop the training.
    pub(crate) fn tell(&mut self, mut event: impl FnMut(&mut dyn Callback) -> Result<()>) -> Result<()> {
        self.callbacks.iter_mut().try_for_each(|callback| event(&mut **callback))
    }
}
