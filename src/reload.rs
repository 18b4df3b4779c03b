//! The routing table's only writer: configuration and time in, a new table out, all or nothing.
//!
//! It reads the configuration again on SIGHUP, when a watched file changes, and when a request names a
//! backend that is not known yet. A faulty file changes nothing and says so; what needs a restart is
//! refused by name. Open streams are not touched: each request keeps the table that it began with.

mod asked;
pub mod command;
mod discovered;
mod services;
pub mod watch;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, watch as latest},
    task::{JoinError, JoinHandle},
};

pub use self::services::Shown;
use self::{
    asked::Asked,
    command::{Command, Outcome, Reloaded, Standing},
    services::Services,
};
use crate::{
    config::{
        Config, ConfigErrors, OnLoss,
        diff::{Diff, diff},
        source::Source,
    },
    discovery::{Discovery, Resolver},
    health::{
        Vital,
        probe::{Probes, Report, Reporter},
    },
    net::{self, Instant, tls::Acceptor},
    observe::{
        Meters, logging,
        word::{self, Loss},
    },
    router::{
        membership::{Changed, Lost, Membership, Unchanged, WhyLost},
        placement::Load,
        table::{Publisher, RoutingTable},
    },
    sessions::Sessions,
    shutdown::Rouser,
    upstream::names::Names,
};

/// Between two looks at the configuration because requests name unknown backends.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A point in time that is never reached.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why the configuration is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// SIGHUP.
    Signal,
    /// An operator, through the admin listener.
    Asked,
    /// A watched file changed.
    Watch,
    /// A request carries a good pin of a backend that was never seen.
    UnknownPin,
}

impl Reason {
    /// Whether somebody waits to hear what comes of it, be it nothing.
    fn is_awaited(self) -> bool {
        match self {
            Self::Signal | Self::Asked => true,
            Self::Watch | Self::UnknownPin => false,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Signal => "SIGHUP",
            Self::Asked => "an operator asks",
            Self::Watch => "a file changed",
            Self::UnknownPin => "a request names an unknown backend",
        }
    }
}

/// What the writer knows: the configuration in force and who belongs to its pools.
#[derive(Debug)]
pub struct Reload {
    source: Source,
    /// What the file says.
    written: Config,
    /// The same with the backends that its names stand for.
    config: Arc<Config>,
    services: Services,
    discovery: Discovery,
    ready: latest::Sender<bool>,
    shown: latest::Sender<Vec<Shown>>,
    last: Option<Reloaded>,
    asked: Asked,
    membership: Membership,
    sessions: Sessions,
    acceptor: Acceptor,
    meters: Meters,
    files: latest::Sender<Vec<PathBuf>>,
}

type Loaded = Result<Config, ConfigErrors>;

/// What makes the writer write.
#[derive(Debug)]
pub struct Inputs {
    /// Asks for the configuration to be read again.
    pub reasons: mpsc::Receiver<Reason>,
    /// Is notified by requests that name unknown backends.
    pub news: Arc<Notify>,
    /// What requests and probes have seen of backends.
    pub reports: mpsc::Receiver<Report>,
    /// Where the writer's probes report to.
    pub reporter: Reporter,
    /// Where its probes look up the hosts of backends.
    pub names: Names,
    /// What the admin listener asks for.
    pub commands: mpsc::Receiver<Command>,
    /// Tells what is open that its backend is lost.
    pub rouser: Rouser,
}

impl Reload {
    /// Begins with a configuration that was checked, and makes the first table of it.
    #[must_use]
    pub fn new(
        source: Source,
        config: Config,
        sessions: Sessions,
        acceptor: Acceptor,
        resolver: Arc<dyn Resolver>,
        meters: Meters,
    ) -> (Self, RoutingTable) {
        let mut membership = Membership::new();
        let now = net::now();
        membership.update(&config, None, now);
        membership.mark(now);
        let table = membership.table(&config);
        let has_names = config.questions().next().is_some();
        let services = Services::new(&config);
        (
            Self {
                source,
                files: latest::Sender::new(config.files.clone()),
                shown: latest::Sender::new(services.shown(&config)),
                services,
                discovery: Discovery::new(resolver, &config.discovery),
                ready: latest::Sender::new(!has_names),
                written: config.clone(),
                config: Arc::new(config),
                last: None,
                asked: Asked::default(),
                membership,
                sessions,
                acceptor,
                meters,
            },
            table,
        )
    }

