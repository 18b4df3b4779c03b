//! Builds every part from a configuration and puts them together: threads, sockets, reload, shutdown.
//!
//! [`Bound`] holds all sockets and serves nothing yet; [`Bound::run`] serves until it has drained.
//!
//! One single-threaded runtime for each core, each with its own connections to backends: no lock and no
//! wake-up across threads in a request's way. All threads accept from one socket: the one that is free
//! takes the next connection. A further thread, the caller's, has signals, reloads and timers.

mod worker;

use std::{io, net::SocketAddr};

use tokio::{
    runtime::{Builder, LocalOptions},
    sync::mpsc,
};

use self::worker::Worker;
use crate::{
    config::{Config, source::Source},
    health::probe,
    listener::Connections,
    net,
    proxy::Unknowns,
    reload::{Inputs, Reason, Reload, watch},
    router::table::{self, Publisher, Reader},
    sessions::Sessions,
    shutdown::{self, Signals, Trigger},
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
    /// What the process was started with are no sockets to listen on.
    #[error("the sockets passed by LISTEN_FDS cannot be used: each must be a listening TCP socket")]
    Inherited(#[source] io::Error),
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
    /// Binds all sockets of `config`, which `source` will be asked for again at reloads. Sockets that the
    /// process was started with (socket activation) are listened on in their place: they outlive it, so that
    /// at a restart nobody is refused.
    ///
    /// # Errors
    ///
    /// When an address cannot be had.
    pub fn new(source: Source, config: Config) -> Result<Self, StartError> {
        let mut sockets = net::Bound::inherited().map_err(StartError::Inherited)?;
        if sockets.is_empty() {
            for address in &config.server.listen {
                let failed = |source| StartError::Bind {
                    address: *address,
                    source,
                };
                sockets.push(net::Bound::bind(*address).map_err(failed)?);
            }
        }
        let addresses = sockets
            .iter()
            .map(net::Bound::address)
            .collect::<io::Result<_>>()?;
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
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())?;
        let served = runtime.block_on(self.serve());
        runtime.shutdown_background(); // a file or a name that is still being read must not hold us up
        served
    }

    async fn serve(self) -> Result<(), StartError> {
        let mut signals = Signals::install()?;
        let threads = self.config.server.threads.get();
        let (process, worker) = Process::new(self.source, self.config);
        let mut workers = Vec::new();
        for number in 0..threads {
            let sockets = self
                .sockets
                .iter()
                .map(net::Bound::try_clone)
                .collect::<io::Result<_>>()?;
            workers.push(worker.clone().spawn(number, sockets)?);
        }
        open_files(process.reload.config());
        announce(process.reload.config(), &self.addresses);
        drop(self.sockets); // each thread has its own handles, and closes them when it drains
        drop(worker); // the trigger knows that all threads are done by their watchers being gone
        process.run(async || signals.next().await).await;
        for worker in workers {
            // A worker's panic has been printed; the others have drained all the same.
            drop(worker.join());
        }
        tracing::info!("stopped");
        Ok(())
    }

    /// Serves as [`Bound::run`] does, but within the local task set of the caller: a whole process on one
    /// simulated machine. `requests` stand for signals.
    ///
    /// # Errors
    ///
    /// When a listener cannot be had.
    #[cfg(feature = "simulation")]
    pub async fn run_here(
        self,
        mut requests: mpsc::Receiver<shutdown::Request>,
    ) -> Result<(), StartError> {
        let (process, worker) = Process::new(self.source, self.config);
        let listeners = worker::listen(self.sockets)?;
        let serving = tokio::task::spawn_local(worker.serve(listeners));
        let next = async || match requests.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        };
        process.run(next).await;
        drop(serving.await); // its panic has been printed
        Ok(())
    }
}

