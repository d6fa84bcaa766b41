//! The processes that run the steps, ours and PyTorch's alike: each in its own, so that their threads and memory don't
//! disturb each other, and in turn.
//!
//! A worker warms up and prints a line of JSON that says what it is. For each line of its input, a number of seconds, it
//! runs steps for so long, and prints their milliseconds. At the end of its input it prints its memory.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use firstsight::{Context, device};
use firstsight_ops::Instructions;
use serde::{Deserialize, Serialize};

use super::{Comparison, Item, Mode, instructions_name};

/// Steps before the first that counts.
const WARM_UP: usize = 3;
/// Steps of a round, at least.
const LEAST_STEPS: usize = 3;
/// A pause before each round: the other side's threads stop waiting for work meanwhile.
const REST: Duration = Duration::from_millis(250);

/// Description of a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) threads: usize,
    /// Trainable parameters: the two sides must agree.
    pub(crate) params: usize,
}

/// Resident memory in MiB, where the system tells.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Before there was a network.
    pub(crate) base_mib: Option<f64>,
    /// At most.
    pub(crate) peak_mib: Option<f64>,
}

/// Is our worker: runs the item's steps as standard input asks for them.
pub(crate) fn serve(item: Item, mode: Mode, batch: usize, context: &Context) -> Result<()> {
    let base_mib = memory("VmRSS:");
    let (mut step, params) = item.step(mode, batch, context.seed, &context.runtime.device)?;
    for _ in 0..WARM_UP {
        step()?;
    }
    let name = format!("Firstsight {}", env!("CARGO_PKG_VERSION"));
    say(&About { name, threads: rayon::current_num_threads(), params })?;
    for line in std::io::stdin().lines() {
        let seconds: f64 = line?.trim().parse().context("a round's length in seconds")?;
        let (started, mut times) = (Instant::now(), Vec::new());
        while times.len() < LEAST_STEPS || started.elapsed().as_secs_f64() < seconds {
            let started = Instant::now();
            step()?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        say(&times)?;
    }
    say(&Memory { base_mib, peak_mib: memory("VmHWM:") })
}

fn say(value: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(value)?)?;
    Ok(out.flush()?)
}

/// A line of `/proc/self/status`, in MiB.
fn memory(key: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

/// A way to run PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct PyTorch {
    pub(crate) variant: Variant,
    pub(crate) malloc: Malloc,
}

/// `--variant` of `benches/peers/steps.py`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Variant {
    Eager,
    ChannelsLast,
    Compile,
    CompileChannelsLast,
    /// The network as ONNX in ONNX Runtime: inference alone.
    Onnxruntime,
}

/// Ways of which the best is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    PyTorch(Malloc),
    OnnxRuntime,
}

impl Group {
    pub(crate) const ALL: [Self; 3] =
        [Self::PyTorch(Malloc::Default), Self::PyTorch(Malloc::Keeping), Self::OnnxRuntime];
}

/// The C library's treatment of large freed blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Malloc {
    /// Gives them back to the system, by default.
    Default,
    /// Keeps them, as glibc does when it is told to; our command line tells it so by itself.
    Keeping,
}

impl PyTorch {
    /// All ways that this system has.
    pub(crate) fn all(of: &Comparison) -> Vec<Self> {
        let mallocs: &[Malloc] = if cfg!(all(target_os = "linux", target_env = "gnu")) {
            &[Malloc::Default, Malloc::Keeping]
        } else {
            &[Malloc::Default]
        };
        let variants =
            [Variant::Eager, Variant::ChannelsLast, Variant::Compile, Variant::CompileChannelsLast];
        // ONNX Runtime has no limit of instructions.
        let infers = matches!(of.mode, Mode::Forward | Mode::Features);
        let onnx = (infers && of.instructions.is_none())
            .then_some(Self { variant: Variant::Onnxruntime, malloc: Malloc::Default });
        variants
            .into_iter()
            .flat_map(|variant| mallocs.iter().map(move |&malloc| Self { variant, malloc }))
            .chain(onnx)
            .collect()
    }

    pub(crate) fn group(self) -> Group {
        match self.variant {
            Variant::Onnxruntime => Group::OnnxRuntime,
            _ => Group::PyTorch(self.malloc),
        }
    }
}