    /// The configuration in force, with the backends that were discovered.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The files that were read for the configuration in force, whenever they are others.
    #[must_use]
    pub fn files(&self) -> latest::Receiver<Vec<PathBuf>> {
        self.files.subscribe()
    }

    /// Publishes tables for ever.
    pub async fn run(mut self, publisher: Publisher, inputs: Inputs) {
        let Inputs {
            mut reasons,
            news,
            mut reports,
            reporter,
            names,
            mut commands,
            rouser,
        } = inputs;
        let outlet = Outlet { publisher, rouser };
        let mut probes = Probes::new(reporter, names);
        // Reading files and names may take long, or hang: health and time go on meanwhile.
        let mut loading: Option<(Reason, JoinHandle<Loaded>)> = None;
        let mut wanted: Option<Reason> = None;
        let mut ask_again = net::now();
        loop {
            if loading.is_none()
                && let Some(reason) = self.asked.next(&mut wanted)
            {
                let (source, chains) = (self.source.clone(), self.written.chains.clone());
                let load = net::blocking(move || source.load_again(&chains));
                loading = Some((reason, load));
            }
            tokio::select! {
                biased; // what was seen comes before what follows from the time
                Some(report) = reports.recv() => self.observe(report, &outlet),
                Some(command) = commands.recv() => self.obey(command, &outlet),
                (reason, loaded) = finished(&mut loading) => {
                    let outcome = match loaded {
                        Ok(Ok(config)) => self.take(config, reason, &outlet),
                        Ok(Err(errors)) => {
                            self.reloaded(word::Reloaded::Failed);
                            log_faults(&errors, reason)
                        }
                        Err(panic) => {
                            self.reloaded(word::Reloaded::Failed);
                            tracing::error!(reason = reason.as_str(), %panic, "not reloaded: this is a bug, please report it");
                            Outcome::Refused(vec![format!("a bug of pinring: {panic}")])
                        }
                    };
                    self.conclude(reason, outcome);
                }
                Some(reason) = reasons.recv() => {
                    // Whoever sends a signal looks for an answer in the log.
                    if wanted != Some(Reason::Signal) {
                        wanted = Some(reason);
                    }
                }
                report = self.discovery.next() => self.discovered(&report, &outlet.publisher),
                () = asked(&news, ask_again) => {
                    ask_again = net::now() + ASK_AGAIN; // rate-limited; the requests wait longer
                    wanted.get_or_insert(Reason::UnknownPin);
                    self.discovery.ask_again();
                }
                () = until(self.membership.next_change()) => self.advance(&outlet),
            }
            probes.keep(self.membership.suspects(&self.config));
        }
    }

    fn observe(&mut self, report: Report, outlet: &Outlet) {
        let random = fastrand::f64();
        let Some(changed) = self
            .membership
            .observe(report.id, report.seen, net::now(), random)
        else {
            return;
        };
        self.publish(outlet); // before it is told: who reads the log may ask at once
        match changed {
            None => {}
            Some((backend, Vital::Healthy)) => tracing::info!(%backend, "healthy again"),
            Some((backend, Vital::Suspect)) => {
                tracing::warn!(%backend, seen = ?report.seen, "suspect: gets no new work while others are healthy");
            }
            Some((backend, Vital::Lost)) => {
                for (pool, load) in self.membership.loads(report.id) {
                    self.count_lost(pool, load, Loss::Down);
                    self.sessions.forget(load);
                }
                tracing::error!(%backend, "down for too long: its sessions are lost until it is back");
            }
        }
    }

