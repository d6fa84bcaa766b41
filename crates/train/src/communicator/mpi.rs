//! Processes that an MPI launcher has started: `mpirun -n 4 …`, or `srun` in a cluster's job.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mpi::Threading;
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::point_to_point::send_receive_into;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, CommunicatorCollectives as _, Root as _};

use crate::{Communicator, Error, Result};

/// Values in a message at most: MPI counts them in 31 bits.
const MESSAGE: usize = 1 << 28;

/// All processes that an MPI launcher has started together.
///
/// MPI itself ends all processes, with its message, where one has died or cannot be reached.
pub struct Mpi {
    rank: usize,
    size: usize,
    /// MPI is told that one thread at a time calls it.
    one_at_a_time: Mutex<()>,
    /// Ends MPI when it is dropped.
    _universe: Universe,
}

impl Mpi {
    /// Starts MPI, once in a process.
    ///
    /// # Errors
    ///
    /// [`Error::Communication`] where MPI runs already, or cannot be called from several threads in turn.
    pub fn start() -> Result<Self> {
        let Some((universe, threading)) = mpi::initialize_with_threading(Threading::Serialized) else {
            return Err(Error::Communication("MPI was started before".to_owned()));
        };
        if threading < Threading::Serialized {
            return Err(Error::Communication(format!(
                "this MPI library supports threads as {threading:?}, and Serialized is needed"
            )));
        }
        let world = SimpleCommunicator::world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        Ok(Self { rank, size, one_at_a_time: Mutex::new(()), _universe: universe })
    }

    /// All processes, as long as the guard lives for this thread alone.
    fn world(&self) -> (SimpleCommunicator, MutexGuard<'_, ()>) {
        let guard = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        (SimpleCommunicator::world(), guard)
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mpi").field("rank", &self.rank).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&self, partner: usize, own: &[f32], theirs: &mut [f32]) -> Result<()> {
        let (world, _guard) = self.world();
        let partner = world.process_at_rank(partner as i32);
        for (own, theirs) in own.chunks(MESSAGE).zip(theirs.chunks_mut(MESSAGE)) {
            send_receive_into(own, &partner, theirs, &partner);
        }
        Ok(())
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let (world, _guard) = self.world();
        let root = world.process_at_rank(0);
        let mut length = bytes.len() as u64;
        root.broadcast_into(&mut length);
        bytes.resize(length as usize, 0);
        bytes.chunks_mut(MESSAGE).for_each(|part| root.broadcast_into(part));
        Ok(())
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let (world, _guard) = self.world();
        let mut lengths = vec![0u64; self.size];
        world.all_gather_into(&(own.len() as u64), &mut lengths[..]);
        let lengths: Vec<usize> = lengths.into_iter().map(|length| length as usize).collect();
        // The parts of all processes together are a message.
        let part = MESSAGE / self.size;
        let mut all: Vec<Vec<u8>> = lengths.iter().map(|length| Vec::with_capacity(*length)).collect();
        for start in (0..lengths.iter().copied().max().unwrap_or(0)).step_by(part) {
            let counts: Vec<i32> =
                lengths.iter().map(|length| length.saturating_sub(start).min(part) as i32).collect();
            let starts: Vec<i32> = counts
                .iter()
                .scan(0, |end, count| {
                    let start = *end;
                    *end += count;
                    Some(start)
                })
                .collect();
            let mut received = vec![0u8; counts.iter().map(|&count| count as usize).sum()];
            let sent = &own[start.min(own.len())..own.len().min(start + part)];
            let mut partition = PartitionMut::new(&mut received[..], &counts[..], &starts[..]);
            world.all_gather_varcount_into(sent, &mut partition);
            for ((all, &count), &start) in all.iter_mut().zip(&counts).zip(&starts) {
                all.extend(&received[start as usize..(start + count) as usize]);
            }
        }
        Ok(all)
    }

    fn barrier(&self) -> Result<()> {
        let (world, _guard) = self.world();
        world.barrier();
        Ok(())
    }

    fn abort(&self, code: i32) -> ! {
        SimpleCommunicator::world().abort(code)
    }
}
