//! The processes that an MPI launcher has started.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use candle_core::Device;
#[cfg(feature = "nccl")]
use candle_core::DeviceLocation;
use firstsight_train::Communicator;

/// What launchers tell a process: Open MPI, MPICH and Intel MPI, and Slurm by PMIx.
const SIZES: [&str; 2] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];
const RANKS: [&str; 3] = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"];

/// The number of a process on its machine, as Open MPI, MPICH and Intel MPI, and Slurm say it.
const LOCAL_RANKS: [&str; 3] = ["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"];

fn says(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

/// The number of this process's GPU: the processes of a machine take those that CUDA_VISIBLE_DEVICES lets them see, or all, in turn.
pub(crate) fn gpu() -> usize {
    let rank = LOCAL_RANKS.iter().find_map(|name| says(name)).unwrap_or(0);
    match std::env::var("CUDA_VISIBLE_DEVICES") {
        Ok(visible) if !visible.is_empty() => rank % visible.split(',').count(),
        _ => rank,
    }
}

/// All processes that were started together; one by itself where no launcher started it. With several GPUs they exchange numbers through
/// NCCL, where it is built in.
pub(crate) fn communicator(device: &Device) -> Result<Arc<dyn Communicator>> {
    let started = launched()?;
    #[cfg(feature = "nccl")]
    if let (DeviceLocation::Cuda { gpu_id }, 2..) = (device.location(), started.size()) {
        return Ok(Arc::new(firstsight_train::Nccl::start(started, gpu_id)?));
    }
    #[cfg(not(feature = "nccl"))]
    let _ = device;
    Ok(started)
}

fn launched() -> Result<Arc<dyn Communicator>> {
    #[cfg(feature = "mpi")]
    if SIZES.iter().chain(&RANKS).any(|name| says(name).is_some()) {
        let mpi = firstsight_train::Mpi::start()?;
        if let Some(said) = SIZES.iter().find_map(|name| says(name)).filter(|said| *said != mpi.size()) {
            bail!(
                "the launcher has started {said} processes, and the MPI library knows {}: use the mpirun of the library that \
                 firstsight was built with",
                mpi.size()
            );
        }
        return Ok(Arc::new(mpi));
    }
    let is_one_of_several = SIZES.iter().filter_map(|name| says(name)).any(|size| size > 1)
        || RANKS.iter().filter_map(|name| says(name)).any(|rank| rank > 0);
    if is_one_of_several {
        bail!(
            "a launcher has started several processes, and this build knows no MPI: build it with --features mpi"
        );
    }
    Ok(Arc::new(firstsight_train::Alone))
}

/// Says what went wrong in one of several processes, if there is something to say, and ends them all with the exit code.
pub(crate) fn end_all(communicator: &dyn Communicator, error: Option<&str>, code: u8) -> u8 {
    if communicator.size() == 1 {
        if let Some(error) = error {
            log!("error: {error}");
        }
        return code;
    }
    // What is wrong in all processes, the first one says.
    if communicator.rank() > 0 {
        std::thread::sleep(Duration::from_secs(2));
    }
    if let Some(error) = error {
        log!("error: process {} of {}: {error}", communicator.rank(), communicator.size());
    }
    let _ = std::io::stdout().flush();
    communicator.abort(i32::from(code))
}