    /// Counts the live sessions of a backend as lost, unless others go on with them.
    fn count_lost(&self, pool: &str, load: &Load, why: Loss) {
        let mut pools = self.config.pools.iter();
        let options = pools.find(|options| options.name == pool);
        match options.map_or(OnLoss::NotFound, |options| options.on_loss) {
            OnLoss::NotFound => self.meters.losses().add(why, load.sessions().into()),
            OnLoss::Successor | OnLoss::Reinitialize => {}
        }
    }

    fn reloaded(&self, result: word::Reloaded) {
        self.meters.reloads().add(result, 1);
    }

    /// Remembers how a reload went, and tells who asked for it.
    fn conclude(&mut self, reason: Reason, outcome: Outcome) {
        let is_mended = |last: &Reloaded| matches!(last.outcome, Outcome::Refused(_));
        let is_news = outcome != Outcome::Unchanged
            || reason.is_awaited()
            || self.last.as_ref().is_some_and(is_mended);
        let reloaded = Reloaded {
            at: net::now(),
            reason: reason.as_str(),
            outcome,
        };
        self.asked.answer(&reloaded);
        if is_news {
            self.last = Some(reloaded);
        }
    }

    fn publish(&mut self, outlet: &Outlet) {
        self.publish_to(&outlet.publisher);
    }

    fn publish_to(&mut self, publisher: &Publisher) {
        self.membership.mark(net::now());
        publisher.replace(self.membership.table(&self.config));
    }

    fn obey(&mut self, command: Command, outlet: &Outlet) {
        // Whoever asked may have left.
        match command {
            Command::Backends(answer) => drop(answer.send(self.membership.views(&self.config))),
            Command::Standing(answer) => drop(answer.send(Standing {
                config: Arc::clone(&self.config),
                views: self.membership.views(&self.config),
                last_reload: self.last.clone(),
            })),
            Command::Reload(answer) => self.asked.push(answer),
            Command::Drain {
                backend,
                within,
                answer,
            } => {
                let until = within.and_then(|within| net::now().checked_add(within));
                let drained = self.membership.drain(&backend, until);
                drop(answer.send(self.changed(drained, &backend, outlet)));
            }
            Command::Undrain { backend, answer } => {
                let undrained = self.membership.undrain(&backend, net::now());
                drop(answer.send(self.changed(undrained, &backend, outlet)));
            }
        }
    }

    /// Lets a change take effect, and tells what has become of the backend.
    fn changed(
        &mut self,
        done: Result<(), Unchanged>,
        backend: &str,
        outlet: &Outlet,
    ) -> Result<Changed, Unchanged> {
        self.advance(outlet);
        done.map(|()| self.membership.changed(backend, &self.config))
    }

    fn advance(&mut self, outlet: &Outlet) {
        let lost = self.membership.advance(net::now());
        self.publish(outlet); // first, so that whoever asks from now on is told that the session is lost
        for Lost {
            name,
            pool,
            why,
            load,
        } in lost
        {
            let (sessions, in_flight) = (load.sessions(), load.in_flight());
            match why {
                WhyLost::Departed => {
                    self.count_lost(&pool, &load, Loss::Departed);
                    tracing::info!(backend = %name, sessions, in_flight, "departed long ago: its sessions are lost from now on");
                }
                WhyLost::Drained => {
                    self.count_lost(&pool, &load, Loss::Drained);
                    tracing::warn!(backend = %name, sessions, in_flight, "drained, and its time is over: its sessions are lost from now on");
                    load.end();
                    outlet.rouser.rouse();
                }
            }
            self.sessions.forget(&load);
        }
    }

    /// Takes back what the admin socket has drained and the file wants open.
    fn follow_file(&mut self) -> bool {
        let undone = self.membership.follow_file(&self.config, net::now());
        for backend in &undone {
            tracing::warn!(%backend, "takes new work again: the file does not say draining = true, and wins at a reload");
        }
        !undone.is_empty()
    }

