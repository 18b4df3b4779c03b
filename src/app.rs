//! Builds every part from a configuration and puts them together: threads, sockets, reload, shutdown.
//!
//! [`Bound`] holds all sockets and serves nothing yet; [`Bound::run`] serves until it has drained.
//!
//! One single-threaded runtime for each core, each with its own connections to backends: no lock and no
//! wake-up across threads in a request's way. All threads accept from one socket: the one that is free
//! takes the next connection. A further thread, the caller's, has signals, reloads and timers.

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    thread::{self, JoinHandle},
};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::{
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::mpsc,
};

use crate::{
    config::{Config, source::Source},
    listener::{self, Connections, Downstream, Handler, Server},
    net::{self, Ticker},
    proxy::{self, Proxy, Unknowns, body::Answer},
    reload::{Reason, Reload, watch},
    router::table::{self, Publisher, Subscriber},
    shutdown::{self, Signals, Trigger, Watch, Watcher},
};

/// Why the process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listening address cannot be had.
    #[error("cannot listen on {address}{}", hint(.source))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A thread, a runtime or a signal handler cannot be had.
    #[error("cannot start")]
    System(#[from] io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            ": another process listens there; stop it, or choose another address with --listen or server.listen"
        }
        io::ErrorKind::PermissionDenied => {
            ": ports below 1024 need the capability CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => ": no interface of this machine has that address",
        _ => "",
    }
}

/// All sockets are bound; nothing is served yet.
#[derive(Debug)]
pub struct Bound {
    source: Source,
    config: Config,
    sockets: Vec<net::Bound>,
    addresses: Vec<SocketAddr>,
}

impl Bound {
    /// Binds all sockets of `config`, which `source` will be asked for again at reloads.
    ///
    /// # Errors
    ///
    /// When an address cannot be had.
    pub fn new(source: Source, config: Config) -> Result<Self, StartError> {
        let mut sockets = Vec::new();
        let mut addresses = Vec::new();
        for address in &config.server.listen {
            let failed = |source| StartError::Bind {
                address: *address,
                source,
            };
            let socket = net::Bound::bind(*address).map_err(failed)?;
            addresses.push(socket.address().map_err(failed)?);
            sockets.push(socket);
        }
        Ok(Self {
            source,
            config,
            sockets,
            addresses,
        })
    }

    /// The addresses that are really listened on, also where port 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until SIGTERM or SIGINT and the drain that follows. Blocks.
    ///
    /// # Errors
    ///
    /// When a thread or a signal handler cannot be had.
    pub fn run(self) -> Result<(), StartError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> Result<(), StartError> {
        let signals = Signals::install()?;
        let timeouts = self.config.timeouts.clone();
        let watched = self.config.server.watch && !self.config.files.is_empty();
        let threads = self.config.server.threads.get();
        self.announce();
        let (reload, table) = Reload::new(self.source, self.config);
        let (publisher, subscriber) = table::publish(table);
        let (trigger, watcher) = shutdown::channel();
        let shared = Shared {
            subscriber,
            unknowns: Unknowns::new(),
            watcher,
            connections: Connections::default(),
        };
        let mut workers = Vec::new();
        for number in 0..threads {
            let sockets = self
                .sockets
                .iter()
                .map(net::Bound::try_clone)
                .collect::<io::Result<_>>()?;
            workers.push(shared.spawn(number, sockets)?);
        }
        drop(self.sockets); // each thread has its own handles, and closes them when it drains
        let reloading = reloads(reload, publisher, watched, &shared.unknowns);
        drop(shared); // the trigger knows that all threads are done by their watchers being gone
        control(
            signals,
            trigger,
            timeouts.shutdown_delay,
            timeouts.drain,
            reloading,
        )
        .await;
        for worker in workers {
            // A worker's panic has been printed; the others have drained all the same.
            drop(worker.join());
        }
        Ok(())
    }

    /// One line that says what is served and what is unprotected.
    fn announce(&self) {
        let backends: usize = self
            .config
            .pools
            .iter()
            .map(|pool| pool.backends.len())
            .sum();
        let addresses = self
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        let unprotected = self.config.keys.accept_zero();
        let public = self
            .addresses
            .iter()
            .any(|address| !address.ip().is_loopback());
        tracing::info!(
            listen = addresses,
            pools = self.config.pools.len(),
            backends,
            threads = self.config.server.threads,
            signed_pins = !unprotected,
            "pinring {} serves",
            env!("CARGO_PKG_VERSION"),
        );
        if unprotected && public {
            tracing::warn!(
                "no secret: anybody who reaches this port can make a pin for any backend; see affinity.secrets"
            );
        }
    }
}

