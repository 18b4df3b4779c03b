//! The answer to `GET /status`: all that one look at a process is to tell.

use serde::{Deserialize, Serialize};

use super::{Backend, Counts, Limits};
use crate::{net::Instant, reload::command::Reloaded};

/// The answer to `GET /status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of pinring.
    pub version: String,
    /// Of its process.
    pub pid: u32,
    /// Seconds since it began.
    pub uptime_s: u64,
    /// `running`, `leaving` (still accepting), `draining` or `stopping`.
    pub phase: String,
    /// What `/readyz` says, in one word.
    pub ready: bool,
    /// Where it listens.
    pub listeners: Listeners,
    /// What nothing protects, each in a few words.
    pub unprotected: Vec<String>,
    /// The configuration's file, if there is one.
    pub file: Option<String>,
    /// Digest of the names of all backends, by pools: the same in all proxies that agree about them.
    pub ring: String,
    /// Digest of the secrets, in their order.
    pub keys: String,
    /// How the last reload went; none yet.
    pub last_reload: Option<ReloadStatus>,
    /// Live sessions, as far as they are known.
    pub sessions: u64,
    /// Whether these are all.
    pub sessions_complete: bool,
    /// In how many seconds they will be all.
    pub sessions_complete_in_s: u64,
    /// Requests and streams that are under way at backends.
    pub in_flight: u64,
    /// The pools, in the order of the file.
    pub pools: Vec<PoolStatus>,
    /// What is counted for the whole process.
    pub counts: Counts,
    /// Connections, and how often limits were reached.
    pub limits: Limits,
}

/// Where a process listens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listeners {
    /// For clients.
    pub traffic: Vec<String>,
    /// For operators.
    pub admin: Vec<String>,
    /// For probes.
    pub probes: Vec<String>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// Which requests are its own.
    pub matches: String,
    /// What becomes of sessions whose backend is lost.
    pub on_loss: String,
    /// Which backend gets new work.
    pub placement: String,
    /// Which backend has all that is not MCP, if any takes it.
    pub home: Option<String>,
    /// Its backends, the departed behind.
    pub backends: Vec<Backend>,
}

/// How a reload went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// How many seconds ago.
    pub ago_s: u64,
    /// Why the file was read again.
    pub reason: String,
    /// `changed`, `unchanged`, or `refused`: then the configuration before is in force.
    pub result: String,
    /// What changed, or why nothing did, one sentence each.
    pub details: Vec<String>,
}

impl ReloadStatus {
    /// What is told at `now`.
    #[must_use]
    pub fn of(reloaded: &Reloaded, now: Instant) -> Self {
        Self {
            ago_s: now.saturating_duration_since(reloaded.at).as_secs(),
            reason: reloaded.reason.to_owned(),
            result: reloaded.outcome.as_str().to_owned(),
            details: reloaded.outcome.details(),
        }
    }
}
