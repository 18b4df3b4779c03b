//! Builds every part from a configuration and puts them together: threads, sockets, reload, shutdown.
//!
//! [`Bound`] holds all sockets and serves nothing yet; [`Bound::run`] serves until it has drained.
//!
//! One single-threaded runtime for each core, each with its own connections to backends: no lock and no
//! wake-up across threads in a request's way. All threads accept from one socket: the one that is free
//! takes the next connection. A further thread, the caller's, has signals, reloads and timers.

mod admin;
mod control;
mod error;
mod metrics;
mod socket;
mod worker;

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    runtime::{Builder, LocalOptions},
    sync::mpsc,
};

pub use self::error::StartError;
use self::{
    admin::AdminSocket, control::Control, metrics::Sources, socket::Socket, worker::Worker,
};
use crate::{
    admin::{Admin, Counters, api::Counts},
    config::{self, Config, Listen, StoreUrl, source::Source},
    discovery::dns::Dns,
    health::probe,
    limits::{Connections, Reached},
    net::{self, tls::Acceptor},
    observe::{
        Meters,
        metrics::Metrics,
        otlp::{self, Exporter},
    },
    proxy::{Alarms, Bodies, Renewals, Unknowns},
    reload::{
        Inputs, Reason, Reload,
        command::{self, Commander},
        watch,
    },
    router::table::{self, Publisher, Reader},
    sessions::{Sessions, store::Store},
    shutdown::{self, Signals, Trigger},
    takeover::{Claim, Predecessor},
    upstream::{self, names::Names},
};

/// All sockets are bound; nothing is served yet.
#[derive(Debug)]
pub struct Bound {
    source: Source,
    config: Config,
    sockets: Vec<Socket>,
    addresses: Vec<SocketAddr>,
    admin: Option<AdminSocket>,
    before: Option<Predecessor>,
}

