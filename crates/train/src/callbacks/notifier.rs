//! Notification of all callbacks.

use std::ops::ControlFlow;

use candle_core::Var;

use super::{Callback, Resume, SavedState};
use crate::communicator::gather;
use crate::{Communicator, Epoch, Error, Optimizer, Result, StopReason};

/// The callbacks of a training, and whether one of them has stopped it, in this process or another.
pub(crate) struct Notifier<'a, 'b> {
    callbacks: &'a mut [&'b mut dyn Callback],
    communicator: &'a dyn Communicator,
    pub(crate) stopped: Option<StopReason>,
}

impl<'a, 'b> Notifier<'a, 'b> {
    pub(crate) fn new(callbacks: &'a mut [&'b mut dyn Callback], communicator: &'a dyn Communicator) -> Self {
        Self { callbacks, communicator, stopped: None }
    }

    /// Restores an earlier training, if a callback knows one: returns its epochs, those before it was restarted, and what
    /// its callbacks saved.
    pub(crate) fn resume(
        &mut self,
        vars: &[(String, Var)],
        optimizer: &mut Optimizer,
    ) -> Result<(Vec<Epoch>, usize, SavedState)> {
        let resumed = self.resume_here(vars, optimizer);
        self.agree(resumed)
    }

    fn resume_here(
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
        let mut tell = |callback: &mut dyn Callback| {
            if let ControlFlow::Break(reason) = event(callback)? {
                stop(&mut self.stopped, reason);
            }
            Ok(())
        };
        let told = self.callbacks.iter_mut().try_for_each(|callback| tell(&mut **callback));
        self.agree(told)
    }

    /// Tells all callbacks of an event at which none can stop the training.
    pub(crate) fn tell(&mut self, mut event: impl FnMut(&mut dyn Callback) -> Result<()>) -> Result<()> {
        let told = self.callbacks.iter_mut().try_for_each(|callback| event(&mut **callback));
        self.agree(told)
    }

    /// Lets all processes fail where one has, and stop where one stops.
    fn agree<T>(&mut self, result: Result<T>) -> Result<T> {
        if self.communicator.size() == 1 {
            return result;
        }
        let mut found = None;
        let own = result.map(|result| {
            found = Some(result);
            match &self.stopped {
                None => Vec::new(),
                Some(StopReason::Interrupted) => INTERRUPTED.to_vec(),
                Some(StopReason::Callback(reason)) => reason.as_bytes().to_vec(),
            }
        });
        let stopped = gather(self.communicator, own)?;
        // All take the first process's reason, so that they say the same.
        self.stopped = None;
        for reason in stopped.into_iter().filter(|reason| !reason.is_empty()) {
            let reason = match reason.as_slice() {
                INTERRUPTED => StopReason::Interrupted,
                reason => StopReason::Callback(String::from_utf8_lossy(reason).into_owned()),
            };
            stop(&mut self.stopped, reason);
        }
        found.ok_or_else(|| Error::Communication("a failure got lost".to_owned()))
    }
}

const INTERRUPTED: &[u8] = &[0];

/// The first reason counts, but an interruption outweighs others.
fn stop(stopped: &mut Option<StopReason>, reason: StopReason) {
    if stopped.is_none() || reason == StopReason::Interrupted {
        *stopped = Some(reason);
    }
}
