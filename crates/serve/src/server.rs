//! Listening, connections and the graceful stop.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use firstsight_transfer::{Classifier, InterruptFlag, PredictOptions};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::access::Access;
use crate::current::Current;
use crate::metrics::Metrics;
use crate::service::Service;
use crate::teach::{Teach, Teaching};
use crate::{Error, Limits, Result};

/// How often a listening service looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// The longest time of a request, a year: far below where a time that it is added to overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Where a service listens, whom it answers, and how much it takes.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// The address or name to listen at, such as `127.0.0.1`.
    pub host: String,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// Further names by which browsers may call it, such as that of a proxy with TLS before it.
    pub allowed_hosts: Vec<String>,
    /// What `Authorization: Bearer` must say. Needed where other machines can reach the host.
    pub token: Option<String>,
    /// What it takes at most.
    pub limits: Limits,
}

/// A service that listens, and doesn't answer yet.
#[derive(Debug)]
pub struct Server {
    listener: std::net::TcpListener,
    address: SocketAddr,
    config: ServeConfig,
}

impl Server {
    /// Listens at the configuration's address.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a host beyond loopback without a token and for limits of 0 or beyond what can be counted, [`Error::Address`] for a host that is none and a port in use.
    pub fn bind(config: ServeConfig) -> Result<Self> {
        config.check()?;
        let name = match config.host.contains(':') {
            true => format!("[{}]:{}", config.host, config.port),
            false => format!("{}:{}", config.host, config.port),
        };
        let failed = |error: std::io::Error| Error::Address {
            address: name.clone(),
            reason: match error.kind() {
                ErrorKind::AddrInUse => {
                    format!("the port is in use by another program; --port 0 takes a free one ({error})")
                }
                _ => error.to_string(),
            },
        };
        let mut addresses: Vec<SocketAddr> =
            (config.host.as_str(), config.port).to_socket_addrs().map_err(failed)?.collect();
        if config.token.is_none() && addresses.iter().any(|address| !address.ip().is_loopback()) {
            return Err(Error::Setting {
                setting: "the token",
                expected: format!("given, since other machines can reach {}", config.host),
                found: "none".to_owned(),
            });
        }
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let listener = std::net::TcpListener::bind(&*addresses).map_err(failed)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, config })
    }

    /// The address at which it listens, with the port that it has got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests with a network until the flag is raised; then finishes those in flight, for as long as a request may take.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for a thread that cannot be started.
    pub fn serve(
        self,
        classifier: Classifier,
        options: &PredictOptions,
        interrupt: &InterruptFlag,
    ) -> Result<()> {
        let (metrics, current) = self.network();
        current.put(classifier, *options)?;
        self.answer(None, metrics, current, interrupt)
    }

    /// Shows the page that teaches, and answers with the network that it has taught last, until the flag is raised; then as
    /// [`serve`](Self::serve). A training that runs is stopped.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve).
    pub fn teach(self, teaching: Teaching, interrupt: &InterruptFlag) -> Result<()> {
        let (metrics, current) = self.network();
        let teach = Teach::new(teaching, current.clone(), &self.config.limits);
        self.answer(Some(teach), metrics, current, interrupt)
    }

    fn network(&self) -> (Arc<Metrics>, Arc<Current>) {
        let metrics = Arc::new(Metrics::new());
        (metrics.clone(), Arc::new(Current::new(self.config.limits, metrics)))
    }

    fn answer(
        self,
        teach: Option<Teach>,
        metrics: Arc<Metrics>,
        current: Arc<Current>,
        interrupt: &InterruptFlag,
    ) -> Result<()> {
        let Self { listener, address, config } = self;
        let limits = config.limits;
        let service = Service {
            access: Access {
                names: ["localhost".to_owned(), config.host]
                    .into_iter()
                    .chain(config.allowed_hosts)
                    .collect(),
                is_loopback: address.ip().is_loopback(),
                token: config.token,
            },
            limits,
            metrics,
            queue: Semaphore::new(limits.queue),
            connections: Arc::new(Semaphore::new(limits.connections)),
            current,
            teach,
        };
        let service = Arc::new(service);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let served = runtime.block_on(answer_all(listener, service.clone(), interrupt));
        // Connections that outlived their time end with it.
        drop(runtime);
        if let Some(teach) = &service.teach {
            teach.end();
        }
        served
    }
}

impl ServeConfig {
    fn check(&self) -> Result<()> {
        let Limits { body, images, decoding_memory, queue, connections, time, batch } = self.limits;
        let counts = [
            ("the largest body (--max-body)", body as u64, u64::MAX),
            ("the number of images (--max-images)", images as u64, u64::MAX),
            ("the memory for decoding (--max-decoding)", decoding_memory, u64::MAX),
            ("the queue (--queue)", queue as u64, Semaphore::MAX_PERMITS as u64),
            ("the number of connections (--connections)", connections as u64, Semaphore::MAX_PERMITS as u64),
            ("the batch (--max-batch)", batch as u64, u64::MAX),
        ];
        for (setting, value, most) in counts {
            if value == 0 || value > most {
                let expected = if value == 0 { "above 0".to_owned() } else { format!("at most {most}") };
                return Err(Error::Setting { setting, expected, found: value.to_string() });
            }
        }
        if time.is_zero() || time > LONGEST {
            return Err(Error::Setting {
                setting: "the time of a request (--timeout)",
                expected: format!("above 0 and at most {} seconds", LONGEST.as_secs()),
                found: time.as_secs_f64().to_string(),
            });
        }
        Ok(())
    }
}

async fn answer_all(
    listener: std::net::TcpListener,
    service: Arc<Service>,
    interrupt: &InterruptFlag,
) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let graceful = GracefulShutdown::new();
    // As many connections again are told that there are too many; what is beyond is closed at once.
    let above = Arc::new(Semaphore::new(service.limits.connections));
    while !interrupt.is_raised() {
        let stream = match timeout(LOOK, listener.accept()).await {
            Err(_) => continue,
            Ok(Ok((stream, _))) => stream,
            // Too many open files, or a client that has left already.
            Ok(Err(error)) => {
                tracing::warn!("a connection failed: {error}");
                tokio::time::sleep(LOOK).await;
                continue;
            }
        };
        let usual = service.connections.clone().try_acquire_owned();
        let is_above = usual.is_err();
        if let Ok(permit) = usual.or_else(|_| above.clone().try_acquire_owned()) {
            serve_connection(stream, permit, is_above, &service, &graceful);
        }
    }
    drop(listener);
    let _ = timeout(service.limits.time, graceful.shutdown()).await;
    Ok(())
}

fn serve_connection(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    is_above: bool,
    service: &Arc<Service>,
    graceful: &GracefulShutdown,
) {
    let _ = stream.set_nodelay(true);
    let time = service.limits.time;
    let service = service.clone();
    let respond = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.respond(request, is_above).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(time)
        .keep_alive(!is_above)
        .serve_connection(TokioIo::new(stream), respond);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        // A client that breaks off is no error of the service.
        let _ = connection.await;
        drop(permit);
    });
}