impl std::fmt::Display for PyTorch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.variant.name())?;
        f.write_str(if self.malloc == Malloc::Keeping { ", malloc keeps" } else { "" })
    }
}

impl Variant {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            Self::ChannelsLast => "channels_last",
            Self::Compile => "compile",
            Self::CompileChannelsLast => "compile_channels_last",
            Self::Onnxruntime => "onnxruntime",
        }
    }
}

/// A worker's process, seen from outside. Dropping it ends the process.
pub(crate) struct Worker {
    process: Child,
    /// Taken to end the input.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub(crate) about: About,
}

impl Worker {
    /// Starts our side, warmed up.
    pub(crate) fn ours(of: &Comparison, context: &Context) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        command.args([
            "bench",
            "--serve",
            "--seed",
            &context.seed.to_string(),
            "--device",
            &device::argument(&context.runtime.device),
        ]);
        if let Some(set) = of.instructions {
            command.args(["--instructions", instructions_name(set)]);
        }
        Self::start(command, of).context("our own worker does not run")
    }

    /// Starts PyTorch's side, warmed up; compiling may take a minute.
    pub(crate) fn pytorch(python: &Path, script: &Path, how: PyTorch, of: &Comparison) -> Result<Self> {
        const KEEP: &str =
            "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=67108864";
        const LIMITS: [&str; 3] = ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"];
        let mut command = Command::new(python);
        command.arg(script).args(["--variant", how.variant.name()]).env_remove("GLIBC_TUNABLES");
        if how.malloc == Malloc::Keeping {
            command.env("GLIBC_TUNABLES", KEEP);
        }
        // PyTorch's own kernels, oneDNN's and MKL's.
        let limits = of.instructions.and_then(|set| match set {
            Instructions::Avx512 => None,
            Instructions::Avx2 => Some(["avx2", "AVX2", "AVX2"]),
            _ => Some(["default", "SSE41", "SSE4_2"]),
        });
        for (name, limit) in LIMITS.into_iter().zip(limits.into_iter().flatten()) {
            command.env(name, limit);
        }
        if of.mode == Mode::FineTune {
            command.args(["--unfreeze-from", &of.item.unfreeze_from()?]);
        }
        Self::start(command, of)
    }

    fn start(mut command: Command, of: &Comparison) -> Result<Self> {
        let &Comparison { item, mode, batch, threads, .. } = of;
        command.args(["--item", item.name(), "--mode", mode.name(), "--batch", &batch.to_string()]);
        if let Some(threads) = threads {
            command.args(["--threads", &threads.to_string()]);
        }
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let input = process.stdin.take();
        let mut output = BufReader::new(process.stdout.take().context("no output")?);
        let mut errors = process.stderr.take().context("no errors")?;
        // Read as they come, lest the worker wait for a full pipe to be emptied.
        let errors = std::thread::spawn(move || {
            let mut said = Vec::new();
            errors.read_to_end(&mut said).map(|_| said)
        });
        match hear(&mut output) {
            Ok(about) => Ok(Self { process, input, output, about }),
            Err(error) => {
                drop(input);
                process.wait()?;
                let said = errors.join().ok().and_then(Result::ok).unwrap_or_default();
                let said = String::from_utf8_lossy(&said);
                let last = said.lines().rev().find(|line| !line.trim().is_empty());
                bail!("{}", last.map_or_else(|| error.to_string(), str::to_owned))
            }
        }
    }

    /// The milliseconds of the steps of one round.
    pub(crate) fn round(&mut self, seconds: f64) -> Result<Vec<f64>> {
        std::thread::sleep(REST);
        let input = self.input.as_mut().context("the worker has ended")?;
        writeln!(input, "{seconds}")?;
        input.flush()?;
        hear(&mut self.output)
    }

    /// Ends the process; gives its memory.
    pub(crate) fn end(mut self) -> Result<Memory> {
        self.input = None;
        let memory = hear(&mut self.output)?;
        self.process.wait()?;
        Ok(memory)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // After `end` there is nothing left to end, which is no failure.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The next line of a worker.
fn hear<T: for<'a> Deserialize<'a>>(output: &mut BufReader<ChildStdout>) -> Result<T> {
    let mut line = String::new();
    if output.read_line(&mut line)? == 0 {
        bail!("the worker ended without an answer");
    }
    serde_json::from_str(&line).with_context(|| format!("the worker said {line:?}"))
}