    fn take(&mut self, config: Config, reason: Reason, outlet: &Outlet) -> Outcome {
        let diff = diff(&self.written, &config);
        if !diff.restart.is_empty() {
            self.reloaded(word::Reloaded::NeedsRestart);
            return log_restart(&diff, reason);
        }
        // Whatever may fail comes first: all or nothing.
        if !diff.is_empty()
            && let Err(error) = self.acceptor.replace(config.tls.as_ref())
        {
            self.reloaded(word::Reloaded::Failed);
            tracing::error!(reason = reason.as_str(), %error, "not reloaded; the configuration before stays in force");
            return Outcome::Refused(vec![error.to_string()]);
        }
        self.files.send_if_modified(|files| {
            let others = *files != config.files;
            files.clone_from(&config.files);
            others
        });
        // Who looks because of an unknown pin, and finds nothing new, has not been asked for anything else.
        let is_reload = reason.is_awaited() || !diff.is_empty();
        if is_reload && logging::follow((&config.log).into()) {
            tracing::info!(
                "the log's filter is as configured again: a reload takes another one back"
            );
        }
        if diff.is_empty() {
            let undone = is_reload && self.follow_file();
            self.reloaded(word::Reloaded::Unchanged);
            if undone {
                self.publish(outlet);
            }
            match reason {
                Reason::Signal | Reason::Asked => {
                    tracing::info!(reason = reason.as_str(), "reloaded: nothing has changed")
                }
                Reason::Watch | Reason::UnknownPin => {
                    tracing::debug!(reason = reason.as_str(), "nothing has changed")
                }
            }
            return Outcome::Unchanged;
        }
        self.written = config;
        self.services.follow(&self.written);
        self.discovery.keep(&self.written);
        self.show();
        self.renew(None);
        self.note_ready(); // the name that gave no answer may be gone
        self.follow_file();
        self.publish(outlet);
        self.reloaded(word::Reloaded::Applied);
        tracing::info!(reason = reason.as_str(), changes = %diff, "reloaded");
        for note in &self.written.notes {
            tracing::warn!("{note}");
        }
        Outcome::Changed(diff.to_string())
    }
}

/// Where what is written goes.
struct Outlet {
    publisher: Publisher,
    rouser: Rouser,
}

/// Waits for the load that is under way, if there is one, and takes it out. Cancel safe.
async fn finished(
    loading: &mut Option<(Reason, JoinHandle<Loaded>)>,
) -> (Reason, Result<Loaded, JoinError>) {
    let Some((reason, load)) = loading else {
        return std::future::pending().await;
    };
    let (reason, loaded) = (*reason, load.await);
    *loading = None;
    (reason, loaded)
}

/// Waits until somebody asks for news, not before `earliest`. Cancel safe: who asked is not forgotten.
async fn asked(news: &Notify, earliest: Instant) {
    net::sleep_until(earliest).await;
    news.notified().await;
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => net::sleep_until(at).await,
        None => net::sleep(NEVER).await,
    }
}

/// Every fault is told, but not again for each request that makes us look.
fn log_faults(errors: &ConfigErrors, reason: Reason) -> Outcome {
    const MESSAGE: &str = "not reloaded; the configuration before stays in force";
    let source = errors.source_name();
    let mut faults = Vec::new();
    for fault in errors.faults() {
        let fault = fault.display(source);
        match reason {
            Reason::Signal | Reason::Asked | Reason::Watch => {
                tracing::error!(reason = reason.as_str(), %fault, "{MESSAGE}");
            }
            Reason::UnknownPin => tracing::debug!(reason = reason.as_str(), %fault, "{MESSAGE}"),
        }
        faults.push(fault.to_string());
    }
    Outcome::Refused(faults)
}

fn log_restart(diff: &Diff, reason: Reason) -> Outcome {
    const MESSAGE: &str = "not reloaded: these keys need a restart, and nothing else of the file was taken either; \
                           the configuration before stays in force";
    let keys = diff.restart.join(", ");
    match reason {
        Reason::Signal | Reason::Asked | Reason::Watch => {
            tracing::error!(reason = reason.as_str(), keys, "{MESSAGE}")
        }
        Reason::UnknownPin => tracing::debug!(reason = reason.as_str(), keys, "{MESSAGE}"),
    }
    Outcome::Refused(vec![format!(
        "these keys need a restart, and nothing else of the file was taken either: {keys}"
    )])
}
