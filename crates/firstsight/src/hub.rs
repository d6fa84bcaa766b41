//! The Hugging Face hub as the environment sets it: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE,
//! HF_HUB_DOWNLOAD_TIMEOUT, the proxies' usual variables and those of certificate authorities, with the meanings that Python's
//! `huggingface_hub` gives them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use firstsight_models::ModelInfo;
use firstsight_models::networks::MOBILENET_V2;
use firstsight_transfer::{
    Authorities, Error, Event, Hub, HubConfig, HubProgress, Pretrained, Runtime, WeightsSource,
};

/// The weights of `model` that `typed` names (a hub repository, a folder or a file), or else the published ones.
fn find(model: &'static ModelInfo, typed: Option<&str>, runtime: &Runtime) -> Result<Pretrained> {
    let source = match typed {
        Some(text) => WeightsSource::parse(text)?,
        None => WeightsSource::Published,
    };
    if let WeightsSource::Local(path) = &source {
        return Ok(Pretrained::local(model, path)?);
    }
    let hub = Hub::new(config()?)?;
    let report = &mut |progress: HubProgress<'_>| runtime.report(&Event::Download(progress));
    let located = Pretrained::locate(model, &source, &hub, report);
    match (typed, located) {
        (None, Err(Error::Hub(error))) => Err(*error).context(
            "cannot fetch the published weights; `--weights` takes a folder, a file or another repository instead",
        ),
        (_, located) => Ok(located?),
    }
}

/// The weights, after the user was told of what is out of the ordinary about them.
fn said(weights: Pretrained, runtime: &Runtime) -> Pretrained {
    if let Some(remark) = weights.remark() {
        runtime.message(&remark);
    }
    weights
}

/// The weights of the network that the weights name where no model is given, or else of MobileNetV2, for images of so many
/// channels.
pub(crate) fn locate_any(
    model: Option<&'static ModelInfo>,
    typed: Option<&str>,
    channels: Option<usize>,
    runtime: &Runtime,
) -> Result<Pretrained> {
    let weights = match (model, typed) {
        (None, Some(text)) => locate_named(text, runtime)?,
        _ => find(model.unwrap_or(&MOBILENET_V2), typed, runtime)?,
    };
    let weights = match channels {
        Some(channels) => weights.with_channels(channels)?,
        None => weights,
    };
    Ok(said(weights, runtime))
}

/// The weights of the network that they name.
fn locate_named(text: &str, runtime: &Runtime) -> Result<Pretrained> {
    Ok(match WeightsSource::parse(text)? {
        WeightsSource::Local(path) if path.is_dir() => Pretrained::folder(&path)?,
        WeightsSource::Local(_) => bail!("{text} is a file of weights: name its network with --backbone"),
        _ => {
            let hub = Hub::new(config()?)?;
            Pretrained::hub(text, &hub, &mut |progress| runtime.report(&Event::Download(progress)))?
        }
    })
}

/// Connection settings for an address outside the hub: its proxy, and few retries, since the files are optional.
pub(crate) fn elsewhere(address: &str) -> Result<HubConfig> {
    let config = config()?;
    Ok(HubConfig { endpoint: address.to_owned(), token: None, proxy: proxy(address), retries: 1, ..config })
}

/// The hub as the environment sets it.
pub(crate) fn config() -> Result<HubConfig> {
    let home = match variable("HF_HOME") {
        Some(home) => PathBuf::from(home),
        None => match variable("XDG_CACHE_HOME") {
            Some(cache) => PathBuf::from(cache).join("huggingface"),
            None => {
                let home = std::env::home_dir().context("there is no home folder: set HF_HOME")?;
                home.join(".cache").join("huggingface")
            }
        },
    };
    let cache = variable("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from);
    let mut config = HubConfig::new(std::path::absolute(&cache).unwrap_or(cache));
    if let Some(endpoint) = variable("HF_ENDPOINT") {
        config.endpoint = endpoint;
    }
    config.token = variable("HF_TOKEN").or_else(|| {
        let path = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        Some(std::fs::read_to_string(path).ok()?.trim().to_owned()).filter(|token| !token.is_empty())
    });
    config.offline = variable("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value));
    config.proxy = proxy(&config.endpoint);
    if !config.offline {
        config.authorities = authorities()?;
    }
    if let Some(text) = variable("HF_HUB_DOWNLOAD_TIMEOUT") {
        let seconds: u64 = text
            .parse()
            .ok()
            .filter(|s| *s > 0)
            .with_context(|| format!("HF_HUB_DOWNLOAD_TIMEOUT should be seconds, found '{text}'"))?;
        config.timeout = Duration::from_secs(seconds);
    }
    Ok(config)
}

/// The certificate authorities that the variables of OpenSSL, Python's `requests` and curl name, or else this machine's.
pub(crate) fn authorities() -> Result<Authorities> {
    let files = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"].map(variable).into_iter().flatten();
    let folders = variable("SSL_CERT_DIR");
    let folders = folders.iter().flat_map(std::env::split_paths).filter(|path| !path.as_os_str().is_empty());
    let named: Vec<PathBuf> = files.map(PathBuf::from).chain(folders).collect();
    match named.is_empty() {
        true => Ok(Authorities::system()),
        false => Authorities::files(&named)
            .context("SSL_CERT_FILE, SSL_CERT_DIR, REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names it"),
    }
}

pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_true(value: &str) -> bool {
    matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

/// The proxy that is set for the endpoint's scheme, unless NO_PROXY names its host.
pub(crate) fn proxy(endpoint: &str) -> Option<String> {
    let (scheme, rest) = endpoint.split_once("://")?;
    let host = rest.split(['/', ':']).next()?;
    let excluded = either("NO_PROXY").is_some_and(|list| {
        let matches = |entry: &str| entry == "*" || host == entry || host.ends_with(&format!(".{entry}"));
        list.split(',').any(|entry| matches(entry.trim().trim_start_matches('.')))
    });
    if excluded {
        return None;
    }
    either(if scheme == "https" { "HTTPS_PROXY" } else { "HTTP_PROXY" }).or_else(|| either("ALL_PROXY"))
}

/// A variable in upper or lower case.
fn either(name: &str) -> Option<String> {
    variable(name).or_else(|| variable(&name.to_lowercase()))
}
