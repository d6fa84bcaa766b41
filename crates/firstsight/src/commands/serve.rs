use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use firstsight_serve::{Limits, ServeConfig, Server};
use firstsight_transfer::{Classifier, PredictOptions, Target, Thresholds};
use rand::TryRngCore as _;

use crate::{context::Context, values};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run whose network answers
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Address to listen at. Beyond loopback a token is needed, and made if none is given
    #[arg(long, default_value = "127.0.0.1", value_name = "HOST")]
    host: String,
    /// Port to listen at; 0 takes a free one, which is printed
    #[arg(long, default_value_t = 8000, value_name = "PORT")]
    port: u16,
    /// Token that each request must have: Authorization: Bearer TOKEN
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Number of top labels per image, where a request states none
    #[arg(long, default_value_t = 5, value_parser = values::positive, value_name = "K")]
    top: usize,
    /// Answer 'none of these' for images that are none of the run's classes, such that this share of images of the classes
    /// is accepted [default: 0.95]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "0.95", value_name = "COVERAGE")]
    reject: Option<f64>,
    /// Temperature of the probabilities; 1 gives the network's own [default: the run's]
    #[arg(long, value_parser = values::rate, value_name = "T")]
    temperature: Option<f64>,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Most bytes of a request
    #[arg(long, default_value = "32MB", value_parser = values::bytes, value_name = "SIZE")]
    max_body: u64,
    /// Most images of a request
    #[arg(long, default_value_t = 64, value_parser = values::positive, value_name = "N")]
    max_images: usize,
    /// Most pixels of an image in its file [default: the run's, 250000000]
    #[arg(long, value_parser = values::pixels, value_name = "N")]
    max_pixels: Option<u64>,
    /// Most memory for images while they are decoded, all together
    #[arg(long, default_value = "1GB", value_parser = values::bytes, value_name = "SIZE")]
    max_decoding: u64,
    /// Most images that the network sees at once
    #[arg(long, default_value_t = 16, value_parser = values::positive, value_name = "N")]
    max_batch: usize,
    /// Most requests that are read, decoded or answered at a time; the next gets 503
    #[arg(long, default_value_t = 64, value_parser = values::positive, value_name = "N")]
    queue: usize,
    /// Most connections; those above get 503
    #[arg(long, default_value_t = 256, value_parser = values::positive, value_name = "N")]
    connections: usize,
    /// Seconds that a request may take, to arrive and to be answered
    #[arg(long, default_value_t = 30.0, value_parser = values::rate, value_name = "SECONDS")]
    timeout: f64,
}

impl LimitArgs {
    fn limits(&self) -> Result<Limits> {
        Ok(Limits {
            body: usize::try_from(self.max_body)?,
            images: self.max_images,
            decoding_memory: self.max_decoding,
            queue: self.queue,
            connections: self.connections,
            time: Duration::try_from_secs_f64(self.timeout).context("--timeout")?,
            batch: self.max_batch,
        })
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let mut classifier = Classifier::open(&args.run, &context.runtime.device)?;
    let options = PredictOptions { top: args.top, reject: thresholds(args, &classifier)? };
    classifier.temperature = args.temperature.or(classifier.temperature);
    if let Some(pixels) = args.limits.max_pixels {
        classifier.input.reading.max_pixels = pixels;
    }
    let token = args.token.clone().filter(|token| !token.is_empty());
    let is_made = token.is_none() && !is_loopback(&args.host);
    let token = if is_made { Some(new_token()?) } else { token };
    let limits = args.limits.limits()?;
    let config = ServeConfig { host: args.host.clone(), port: args.port, token: token.clone(), limits };
    let server = Server::bind(config)?;
    println!("http://{} answers for {}; Ctrl-C ends it", server.address(), args.run.display());
    if let Some(token) = token.filter(|_| is_made) {
        println!("Authorization: Bearer {token}");
    }
    std::io::stdout().flush()?;
    let interrupt = &context.runtime.interrupt;
    interrupt.with_graceful_interrupt(|_| server.serve(classifier, &options, interrupt))?;
    Ok(())
}

/// Whether an address or name surely is this machine's alone.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// 128 bits of the system's randomness.
fn new_token() -> Result<String> {
    let mut bytes = [0u8; 16];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).context("the system has no random numbers for a token")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn thresholds(args: &Args, classifier: &Classifier) -> Result<Option<Thresholds>> {
    if (args.reject.is_some() || args.temperature.is_some()) && classifier.target != Target::Class {
        bail!("--reject and --temperature are for one class per image, and {} is not", classifier.origin);
    }
    let Some(coverage) = args.reject else { return Ok(None) };
    let Some(reject) = &classifier.reject else {
        bail!(
            "--reject needs what a run learned from its validation images, and {} has no reject.safetensors: train it again",
            classifier.origin
        );
    };
    Ok(Some(reject.thresholds(coverage)?))
}
