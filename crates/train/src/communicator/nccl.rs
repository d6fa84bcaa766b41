//! Processes of an MPI launcher, each with a GPU of its own, that exchange gradients through NCCL.

use std::fmt;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::CudaContext;
use cudarc::nccl::{Comm, Id};

use crate::{Communicator, Error, Result};

/// An exchange, and where its answer goes.
struct Exchange {
    partner: usize,
    own: Vec<f32>,
    theirs: SyncSender<Result<Vec<f32>, String>>,
}

/// Processes with a CUDA device each. Values go from the host to the device, by NCCL to the partner's, and back to its host; bytes, and
/// all that is no exchange, go by another communicator, which also has to have started the processes.
///
/// NCCL and CUDA are loaded when it starts. It compiles without them, and has not been run on machines with several GPUs.
pub struct Nccl {
    others: Arc<dyn Communicator>,
    exchanges: Mutex<Sender<Exchange>>,
}

impl Nccl {
    /// Starts NCCL in all processes of `others`, each with the CUDA device of this number, which no other process of its machine has.
    ///
    /// # Errors
    ///
    /// [`Error::Communication`] where NCCL or CUDA cannot be loaded, or the device cannot be opened.
    pub fn start(others: Arc<dyn Communicator>, device: usize) -> Result<Self> {
        let (rank, size) = (others.rank(), others.size());
        let id = if rank == 0 { on_a_thread(|| Id::new().map_err(|e| format!("{e:?}"))) } else { Ok(None) };
        let mut bytes = match &id {
            Ok(Some(id)) => id.internal().iter().map(|byte| *byte as u8).collect(),
            Ok(None) | Err(_) => Vec::new(),
        };
        // Those that wait for it hear of a failure, too.
        others.broadcast(&mut bytes)?;
        id?;
        let bytes: [u8; 128] =
            bytes.try_into().map_err(|_| Error::Communication("process 0 cannot start NCCL".to_owned()))?;
        let id = Id::uninit(bytes.map(|byte| byte as std::ffi::c_char));
        let (exchanges, received) = channel();
        let (ready, is_ready) = sync_channel(1);
        std::thread::Builder::new()
            .name("nccl".to_owned())
            .spawn(move || {
                let opened = open(device, (rank, size), id);
                let comm = match opened {
                    Ok(comm) => comm,
                    Err(error) => return drop(ready.send(Err(error))),
                };
                let _ = ready.send(Ok(()));
                serve(&comm, &received);
            })
            .map_err(|e| Error::Communication(e.to_string()))?;
        is_ready.recv().unwrap_or_else(|_| Err(NOT_LOADED.to_owned())).map_err(Error::Communication)?;
        Ok(Self { others, exchanges: Mutex::new(exchanges) })
    }
}

const NOT_LOADED: &str = "NCCL and CUDA cannot be loaded";

/// The result of work on a thread of its own, which ends where a library cannot be loaded.
fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<Option<T>> {
    let ended = std::thread::scope(|scope| scope.spawn(work).join());
    ended.unwrap_or_else(|_| Err(NOT_LOADED.to_owned())).map(Some).map_err(Error::Communication)
}

fn open(device: usize, (rank, size): (usize, usize), id: Id) -> Result<Comm, String> {
    let context = CudaContext::new(device).map_err(|e| format!("cannot open CUDA device {device}: {e}"))?;
    let stream = context.new_stream().map_err(|e| e.to_string())?;
    Comm::from_rank(stream, rank, size, id).map_err(|e| format!("cannot start NCCL: {e:?}"))
}

/// Does exchanges until there are none any more. The thread that has opened NCCL alone calls it.
fn serve(comm: &Comm, exchanges: &Receiver<Exchange>) {
    for Exchange { partner, own, theirs } in exchanges {
        let _ = theirs.send(exchange(comm, partner, &own));
    }
}

fn exchange(comm: &Comm, partner: usize, own: &[f32]) -> Result<Vec<f32>, String> {
    let stream = comm.stream();
    let failed = |e: cudarc::driver::DriverError| e.to_string();
    let sent = stream.clone_htod(own).map_err(failed)?;
    let mut received = stream.alloc_zeros::<f32>(own.len()).map_err(failed)?;
    {
        let mut group = comm.group();
        group.send(sent.as_view(), partner as i32).map_err(|e| format!("{e:?}"))?;
        group.recv(received.as_view_mut(), partner as i32).map_err(|e| format!("{e:?}"))?;
    }
    stream.clone_dtoh(&received).map_err(failed)
}

impl fmt::Debug for Nccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nccl").field("others", &self.others).finish_non_exhaustive()
    }
}

impl Communicator for Nccl {
    fn rank(&self) -> usize {
        self.others.rank()
    }

    fn size(&self) -> usize {
        self.others.size()
    }

    fn exchange(&self, partner: usize, own: &[f32], theirs: &mut [f32]) -> Result<()> {
        let (answer, received) = sync_channel(1);
        let asked = Exchange { partner, own: own.to_vec(), theirs: answer };
        let failed = |reason: &str| Error::Communication(format!("process {partner}: {reason}"));
        let sent = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner).send(asked);
        sent.map_err(|_| failed("NCCL has ended"))?;
        let values = received.recv().map_err(|_| failed("NCCL has ended"))?;
        theirs.copy_from_slice(&values.map_err(|reason| failed(&reason))?);
        Ok(())
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        self.others.broadcast(bytes)
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.others.all_gather(own)
    }

    fn barrier(&self) -> Result<()> {
        self.others.barrier()
    }

    fn abort(&self, code: i32) -> ! {
        self.others.abort(code)
    }
}
