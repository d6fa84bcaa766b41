//! `--device`: an accelerator among those built in.

use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use candle_core::Device;

use crate::processes;

/// A device as named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceName {
    /// The processor.
    Cpu,
    /// A CUDA device by its number; without one, the process's own among those that a launcher has started on the machine.
    Cuda(Option<usize>),
    /// Apple's GPU.
    Metal,
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let wrong = || format!("'{name}' is none of cpu, cuda, metal, cuda:N");
        match name {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(None)),
            "metal" => Ok(Self::Metal),
            _ => {
                let number = name.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                number.map(|number| Self::Cuda(Some(number))).ok_or_else(wrong)
            }
        }
    }
}

impl DeviceName {
    fn best_built_in() -> Self {
        if cfg!(feature = "cuda") {
            Self::Cuda(None)
        } else if cfg!(feature = "metal") {
            Self::Metal
        } else {
            Self::Cpu
        }
    }
}

/// Opens the named device, or else the best one built in.
///
/// # Errors
///
/// A device that is not built in or cannot be opened.
pub fn open(name: Option<DeviceName>) -> Result<Device> {
    match name.unwrap_or_else(DeviceName::best_built_in) {
        DeviceName::Cpu => Ok(Device::Cpu),
        DeviceName::Cuda(number) if cfg!(feature = "cuda") => {
            let number = number.unwrap_or_else(processes::gpu);
            Device::new_cuda(number).with_context(|| format!("cannot open CUDA device {number}"))
        }
        DeviceName::Metal if cfg!(feature = "metal") => {
            Device::new_metal(0).context("cannot open the Metal device")
        }
        DeviceName::Cuda(_) => {
            bail!(
                "this build has no CUDA: run `cargo xtask-cuda` instead of `cargo xtask`, or install with `--features cuda`"
            )
        }
        DeviceName::Metal => {
            bail!(
                "this build has no Metal: run `cargo xtask-metal` instead of `cargo xtask`, or install with \
                 `--features metal`"
            )
        }
    }
}

/// The argument of `--device` for a device.
pub fn argument(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".to_owned(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { .. } => "metal".to_owned(),
    }
}

/// A device in words, for reports.
pub(crate) fn describe(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => {
            format!("CPU, {}", cpu_model().unwrap_or_else(|| "model unknown".to_owned()))
        }
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("CUDA device {gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("Metal device {gpu_id}"),
    }
}

fn cpu_model() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "))?.1;
    let threads = std::thread::available_parallelism().ok()?;
    Some(format!("{model}, {threads} threads"))
}