/// What all threads share.
struct Shared {
    subscriber: Subscriber,
    unknowns: Unknowns,
    watcher: Watcher,
    connections: Connections,
}

impl Shared {
    fn spawn(&self, number: usize, sockets: Vec<net::Bound>) -> io::Result<JoinHandle<()>> {
        let runtime = |()| -> io::Result<LocalRuntime> {
            Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default())
        };
        let (subscriber, unknowns) = (self.subscriber.clone(), self.unknowns.clone());
        let (watcher, connections) = (self.watcher.clone(), self.connections.clone());
        thread::Builder::new()
            .name(format!("proxy-{number}"))
            .spawn(move || {
                let served = runtime(()).and_then(|runtime| {
                    runtime.block_on(async move {
                        let ticker = Ticker::new();
                        let watch = Watch::new();
                        let proxy = Proxy::new(
                            subscriber.reader(),
                            unknowns,
                            ticker.clone(),
                            watch.clone(),
                        );
                        let handler = Traffic {
                            proxy,
                            tables: subscriber.reader(),
                        };
                        work(
                            Rc::new(Server {
                                handler,
                                ticker,
                                watch,
                                connections,
                            }),
                            sockets,
                            watcher,
                        )
                        .await
                    })
                });
                if let Err(error) = served {
                    tracing::error!(%error, "a thread cannot serve");
                }
            })
    }
}

/// The life of one thread: serves until it has drained or is cut.
async fn work(
    server: Rc<Server<Traffic>>,
    sockets: Vec<net::Bound>,
    mut watcher: Watcher,
) -> io::Result<()> {
    let accepting = sockets
        .into_iter()
        .map(|socket| Ok(Rc::clone(&server).accept(socket.into_listener()?, watcher.clone())))
        .collect::<io::Result<Vec<_>>>()?;
    let accepting: Vec<_> = accepting
        .into_iter()
        .map(tokio::task::spawn_local)
        .collect();
    let following = server.watch.clone();
    let phases = watcher.clone();
    tokio::task::spawn_local(async move { following.follow(phases).await });
    let drained = async {
        for accepted in accepting {
            drop(accepted.await); // ends when draining begins
        }
        server.watch.idle().await;
    };
    tokio::select! {
        () = drained => {}
        () = watcher.forced() => server.watch.idle().await, // each connection cuts itself
        () = server.ticker.run() => {}
        () = server.handler.proxy.tend() => {}
    }
    Ok(())
}

/// Hands requests from the listener to the proxy.
#[derive(Debug)]
struct Traffic {
    proxy: Proxy,
    tables: table::Reader,
}

impl Handler for Traffic {
    type Body = Answer;

    fn options(&self) -> listener::Options {
        let table = self.tables.snapshot();
        listener::Options {
            request_head: table.timeouts.request_head,
            keep_alive: table.timeouts.keep_alive,
            liveness: proxy::liveness(&table),
            header_bytes: table.limits.header_bytes,
            headers: table.limits.headers,
            connections: table.limits.connections,
        }
    }

    async fn handle(&self, request: Request<Incoming>, client: &Downstream) -> Response<Answer> {
        self.proxy
            .handle(request, client.peer, &client.forwarded_for)
            .await
    }
}

/// Starts the table's writer and the files' watcher; gives the end that asks for reloads.
fn reloads(
    reload: Reload,
    publisher: Publisher,
    watched: bool,
    unknowns: &Unknowns,
) -> mpsc::Sender<Reason> {
    let (sender, reasons) = mpsc::channel(4);
    if watched {
        tokio::spawn(watch::watch(reload.files(), sender.clone()));
    }
    tokio::spawn(reload.run(publisher, reasons, unknowns.news()));
    sender
}

/// Acts on signals until everything has drained, or a second signal asks to end at once.
async fn control(
    mut signals: Signals,
    trigger: Trigger,
    delay: std::time::Duration,
    limit: std::time::Duration,
    reloads: mpsc::Sender<Reason>,
) {
    while signals.next().await == shutdown::Request::Reload {
        let _full = reloads.try_send(Reason::Signal); // then several are waiting already
    }
    tracing::info!(
        delay_s = delay.as_secs_f64(),
        limit_s = limit.as_secs_f64(),
        "stopping: what is under way may end; a second signal ends it at once"
    );
    let second = async { while signals.next().await != shutdown::Request::Stop {} };
    tokio::select! {
        () = trigger.drain(delay, limit) => {}
        () = second => trigger.force(),
    }
    tracing::info!("stopped");
}
