//! `--device`: which accelerator, among those built in.

use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use candle_core::Device;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    Cpu,
    Cuda,
    Metal,
}

impl FromStr for DeviceKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            "metal" => Ok(Self::Metal),
            _ => Err(format!("'{name}' is none of cpu, cuda, metal")),
        }
    }
}

impl DeviceKind {
    fn best_built_in() -> Self {
        if cfg!(feature = "cuda") {
            Self::Cuda
        } else if cfg!(feature = "metal") {
            Self::Metal
        } else {
            Self::Cpu
        }
    }
}

/// The device asked for, or else the best one built in.
pub(crate) fn open(kind: Option<DeviceKind>) -> Result<Device> {
    match kind.unwrap_or_else(DeviceKind::best_built_in) {
        DeviceKind::Cpu => Ok(Device::Cpu),
        DeviceKind::Cuda if cfg!(feature = "cuda") => {
            Device::new_cuda(0).context("can't open the CUDA device")
        }
        DeviceKind::Metal if cfg!(feature = "metal") => {
            Device::new_metal(0).context("can't open the Metal device")
        }
        DeviceKind::Cuda => bail!("this build has no CUDA: run `cargo xtask-cuda` instead of `cargo xtask`"),
        DeviceKind::Metal => {
            bail!("this build has no Metal: run `cargo xtask-metal` instead of `cargo xtask`")
        }
    }
}

/// What `--device` calls it.
pub(crate) fn argument(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}

pub(crate) fn describe(device: &Device) -> String {
    match device {
        Device::Cpu => format!("CPU, {}", cpu_model().unwrap_or_else(|| "model unknown".to_owned())),
        Device::Cuda(_) => "CUDA device 0".to_owned(),
        Device::Metal(_) => "Metal device 0".to_owned(),
    }
}

fn cpu_model() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "))?.1;
    let threads = std::thread::available_parallelism().ok()?;
    Some(format!("{model}, {threads} threads"))
}
