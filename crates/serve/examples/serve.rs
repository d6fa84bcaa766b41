//! A run as a service on loopback.
use candle_core::Device;
use firstsight_serve::{Limits, ServeConfig, Server};
use firstsight_transfer::{Classifier, InterruptFlag, PredictOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(run) = std::env::args().nth(1) else { return Err("usage: serve RUN".into()) };
    let classifier = Classifier::open(run.as_ref(), &Device::Cpu)?;

    let limits = Limits { images: 8, ..Limits::usual() };
    let config =
        ServeConfig { host: "127.0.0.1".to_owned(), port: 0, allowed_hosts: vec![], token: None, limits };
    let server = Server::bind(config)?;
    println!("curl -T photo.jpg -X POST http://{}/predict", server.address());

    // Raising the flag, by a handler of Ctrl-C for instance, ends it gracefully.
    let interrupt = InterruptFlag::default();
    let options = PredictOptions { top: 5, reject: None };
    server.serve(classifier, &options, &interrupt)?;
    Ok(())
}