/// What a process has beside its workers, for the thread that has signals, reloads and timers.
struct Process {
    reload: Reload,
    publisher: Publisher,
    watched: bool,
    inputs: Inputs,
    /// Asks for reloads.
    reasons: mpsc::Sender<Reason>,
    sessions: Sessions,
    tables: Reader,
    connections: Connections,
    trigger: Trigger,
}

impl Process {
    /// All parts of a process, and the worker of which each thread has a clone.
    fn new(source: Source, config: Config) -> (Self, Worker) {
        let watched = config.server.watch && !config.files.is_empty();
        let sessions = Sessions::new();
        let (reload, table) = Reload::new(source, config, sessions.clone());
        let (publisher, subscriber) = table::publish(table);
        let (trigger, watcher) = shutdown::channel();
        let (reporter, reports) = probe::reports();
        let (unknowns, connections) = (Unknowns::new(), Connections::default());
        let (sender, reasons) = mpsc::channel(4);
        let process = Self {
            reload,
            publisher,
            watched,
            inputs: Inputs {
                reasons,
                news: unknowns.news(),
                reports,
                reporter: reporter.clone(),
            },
            reasons: sender,
            sessions: sessions.clone(),
            tables: subscriber.reader(),
            connections: connections.clone(),
            trigger,
        };
        let worker = Worker {
            subscriber,
            unknowns,
            sessions,
            reporter,
            watcher,
            connections,
        };
        (process, worker)
    }

    /// Reloads, keeps the time, and acts on `signals` until all workers have drained, or a second signal asks
    /// to end at once.
    async fn run(self, signals: impl AsyncFnMut() -> shutdown::Request) {
        let sessions = self.sessions;
        tokio::task::spawn_local(async move { sessions.sweep().await });
        if self.watched {
            let files = self.reload.files();
            tokio::task::spawn_local(watch::watch(files, self.reasons.clone()));
        }
        tokio::task::spawn_local(self.reload.run(self.publisher, self.inputs));
        control(
            signals,
            self.trigger,
            self.tables,
            self.connections,
            self.reasons,
        )
        .await;
    }
}

/// Raises the limit of open files, and warns where it cannot hold all connections.
fn open_files(config: &Config) {
    let wanted = config.limits.connections as u64;
    match net::raise_open_files() {
        Ok(limit) if limit < wanted => tracing::warn!(
            limit,
            connections = config.limits.connections,
            "fewer open files are allowed than limits.connections needs, up to two for each: raise `ulimit -n`, or lower it"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
}

/// One line that says what is served and what is unprotected.
fn announce(config: &Config, addresses: &[SocketAddr]) {
    let backends: usize = config.pools.iter().map(|pool| pool.backends.len()).sum();
    let listen: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    tracing::info!(
        listen = listen.join(", "),
        pools = config.pools.len(),
        backends,
        threads = config.server.threads,
        signed_pins = !config.keys.accept_zero(),
        "pinring {} serves",
        env!("CARGO_PKG_VERSION"),
    );
}

/// Acts on signals until everything has drained, or a second signal asks to end at once.
async fn control(
    mut signals: impl AsyncFnMut() -> shutdown::Request,
    trigger: Trigger,
    tables: Reader,
    connections: Connections,
    reloads: mpsc::Sender<Reason>,
) {
    while signals().await == shutdown::Request::Reload {
        let _full = reloads.try_send(Reason::Signal); // then several are waiting already
    }
    let (delay, limit) = {
        let timeouts = &tables.snapshot().timeouts;
        (timeouts.shutdown_delay, timeouts.drain)
    };
    tracing::info!(
        delay_s = delay.as_secs_f64(),
        limit_s = limit.as_secs_f64(),
        "stopping: what is under way may end; a second signal ends it at once"
    );
    let second = async { while signals().await != shutdown::Request::Stop {} };
    tokio::select! {
        biased;
        () = trigger.drain(delay, limit) => {}
        () = second => {}
    }
    let left = connections.count();
    if left > 0 {
        tracing::warn!(
            connections = left,
            "out of time: what these have under way is cut"
        );
    }
    trigger.force();
}
