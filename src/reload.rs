//! The routing table's only writer: configuration and time in, a new table out, all or nothing.
//!
//! It reads the configuration again on SIGHUP, when a watched file changes, and when a request names a
//! backend that is not known yet. A faulty file changes nothing and says so; what needs a restart is
//! refused by name. Open streams are not touched: each request keeps the table that it began with.

pub mod watch;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::{Notify, mpsc, watch as latest};

use crate::{
    backend::Name,
    config::{
        Config, ConfigErrors,
        diff::{Diff, diff},
        source::Source,
    },
    health::{
        Vital,
        probe::{Probes, Report, Reporter},
    },
    net::{self, Instant},
    router::{
        membership::{Loss, Membership},
        table::{Publisher, RoutingTable},
    },
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
    /// A watched file changed.
    Watch,
    /// A request carries a good pin of a backend that was never seen.
    UnknownPin,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Signal => "SIGHUP",
            Self::Watch => "a file changed",
            Self::UnknownPin => "a request names an unknown backend",
        }
    }
}

/// What the writer knows: the configuration in force and who belongs to its pools.
#[derive(Debug)]
pub struct Reload {
    source: Source,
    config: Config,
    membership: Membership,
    files: latest::Sender<Vec<PathBuf>>,
}

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
}

impl Reload {
    /// Begins with a configuration that was checked, and makes the first table of it.
    #[must_use]
    pub fn new(source: Source, config: Config) -> (Self, RoutingTable) {
        let mut membership = Membership::new();
        membership.update(&config, None, net::now());
        let table = membership.table(&config);
        (
            Self {
                source,
                files: latest::Sender::new(config.files.clone()),
                config,
                membership,
            },
            table,
        )
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
        } = inputs;
        let mut probes = Probes::new(reporter);
        let mut asked = net::now();
        loop {
            let next_change = self.membership.next_change();
            let reason = tokio::select! {
                Some(reason) = reasons.recv() => reason,
                () = news.notified() => {
                    net::sleep_until(asked + ASK_AGAIN).await; // rate-limited; the requests wait longer
                    asked = net::now();
                    Reason::UnknownPin
                }
                Some(report) = reports.recv() => {
                    self.observe(report, &publisher);
                    probes.keep(self.membership.suspects(&self.config));
                    continue;
                }
                () = until(next_change) => {
                    self.advance(&publisher);
                    continue;
                }
            };
            self.reload(reason, &publisher).await;
            probes.keep(self.membership.suspects(&self.config));
        }
    }

    fn observe(&mut self, report: Report, publisher: &Publisher) {
        let random = fastrand::f64();
        match self
            .membership
            .observe(report.id, report.seen, net::now(), random)
        {
            None => return,
            Some(None) => {}
            Some(Some((backend, Vital::Healthy))) => tracing::info!(%backend, "healthy again"),
            Some(Some((backend, Vital::Suspect))) => {
                tracing::warn!(%backend, seen = ?report.seen, "suspect: gets no new work while others are healthy");
            }
            Some(Some((backend, Vital::Lost))) => log_loss(&backend, Loss::Down),
        }
        publisher.replace(self.membership.table(&self.config));
    }

    fn advance(&mut self, publisher: &Publisher) {
        for (backend, loss) in self.membership.advance(net::now()) {
            log_loss(&backend, loss);
        }
        publisher.replace(self.membership.table(&self.config));
    }

    async fn reload(&mut self, reason: Reason, publisher: &Publisher) {
        let source = self.source.clone();
        let loading = tokio::task::spawn_blocking(move || source.load());
        let loaded = loading
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        match loaded {
            Ok(config) => self.take(config, reason, publisher),
            Err(errors) => log_faults(&errors, reason),
        }
    }

    fn take(&mut self, config: Config, reason: Reason, publisher: &Publisher) {
        let diff = diff(&self.config, &config);
        if !diff.restart.is_empty() {
            log_restart(&diff, reason);
            return;
        }
        self.files.send_if_modified(|files| {
            let others = *files != config.files;
            files.clone_from(&config.files);
            others
        });
        if diff.is_empty() {
            match reason {
                Reason::Signal => {
                    tracing::info!(reason = reason.as_str(), "reloaded: nothing has changed")
                }
                Reason::Watch | Reason::UnknownPin => {
                    tracing::debug!(reason = reason.as_str(), "nothing has changed")
                }
            }
            return;
        }
        self.membership
            .update(&config, Some(&self.config), net::now());
        self.config = config;
        publisher.replace(self.membership.table(&self.config));
        tracing::info!(reason = reason.as_str(), changes = %diff, "reloaded");
    }
}

fn log_loss(backend: &Name, loss: Loss) {
    match loss {
        Loss::Departed => {
            tracing::info!(%backend, "departed long ago: its sessions are lost from now on")
        }
        Loss::Down => {
            tracing::error!(%backend, "down for too long: its sessions are lost until it is back")
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => net::sleep_until(at).await,
        None => net::sleep(NEVER).await,
    }
}

/// Every fault is told, but not again for each request that makes us look.
fn log_faults(errors: &ConfigErrors, reason: Reason) {
    const MESSAGE: &str = "not reloaded; the configuration before stays in force";
    let source = errors.source_name();
    for fault in errors.faults() {
        let fault = fault.display(source);
        match reason {
            Reason::Signal | Reason::Watch => {
                tracing::error!(reason = reason.as_str(), %fault, "{MESSAGE}");
            }
            Reason::UnknownPin => tracing::debug!(reason = reason.as_str(), %fault, "{MESSAGE}"),
        }
    }
}

fn log_restart(diff: &Diff, reason: Reason) {
    const MESSAGE: &str = "not reloaded: these keys need a restart, and nothing else of the file was taken either; \
                           the configuration before stays in force";
    let keys = diff.restart.join(", ");
    match reason {
        Reason::Signal | Reason::Watch => {
            tracing::error!(reason = reason.as_str(), keys, "{MESSAGE}")
        }
        Reason::UnknownPin => tracing::debug!(reason = reason.as_str(), keys, "{MESSAGE}"),
    }
}
