use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::builder::NonEmptyStringValueParser;
use firstsight_data::Task;
use firstsight_serve::{Limits, ServeConfig, Server, Session, Teaching};
use firstsight_transfer::{Classifier, PredictOptions, RunFolder};
use rand::TryRngCore as _;

use crate::{
    answers::AnswerArgs,
    context::Context,
    hub,
    process::return_freed_memory,
    values::{self, Backbone},
};

/// How long a page that teaches keeps freed memory.
const BETWEEN_RETURNS: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run whose network answers; or a folder of class folders to teach with [default: teach in --dir]
    #[arg(value_name = "RUN or FOLDER")]
    run: Option<PathBuf>,
    /// Address to listen at. Beyond loopback a token is needed, and made if none is given
    #[arg(long, default_value = "127.0.0.1", value_name = "HOST")]
    host: String,
    /// Port to listen at; 0 takes a free one, which is printed
    #[arg(long, default_value_t = 8000, value_name = "PORT")]
    port: u16,
    /// Further name by which browsers may call the service, such as that of a proxy with TLS before it; may be repeated
    #[arg(long, value_parser = values::host_name, value_name = "NAME")]
    allowed_host: Vec<String>,
    /// Token that each request must have: Authorization: Bearer TOKEN
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), value_name = "TOKEN")]
    token: Option<String>,
    #[command(flatten)]
    answers: AnswerArgs,
    // Groups with a heading come last: what follows one stands under its heading.
    #[command(flatten)]
    teach: TeachArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Teaching")]
struct TeachArgs {
    /// Folder for photos and runs of the page that teaches [default: firstsight-teach]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Run that answers until the first training, such as one of `fine-tune` [default: the last one of --dir]
    #[arg(long, value_name = "RUN")]
    begin_with: Option<PathBuf>,
    /// Pretrained network that is fine-tuned: a name of `firstsight models`, timm's name of weights (resnet50.a1_in1k), or a hub
    /// repository in timm's layout (owner/name) [default: the one that --weights names, or mobilenet-v2]
    #[arg(long, value_parser = values::backbone, value_name = "MODEL")]
    backbone: Option<Backbone>,
    /// Pretrained weights: a hub repository (owner/name), a folder with model.safetensors and config.json, or a file
    /// [default: the published ones, from the hub]
    #[arg(long, value_name = "HUB_ID, FOLDER or FILE")]
    weights: Option<String>,
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
    /// Most pixels of an image in its file, for a run that answers [default: the run's, 250000000]
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
    let is_made = args.token.is_none() && !is_loopback(&args.host);
    let token = if is_made { Some(new_token()?) } else { args.token.clone() };
    let config = ServeConfig {
        host: args.host.clone(),
        port: args.port,
        allowed_hosts: args.allowed_host.clone(),
        token: token.clone(),
        limits: args.limits.limits()?,
    };
    let server = Server::bind(config)?;
    let announce = |server: &Server, what: String| {
        say!("http://{} {what}; Ctrl-C ends it", server.address());
        if let Some(token) = token.filter(|_| is_made) {
            say!("the page: http://HOST:{}/#token={token}", server.address().port());
            say!("Authorization: Bearer {token}");
        }
    };
    let interrupt = &context.runtime.interrupt;
    match &args.run {
        Some(run) if !run.is_dir() || is_run(run) => {
            let (classifier, options) = network(run, args, context)?;
            announce(&server, format!("answers for {}", run.display()));
            interrupt.with_graceful_interrupt(|_| server.serve(classifier, &options, interrupt))?;
        }
        photos => {
            let dir = args.teach.dir.as_deref().unwrap_or(Path::new("firstsight-teach"));
            let teaching = args.teaching(dir, photos.as_deref(), context)?;
            announce(&server, format!("teaches in {}", dir.display()));
            // What trainings and exports have freed would stay with the process for good.
            std::thread::Builder::new().name("memory".to_owned()).spawn(|| {
                loop {
                    std::thread::sleep(BETWEEN_RETURNS);
                    return_freed_memory();
                }
            })?;
            interrupt.with_graceful_interrupt(|_| server.teach(teaching, interrupt))?;
        }
    }
    Ok(())
}

/// Whether a folder is meant as a run, or as one of many.
fn is_run(folder: &Path) -> bool {
    RunFolder::open(folder).is_ok() || folder.join("config.json").exists() || folder.join("fold-1").is_dir()
}

/// The network of a run, and how it answers.
fn network(run: &Path, args: &Args, context: &Context) -> Result<(Classifier, PredictOptions)> {
    let TeachArgs { dir, begin_with, backbone, weights } = &args.teach;
    let given = [
        (dir.is_some(), "--dir"),
        (begin_with.is_some(), "--begin-with"),
        (backbone.is_some(), "--backbone"),
        (weights.is_some(), "--weights"),
    ];
    if let Some((_, flag)) = given.into_iter().find(|(is_given, _)| *is_given) {
        bail!("{flag} is for teaching, and {} is a run", run.display());
    }
    let mut classifier = Classifier::open(run, &context.runtime.device)?;
    args.answers.check_task(&classifier)?;
    let reject = args.answers.thresholds(&classifier, &context.runtime)?;
    let options = PredictOptions { top: args.answers.top, reject };
    classifier.temperature = args.answers.temperature.or(classifier.temperature);
    if let Some(pixels) = args.limits.max_pixels {
        classifier.input.reading.max_pixels = pixels;
    }
    Ok((classifier, options))
}

impl Args {
    /// What the page teaches: with the photos of a folder, or of another one.
    fn teaching(&self, dir: &Path, photos: Option<&Path>, context: &Context) -> Result<Teaching> {
        if self.limits.max_pixels.is_some() {
            bail!("--max-pixels is for a run; a page that teaches takes photos as --max-decoding allows");
        }
        let seed = u32::try_from(context.seed).map_err(|_| {
            anyhow!("the seed of a page that teaches is less than 2^32, found {}", context.seed)
        })?;
        if let Some(flag) = self.answers.for_classes().next() {
            bail!(
                "{flag} is for a run; what the page has taught answers 'none of these' and calibrated by itself"
            );
        }
        let TeachArgs { backbone, weights, begin_with, .. } = &self.teach;
        let begin_with = begin_with.as_deref().map(RunFolder::open).transpose()?;
        if let Some(run) = &begin_with {
            let task = Classifier::open(run.path(), &context.runtime.device)?.target.task();
            if task != Task::SingleLabel {
                bail!(
                    "{}: expected a run of one class per image, which the page teaches, found one for {task}",
                    run.path().display()
                );
            }
        }
        let session =
            Session::open(dir, photos).with_context(|| format!("cannot teach in {}", dir.display()))?;
        let (model, weights) =
            values::model_and_weights(backbone.as_ref(), weights.as_deref()).map_err(anyhow::Error::msg)?;
        let runtime = context.runtime.clone();
        let pretrained = hub::locate_any(model, weights, None, &runtime)?;
        Ok(Teaching { session, pretrained, runtime, seed, run: begin_with })
    }
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
