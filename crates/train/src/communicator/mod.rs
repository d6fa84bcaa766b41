//! Several processes at one task.

#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;

use std::fmt::{Debug, Display};

#[cfg(feature = "mpi")]
pub use self::mpi::Mpi;
#[cfg(feature = "nccl")]
pub use self::nccl::Nccl;
use crate::{Error, Result};

/// What processes that work on one task say to each other.
///
/// Every process calls the same methods in the same order; each waits until the others have come as far. A training, an
/// evaluation and the extraction of features do so by themselves.
pub trait Communicator: Debug + Send + Sync {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// The number of processes.
    fn size(&self) -> usize;

    /// Sends `own` to process `partner` while that sends as many values, which replace `theirs`.
    ///
    /// # Errors
    ///
    /// [`Error::Communication`] for a partner that cannot be reached.
    fn exchange(&self, partner: usize, own: &[f32], theirs: &mut [f32]) -> Result<()>;

    /// Replaces `bytes` by those of process 0.
    ///
    /// # Errors
    ///
    /// [`Error::Communication`] for a process that cannot be reached.
    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()>;

    /// The bytes of all processes in the order of their ranks.
    ///
    /// # Errors
    ///
    /// [`Error::Communication`] for a process that cannot be reached.
    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Waits until all processes have called it.
    ///
    /// # Errors
    ///
    /// [`Error::Communication`] for a process that cannot be reached.
    fn barrier(&self) -> Result<()>;

    /// Ends all processes at once, with this exit code.
    fn abort(&self, code: i32) -> !;
}

/// The communicator of a process that works by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alone;

impl Communicator for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn exchange(&self, partner: usize, _own: &[f32], _theirs: &mut [f32]) -> Result<()> {
        Err(Error::Communication(format!("there is no process {partner}: this one works by itself")))
    }

    fn broadcast(&self, _bytes: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![own.to_vec()])
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }

    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }
}

/// The bytes of all processes in the order of their ranks. Where a process has failed, all fail: that one with its own error,
/// the others with [`Error::Process`].
///
/// # Errors
///
/// The first failure; those of [`Communicator::all_gather`].
pub fn gather<E: From<Error> + Display>(
    communicator: &dyn Communicator,
    own: Result<Vec<u8>, E>,
) -> Result<Vec<Vec<u8>>, E> {
    const DONE: u8 = 0;
    const FAILED: u8 = 1;
    if communicator.size() == 1 {
        return own.map(|bytes| vec![bytes]);
    }
    let message = match &own {
        Ok(bytes) => [&[DONE], bytes.as_slice()].concat(),
        Err(error) => [&[FAILED], error.to_string().as_bytes()].concat(),
    };
    let all = communicator.all_gather(&message)?;
    own?;
    let of = |(rank, message): (usize, Vec<u8>)| match message.split_first() {
        Some((&DONE, bytes)) => Ok(bytes.to_vec()),
        Some((_, reason)) => {
            let reason = String::from_utf8_lossy(reason).into_owned();
            Err(Error::Process { rank, reason }.into())
        }
        None => Err(Error::Communication(format!("process {rank} sent nothing")).into()),
    };
    all.into_iter().enumerate().map(of).collect()
}

/// Checks that all processes have the same `value` of what is called `what`.
///
/// # Errors
///
/// [`Error::ProcessesDiffer`], in all processes.
pub fn check_same(communicator: &dyn Communicator, what: &'static str, value: &str) -> Result<()> {
    if communicator.size() == 1 {
        return Ok(());
    }
    let all = communicator.all_gather(value.as_bytes())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match all.iter().position(|other| *other != all[0]) {
        None => Ok(()),
        Some(rank) => {
            let (first, found) = (text(&all[0]), text(&all[rank]));
            Err(Error::ProcessesDiffer { what, rank, first, found })
        }
    }
}