impl Bound {
    /// Binds all sockets of `config`, which `source` will be asked for again at reloads. Sockets that the
    /// process was started with (socket activation) are listened on in their place: they outlive it, so that
    /// at a restart nobody is refused.
    ///
    /// With `take_over` the sockets come from the process that runs with this configuration, as far as it has
    /// those that are wanted. That process goes on until [`Bound::run`].
    ///
    /// # Errors
    ///
    /// When an address cannot be had.
    pub fn new(source: Source, config: Config, take_over: bool) -> Result<Self, StartError> {
        let mut before = if take_over {
            predecessor(&config)?
        } else {
            None
        };
        let listen = &config.server.listen;
        let inherited = net::Bound::inherited().map_err(StartError::Inherited)?;
        let inherited = inherited.into_iter();
        let mut sockets = inherited
            .map(|bound| Socket::inherited(bound, listen))
            .collect::<io::Result<Vec<_>>>()?;
        if sockets.is_empty() {
            for Listen { address, scheme } in listen.iter().copied() {
                let failed = |source| StartError::Bind { address, source };
                let passed = before.as_mut().and_then(|before| before.take(address));
                let bound = passed.map_or_else(|| net::Bound::bind(address), Ok);
                let bound = bound.map_err(failed)?;
                sockets.push(Socket { bound, scheme });
            }
        }
        let addresses = sockets
            .iter()
            .map(|socket| socket.bound.address())
            .collect::<io::Result<_>>()?;
        let admin = match &config.server.admin {
            None => None,
            Some(path) => {
                let failed = |source| StartError::Admin {
                    path: path.clone(),
                    source,
                };
                Some(AdminSocket::bind(path, before.is_some()).map_err(failed)?)
            }
        };
        Ok(Self {
            source,
            config,
            sockets,
            addresses,
            admin,
            before,
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
        let (mut process, mut worker) = Process::new(self.source, self.config)?;
        process.reload.discover(&process.publisher).await;
        let export = process.reload.config().tracing.as_ref();
        let mut exporter = None;
        if let Some(export) = export.and_then(|tracing| tracing.export.as_ref()) {
            let (names, counts) = (worker.names.clone(), process.spans.clone());
            let (started, outbox) = Exporter::start(export, names, counts)?;
            (exporter, worker.outbox) = (Some(started), Some(outbox));
        }
        let mut workers = Vec::new();
        for number in 0..threads {
            let sockets = self
                .sockets
                .iter()
                .map(Socket::try_clone)
                .collect::<io::Result<_>>()?;
            workers.push(worker.clone().spawn(number, sockets)?);
        }
        drop(worker); // the trigger knows that all threads are done by their watchers being gone
        let (claims, claimed) = mpsc::channel(1);
        if let Some(before) = self.before {
            relieve(before);
        }
        let limits = (process.connections.clone(), process.reached.clone());
        let counters = process.counters.clone();
        let metrics = process.metrics.clone();
        let admin = Admin::new(
            process.commander.clone(),
            claims,
            (counters, metrics),
            limits,
        );
        // Its file is removed when all is over.
        let _admin = self.admin.map(|socket| socket.serve(admin)).transpose()?;
        announce(process.reload.config(), &self.sockets)?;
        let sockets = self.sockets.into_iter().map(|socket| socket.bound);
        process
            .run(async || signals.next().await, sockets.collect(), claimed)
            .await;
        for worker in workers {
            // A worker's panic has been printed; the others have drained all the same.
            drop(worker.join());
        }
        if let Some(exporter) = exporter {
            exporter.ended().await; // nobody has a span to add
        }
        tracing::info!("stopped");
        Ok(())
    }

    /// Serves as [`Bound::run`] does, but within the local task set of the caller: a whole process on one
    /// simulated machine. `requests` stand for signals, and what comes with the future for the admin socket.
    ///
    /// # Errors
    ///
    /// When a listener cannot be had.
    #[cfg(feature = "simulation")]
    pub fn run_here(
        self,
        mut requests: mpsc::Receiver<shutdown::Request>,
    ) -> io::Result<(Commander, impl Future<Output = Result<(), StartError>>)> {
        let (mut process, worker) = Process::new(self.source, self.config)?;
        let commander = process.commander.clone();
        let sockets = self.sockets;
        let serve = async move {
            process.reload.discover(&process.publisher).await;
            let listeners = worker::listen(sockets)?;
            let serving = tokio::task::spawn_local(worker.serve(listeners));
            let next = async || match requests.recv().await {
                Some(request) => request,
                None => std::future::pending().await,
            };
            let (_nobody, claimed) = mpsc::channel(1);
            process.run(next, Vec::new(), claimed).await;
            drop(serving.await); // its panic has been printed
            Ok(())
        };
        Ok((commander, serve))
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
    /// Asks for everything else.
    commander: Commander,
    counters: Counters,
    spans: otlp::Counts,
    metrics: Metrics,
    sessions: Sessions,
    store: Store,
    tables: Reader,
    connections: Connections,
    reached: Reached,
    trigger: Trigger,
}

impl Process {
    /// All parts of a process, and the worker of which each thread has a clone.
    fn new(source: Source, config: Config) -> io::Result<(Self, Worker)> {
        let watched = config.server.watch && !config.files.is_empty();
        let (sessions, store) = (Sessions::new(), store(&config.store));
        let acceptor = Acceptor::new(config.tls.as_ref())?;
        let (meters, upstream) = (Meters::new(), upstream::Open::default());
        let (reload, table) = Reload::new(
            source,
            config,
            sessions.clone(),
            acceptor.clone(),
            Arc::new(Dns::default()),
            meters.clone(),
        );
        let (publisher, subscriber) = table::publish(table);
        let (trigger, watcher) = shutdown::channel();
        let (reporter, reports) = probe::reports();
        let (names, spans) = (Names::default(), otlp::Counts::default());
        let (connections, reached) = (Connections::default(), Reached::new());
        let (unknowns, alarms) = (Unknowns::new(), Alarms::default());
        let (sender, reasons) = mpsc::channel(4);
        let (commander, commands) = command::commands();
        let renewals = Renewals::new(store.clone());
        let sources = Sources {
            tables: subscriber.clone(),
            services: reload.services(),
            renewals: renewals.clone(),
            store: store.clone(),
            connections: connections.clone(),
            reached: reached.clone(),
            upstream: upstream.clone(),
            acceptor: acceptor.clone(),
            phases: trigger.rouser(),
            spans: spans.clone(),
        };
        let process = Self {
            metrics: sources.metrics(meters.clone()),
            reload,
            publisher,
            watched,
            inputs: Inputs {
                reasons,
                news: unknowns.news(),
                reports,
                reporter: reporter.clone(),
                names: names.clone(),
                commands,
                rouser: trigger.rouser(),
            },
            reasons: sender,
            commander,
            counters: counters(
                renewals.clone(),
                store.clone(),
                alarms.clone(),
                acceptor.clone(),
                spans.clone(),
            ),
            spans,
            sessions: sessions.clone(),
            store,
            tables: subscriber.reader(),
            connections: connections.clone(),
            reached: reached.clone(),
            trigger,
        };
        let worker = Worker {
            subscriber,
            unknowns,
            alarms,
            sessions,
            renewals,
            bodies: Bodies::default(),
            reporter,
            names,
            upstream,
            watcher,
            connections,
            reached,
            meters,
            acceptor,
            outbox: None,
        };
        Ok((process, worker))
    }

    /// Reloads, keeps the time, and acts on `signals` until all workers have drained, or a second signal asks
    /// to end at once. `sockets` are passed to those who come with `claims`.
    async fn run(
        self,
        signals: impl AsyncFnMut() -> shutdown::Request,
        sockets: Vec<net::Bound>,
        claims: mpsc::Receiver<Claim>,
    ) {
        let (sessions, store) = (self.sessions, self.store);
        tokio::task::spawn_local(async move { sessions.sweep().await });
        tokio::task::spawn_local(async move { store.keep().await });
        if self.watched {
            let files = self.reload.files();
            tokio::task::spawn_local(watch::watch(files, self.reasons.clone()));
        }
        tokio::task::spawn_local(self.reload.run(self.publisher, self.inputs));
        let control = Control {
            signals,
            trigger: self.trigger,
            tables: self.tables,
            connections: self.connections,
            reloads: self.reasons,
        };
        control.run(sockets, claims).await;
    }
}

/// The process whose place this one is to take, if there is one.
fn predecessor(config: &Config) -> Result<Option<Predecessor>, StartError> {
    let path = config.server.admin.as_ref().ok_or(StartError::NoAdmin)?;
    let found = Predecessor::find(path)?;
    if found.is_none() {
        tracing::info!(admin = %path.display(), "nobody is there to take over from");
    }
    Ok(found)
}

/// This process serves: the one before is to leave.
fn relieve(before: Predecessor) {
    match before.leave() {
        Ok(()) => tracing::info!("took over: the process before leaves"),
        Err(error) => {
            tracing::error!(%error, "the process before does not say that it leaves, and may go on beside this one: stop it if it still runs");
        }
    }
}

/// What the admin listener tells of the whole process.
fn counters(
    renewals: Renewals,
    store: Store,
    alarms: Alarms,
    acceptor: Acceptor,
    spans: otlp::Counts,
) -> Counters {
    Counters::new(move || Counts {
        sessions_reinitialized: renewals.reinitialized(),
        handshakes_forgotten: store.forgotten(),
        principals_refused: alarms.principals_refused(),
        sessions_withheld: alarms.sessions_withheld(),
        tls_handshakes_failed: acceptor.failed(),
        spans_exported: spans.exported(),
        spans_dropped: spans.dropped(),
    })
}

fn store(config: &config::Store) -> Store {
    match &config.url {
        StoreUrl::Memory => Store::in_memory(config.sessions),
        StoreUrl::Redis(url) => Store::in_redis(config.sessions, url),
    }
}

/// One line that says what is served and what is unprotected.
fn announce(config: &Config, sockets: &[Socket]) -> io::Result<()> {
    let backends: usize = config.pools.iter().map(|pool| pool.backends.len()).sum();
    let listen = sockets
        .iter()
        .map(|socket| Ok(socket.listen()?.to_string()));
    let listen: Vec<String> = listen.collect::<io::Result<_>>()?;
    tracing::info!(
        listen = listen.join(", "),
        pools = config.pools.len(),
        backends,
        threads = config.server.threads,
        signed_pins = !config.keys.accept_zero(),
        "pinring {} serves",
        env!("CARGO_PKG_VERSION"),
    );
    Ok(())
}
