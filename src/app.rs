//! Builds every part from a configuration and puts them together: threads, sockets, reload, shutdown.
//!
//! [`Bound`] holds all sockets and serves nothing yet; [`Bound::run`] serves until it has drained.
//!
//! One single-threaded runtime for each core, each with its own connections to backends: no lock and no
//! wake-up across threads in a request's way. All threads accept from one socket: the one that is free
//! takes the next connection. A further thread, the caller's, has signals, reloads and timers.

mod admins;
mod control;
mod error;
mod metrics;
mod places;
mod socket;
mod worker;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use http::StatusCode;
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::mpsc,
};

pub use self::error::StartError;
use self::{
    admins::AdminSockets, control::Control, metrics::Sources, places::Places, socket::Socket,
    worker::Worker,
};
use crate::{
    admin::{self, Admin, Counters, api::Counts},
    config::{self, Config, Listen, StoreUrl, source::Source},
    discovery::dns::Dns,
    health::probe,
    limits::{Connections, Reached},
    listener::Share,
    net::{self, tls::Acceptor},
    observe::{
        Meters,
        metrics::Metrics,
        otlp::{self, Exporter},
        tally::Word as _,
    },
    proxy::{Alarms, Bodies, Renewals, Unknowns, error::ProxyError},
    reload::{
        Inputs, Reason, Reload,
        command::{self, Commander},
        watch,
    },
    router::{
        Refusal,
        table::{self, Publisher, Subscriber},
    },
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
    admin: AdminSockets,
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
        let admin = AdminSockets::bind(&config.server, before.as_mut())?;
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
        for (number, share) in Share::among(threads).into_iter().enumerate() {
            let sockets = self
                .sockets
                .iter()
                .map(Socket::try_clone)
                .collect::<io::Result<_>>()?;
            workers.push(worker.clone().spawn(number, sockets, share)?);
        }
        drop(worker); // the trigger knows that all threads are done by their watchers being gone
        let (claims, claimed) = mpsc::channel(1);
        if let Some(before) = self.before {
            relieve(before);
        }
        let places = Places::of(&self.sockets, &self.admin)?;
        let admin = process.admin(&places, claims);
        let passed = self.admin.try_clone()?;
        let serving = self.admin.serve(&admin)?;
        announce(process.reload.config(), &places);
        // Those for clients first: they are asked for first.
        let sockets = self.sockets.into_iter().map(|socket| socket.bound);
        let sockets = sockets.chain(passed).collect();
        process
            .run(
                async || signals.next().await,
                sockets,
                claimed,
                || {
                    serving.leave_to_successor();
                },
            )
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
            let serving = tokio::task::spawn_local(worker.serve(listeners, None));
            let next = async || match requests.recv().await {
                Some(request) => request,
                None => std::future::pending().await,
            };
            let (_nobody, claimed) = mpsc::channel(1);
            process.run(next, Vec::new(), claimed, || {}).await;
            drop(serving.await); // its panic has been printed
            Ok(())
        };
        Ok((commander, serve))
    }
}

/// What a process has beside its workers, for the thread that has signals, reloads and timers.
struct Process {
    file: Option<PathBuf>,
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
    tables: Subscriber,
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
        let file = source.file.as_ref();
        let file = file.map(|file| file.canonicalize().unwrap_or_else(|_| file.clone()));
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
            file,
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
            tables: subscriber.clone(),
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
    /// to end at once. `sockets` are passed to those who come with `claims`, and `taken_over` is called when one of them
    /// serves.
    async fn run(
        self,
        signals: impl AsyncFnMut() -> shutdown::Request,
        sockets: Vec<net::Bound>,
        claims: mpsc::Receiver<Claim>,
        taken_over: impl FnOnce(),
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
            tables: self.tables.reader(),
            connections: self.connections,
            reloads: self.reasons,
        };
        control.run(sockets, claims, taken_over).await;
    }

    /// What answers operators.
    fn admin(&self, places: &Places, claims: mpsc::Sender<Claim>) -> Admin {
        Admin::new(admin::Process {
            writer: self.commander.clone(),
            claims,
            counters: self.counters.clone(),
            connections: self.connections.clone(),
            reached: self.reached.clone(),
            tables: self.tables.clone(),
            metrics: self.metrics.clone(),
            phases: self.trigger.rouser(),
            discovered: self.reload.ready(),
            listeners: places.listeners(),
            unprotected: places.unprotected(self.reload.config()),
            file: self.file.clone(),
            verdict,
            store: self.store.clone(),
        })
    }
}

/// The process whose place this one is to take, if there is one.
fn predecessor(config: &Config) -> Result<Option<Predecessor>, StartError> {
    let path = config.server.admin.unix.as_ref();
    let path = path.ok_or(StartError::NoAdmin)?;
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

/// What the client is told of a request that goes nowhere.
fn verdict(refusal: Refusal) -> (StatusCode, &'static str) {
    let verdict = ProxyError::Refused(refusal).verdict();
    (verdict.status, verdict.reason.as_str())
}

fn store(config: &config::Store) -> Store {
    match &config.url {
        StoreUrl::Memory => Store::in_memory(config.sessions),
        StoreUrl::Redis(url) => Store::in_redis(config.sessions, url),
    }
}

/// One line that says what is served and what is unprotected.
fn announce(config: &Config, places: &Places) {
    let backends: usize = config.pools.iter().map(|pool| pool.backends.len()).sum();
    let listeners = places.listeners();
    let or_none = |list: Vec<String>| match &list[..] {
        [] => "none".to_owned(),
        list => list.join(", "),
    };
    tracing::info!(
        listen = listeners.traffic.join(", "),
        admin = or_none(listeners.admin),
        probes = or_none(listeners.probes),
        pools = config.pools.len(),
        backends,
        threads = config.server.threads,
        unprotected = or_none(places.unprotected(config)),
        "pinring {} serves",
        env!("CARGO_PKG_VERSION"),
    );
}
