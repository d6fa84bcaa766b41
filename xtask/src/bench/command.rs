use std::fmt;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use firstsight::{Context, out, values};
use firstsight_ops::{Instructions, limit_instructions};
use serde::Serialize;

use super::{Baseline, Comparison, Item, Memory, Mode, Outcome, Peak, VariantTiming, Work, serve};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Items, A to J [default: all]
    #[arg(long, num_args = 1.., value_name = "ITEM")]
    item: Vec<Item>,
    /// forward, train, features or fine-tune [default: what the table has of each item]
    #[arg(long)]
    mode: Option<Mode>,
    /// Images per step [default: what the table has of each item]
    #[arg(long, value_parser = values::positive, value_name = "N")]
    batch: Option<usize>,
    /// Most that both sides may use of the processor: avx512, avx2 or plain
    #[arg(long, value_parser = instruction_set, value_name = "SET")]
    instructions: Option<Instructions>,
    /// Python with torch to compare with; items G to J also need timm. With onnxruntime, forward passes are compared with it
    /// too
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Number of turns of each side
    #[arg(long, default_value_t = 3, value_parser = values::positive, value_name = "N")]
    rounds: usize,
    /// Seconds per turn; three steps at least
    #[arg(long, default_value_t = 1.0, value_parser = values::rate, value_name = "SECONDS")]
    seconds: f64,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Run as a worker: steps as standard input asks for them
    #[arg(long, hide = true)]
    serve: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    if let Some(most) = args.instructions {
        limit_instructions(most);
    }
    if args.serve {
        let (&[item], Some(mode)) = (args.item.as_slice(), args.mode) else {
            bail!("a worker needs one item and a mode");
        };
        return serve(item, mode, args.batch.unwrap_or_else(|| item.batch()), context);
    }
    let threads = match context.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism().context("cannot count the processor's threads")?.get(),
    };
    let peak = Peak::measure(threads);
    if !args.json {
        let Peak { gflops, gigabytes } = peak;
        out!(
            "peak of {threads} threads: {gflops:.0} GFLOP/s in multiply-adds, {gigabytes:.1} GB/s in a triad"
        )?;
        out!("{HEADER}")?;
    }
    let mut timings = Vec::new();
    for (item, mode) in args.selected() {
        let batch = args.batch.unwrap_or_else(|| item.batch());
        let work = item.work(mode, batch)?;
        let comparison = Comparison {
            item,
            mode,
            batch,
            instructions: args.instructions,
            threads: context.threads,
            rounds: args.rounds,
            seconds: args.seconds,
        };
        let outcome = comparison.run(args.python.as_deref(), context)?;
        let timing = Timing::new(&comparison, work, peak, outcome);
        if !args.json {
            out!("{timing}")?;
        }
        timings.push(timing);
    }
    if args.json {
        out!("{}", serde_json::to_string_pretty(&timings)?)?;
    }
    Ok(())
}

fn instruction_set(name: &str) -> Result<Instructions, String> {
    let known = [Instructions::Avx512, Instructions::Avx2, Instructions::Plain];
    let found = known.into_iter().find(|set| instructions_name(*set) == name);
    found.ok_or_else(|| format!("'{name}' is none of {}", known.map(instructions_name).join(", ")))
}

pub(super) fn instructions_name(set: Instructions) -> &'static str {
    match set {
        Instructions::Avx512 => "avx512",
        Instructions::Avx2 => "avx2",
        _ => "plain",
    }
}

impl Args {
    fn selected(&self) -> Vec<(Item, Mode)> {
        let items = if self.item.is_empty() { Item::ALL.to_vec() } else { self.item.clone() };
        let pairs = |item: Item| match self.mode {
            Some(mode) => vec![(item, mode)],
            None => item.modes().iter().map(|&mode| (item, mode)).collect(),
        };
        items.into_iter().flat_map(pairs).collect()
    }
}

/// A row of the table, an element of `--json`.
#[derive(Serialize)]
struct Timing {
    item: &'static str,
    network: &'static str,
    batch: usize,
    mode: &'static str,
    /// Milliseconds a step: the median of the turns' medians.
    ms: f64,
    turns: Vec<f64>,
    threads: usize,
    #[serde(flatten)]
    memory: Memory,
    #[serde(flatten)]
    work: Work,
    peak: Peak,
    /// Share of the peak arithmetic that the step reaches.
    arithmetic_share: f64,
    /// Share of the peak memory bandwidth that the step reaches, at least.
    bandwidth_share: f64,
    /// PyTorch's best with each malloc, and ONNX Runtime.
    pytorch: Vec<BaselineTiming>,
    /// One turn of each variant of PyTorch.
    scouted: Vec<VariantTiming>,
}

#[derive(Serialize)]
struct BaselineTiming {
    #[serde(flatten)]
    baseline: Baseline,
    /// PyTorch's milliseconds over ours.
    ratio: f64,
}

impl Timing {
    fn new(of: &Comparison, work: Work, peak: Peak, outcome: Outcome) -> Self {
        let &Comparison { item, mode, batch, .. } = of;
        let Outcome { ours, baselines, scouted } = outcome;
        let ms = ours.ms;
        Self {
            item: item.name(),
            network: item.model(),
            batch,
            mode: mode.name(),
            ms,
            turns: ours.turns,
            threads: ours.threads,
            memory: ours.memory,
            work,
            peak,
            arithmetic_share: work.gflop / (ms / 1e3) / peak.gflops,
            bandwidth_share: work.gigabytes / (ms / 1e3) / peak.gigabytes,
            pytorch: baselines
                .into_iter()
                .map(|baseline| BaselineTiming { ratio: baseline.side.ms / ms, baseline })
                .collect(),
            scouted,
        }
    }
}

const HEADER: &str = "\
item  network       batch  mode        ms  of peak flops  of bandwidth  memory MiB  PyTorch ms (ratio, memory, way)
──────────────────────────────────────────────────────────────────────────────────────────────────────────────";

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { item, network, batch, mode, ms, .. } = self;
        let (arithmetic, bandwidth) = (100.0 * self.arithmetic_share, 100.0 * self.bandwidth_share);
        let memory = mib(&self.memory);
        write!(
            f,
            "{item:4}  {network:12}  {batch:5}  {mode:7} {ms:6.1}  {arithmetic:11.0} %  {bandwidth:10.0} %  {memory:>10}"
        )?;
        for BaselineTiming { baseline, ratio } in &self.pytorch {
            write!(
                f,
                "  {:.1} ({ratio:.2}, {}, {})",
                baseline.side.ms,
                mib(&baseline.side.memory),
                baseline.how
            )?;
        }
        Ok(())
    }
}

/// Memory of the steps: the peak minus the memory before there was a network.
fn mib(memory: &Memory) -> String {
    match (memory.base_mib, memory.peak_mib) {
        (Some(base), Some(peak)) => format!("{:.0}", peak - base),
        _ => "?".to_owned(),
    }
}
