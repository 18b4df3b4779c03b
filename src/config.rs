//! What the program runs on: complete and checked, with no `Option` that means "default".
//!
//! The values come from a TOML file, flags and the environment. [`source`] reads them, `file` finds
//! keys and their lines in the text, [`check`] makes a [`Config`] of them or lists every fault at
//! once, and [`diff`] says what a reload would change. Nothing here knows sockets or threads.

pub mod check;
pub mod diff;
pub mod source;

mod admin;
mod affinity;
mod backends;
mod bind;
mod connections;
mod cors;
mod discovery;
mod effective;
mod exposure;
mod fault;
mod file;
mod filter;
mod listen;
mod listing;
mod local;
mod log;
mod notes;
mod origins;
mod overrides;
mod path;
mod pools;
mod probes;
mod secrets;
mod section;
mod services;
mod store;
mod timeouts;
pub mod tls;
mod traces;
mod units;
mod world;

use std::{
    fmt,
    net::{AddrParseError, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

pub use self::{
    admin::{Admin, AdminPlace, DEFAULT_ADDRESS as DEFAULT_ADMIN, InvalidAdmin, Token},
    affinity::AffinityKey,
    cors::Cors,
    discovery::Discovery,
    effective::effective,
    exposure::unprotected,
    fault::{ConfigErrors, Fault, Place},
    filter::{InvalidFilter, parse as parse_filter},
    listen::ListenStreams,
    local::Local,
    log::{Log, LogFormat, Sample},
    origins::{InvalidOrigin, Origins},
    overrides::{Given, Overrides, SECRET_VARIABLE},
    path::{InvalidPrefix, PathPrefix},
    probes::Probes,
    services::{Found, Naming, Service, Unusable, WhyUnusable},
    traces::{Export, Sampling, TraceTrust, Tracing},
    units::{InvalidQuantity, format_duration, parse_duration},
};
use crate::{
    backend::{Backend, Scheme},
    health::{Patience, Statuses},
    identity::{self, trusted::Trusted},
    pin,
};

/// A whole configuration. Only [`check::check`] builds one, so that what it holds has been checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The listening side of the process.
    pub server: Server,
    /// What is shown to clients that speak TLS; `None`: there are no certificates.
    pub tls: Option<tls::Tls>,
    /// Every deadline and delay.
    pub timeouts: Timeouts,
    /// What one process accepts at most.
    pub limits: Limits,
    /// What is written, and how.
    pub log: Log,
    /// Which requests become spans, and where those go; `None`: nobody asks, and trace contexts pass as they are.
    pub tracing: Option<Tracing>,
    /// Where handshakes are kept for sessions whose backend is lost.
    pub store: Store,
    /// How backends are found by DNS names.
    pub discovery: Discovery,
    /// What is told to pages of other origins; `None`: the backends say it themselves.
    pub cors: Option<Arc<Cors>>,
    /// The keys behind the pins' tags.
    pub keys: pin::Keys,
    /// The secrets as configured, the signing one first. Empty where none is: [`Config::keys`] then
    /// holds the zero key. Kept to tell whether a reload changes them.
    pub secrets: Vec<pin::Secret>,
    /// The pools, never empty, in the order of the file.
    pub pools: Vec<Pool>,
    /// Every file that was read: a change of any of them is a reason to load again.
    pub files: Vec<PathBuf>,
    /// The chains of certificates that were read, by their digests: of [`Config::tls`] and of pools.
    pub chains: Vec<[u8; 32]>,
    /// What is no fault, and what an operator should know all the same: one sentence each.
    pub notes: Vec<String>,
}

/// `[server]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The traffic listeners, never empty.
    pub listen: Vec<Listen>,
    /// Where the admin listener is.
    pub admin: Admin,
    /// What changes over TCP have to show; `None`: there are none.
    pub admin_token: Option<Token>,
    /// Where probes ask.
    pub probes: Probes,
    /// Worker threads.
    pub threads: NonZeroUsize,
    /// Whether a changed file is loaded without a signal.
    pub watch: bool,
    /// The proxies in front, which are believed what they say of clients.
    pub trusted_proxies: Trusted,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Whose pages may ask, those of [`Config::cors`] included. All that a reload can change here.
    pub allowed_origins: Origins,
}

/// Where clients come in. `Display` is as the file may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listen {
    /// The address.
    pub address: SocketAddr,
    /// What is spoken there.
    pub scheme: Scheme,
}

impl FromStr for Listen {
    type Err = AddrParseError;

    /// Reads IP and port, with `http://` or `https://` before them or not.
    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        let (scheme, address) = match text.split_once("://") {
            Some(("https", address)) => (Scheme::Https, address),
            Some(("http", address)) => (Scheme::Http, address),
            Some(_) | None => (Scheme::Http, text),
        };
        let address = address.parse()?;
        Ok(Self { address, scheme })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Http => write!(f, "{}", self.address),
            Scheme::Https => write!(f, "https://{}", self.address),
        }
    }
}

/// `[timeouts]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For a client to send a request's head.
    pub request_head: Duration,
    /// Silence inside a request's body.
    pub request_body_idle: Duration,
    /// For a connection to a backend.
    pub connect: Duration,
    /// For a backend to begin its answer to a call.
    pub response_head: Duration,
    /// The same for requests without a session and for GET streams.
    pub open_head: Duration,
    /// Silence of a stream; `None` is for ever.
    pub stream_idle: Option<Duration>,
    /// Silence of an event stream before a comment goes into it; `None` is never.
    pub stream_comment: Option<Duration>,
    /// Idle client connections.
    pub keep_alive: Duration,
    /// Idle backend connections; zero keeps none.
    pub upstream_keep_alive: Duration,
    /// Silence before TCP asks whether the other end is there; `None` never asks.
    pub tcp_keep_alive: Option<Duration>,
    /// How long sent bytes may stay unacknowledged; `None` leaves it to the kernel.
    pub tcp_user_timeout: Option<Duration>,
    /// After SIGTERM: not ready, still accepting.
    pub shutdown_delay: Duration,
    /// After that, for what is under way.
    pub drain: Duration,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's or answer's head.
    pub header_bytes: usize,
    /// Header fields of a head.
    pub headers: usize,
    /// Bytes of a request's target.
    pub target_bytes: usize,
    /// Client connections at one time.
    pub connections: usize,
    /// The same of one IPv4 address, or one /64 of IPv6; `None`: any number.
    pub connections_per_address: Option<NonZeroUsize>,
    /// Requests of one HTTP/2 connection under way at one time.
    pub http2_streams: u32,
    /// Live sessions of one backend that are opened here; `None`: any number.
    pub sessions_per_backend: Option<NonZeroU32>,
    /// Live sessions of one principal; `None`: nobody counts them.
    pub sessions_per_principal: Option<PrincipalLimit>,
    /// Bytes of a request that are kept for [`OnLoss::Reinitialize`].
    pub replay_bytes: usize,
    /// Bytes of a request that is looked into for carriers; a longer one passes unread.
    pub body_bytes: usize,
    /// Bytes of all bodies that are looked into at one time, over all threads.
    pub body_bytes_total: usize,
}

/// How many live sessions one principal may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalLimit {
    /// So many.
    pub most: NonZeroU32,
    /// What makes a principal.
    pub by: identity::Source,
}

/// `[store]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Where it is.
    pub url: StoreUrl,
    /// Sessions that one process keeps in its memory.
    pub sessions: usize,
}

/// Where the store of [`OnLoss::Reinitialize`] is.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// In the memory of this process.
    Memory,
    /// At a Redis or Valkey server: its URL, which has been parsed once, and may hold a password.
    Redis(String),
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "Memory",
            Self::Redis(_) => "Redis",
        })
    }
}

/// One MCP server in several replicas: which requests are its own, and how they are treated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name, unique: ASCII letters, digits, `.`, `_` and `-`. The home backend derives from it.
    pub name: String,
    /// Which requests are its own.
    pub matcher: Match,
    /// Taken off the path before a backend sees it.
    pub strip_prefix: Option<PathPrefix>,
    /// The `Host` that a backend sees.
    pub host: HostHeader,
    /// Whether HTTP/2 is spoken with its backends, and nothing else.
    pub http2: bool,
    /// What becomes of session ids that carry no pin.
    pub unpinned: Unpinned,
    /// Whose a session is: pins are good for that principal alone. `None`: for anybody.
    pub bind: Option<identity::Source>,
    /// Whether pins that were made before `bind` are good for anybody still.
    pub accept_unbound: bool,
    /// How long a backend that joins while the process runs gets no new work.
    pub join_delay: Duration,
    /// How long the pins of a backend that left the list go on being tried.
    pub departed: Duration,
    /// How long a pin whose place nobody here has seen is answered 503 rather than 404.
    pub unknown_grace: Duration,
    /// How long a backend may be down before its sessions are lost.
    pub patience: Patience,
    /// What becomes of the sessions of a backend that is lost.
    pub on_loss: OnLoss,
    /// How long a session without a request or an open stream counts as live.
    pub session_idle: Duration,
    /// Whether what old SDK servers answer for a session that they do not know becomes a 404.
    pub normalize_lost_session: bool,
    /// Whether the bodies of 2026-07-28 are looked into, so that request states and tasks come home.
    pub read_bodies: bool,
    /// How many backends one `subscriptions/listen` hears.
    pub listen_streams: ListenStreams,
    /// What decides where a request of 2026-07-28 goes that refers to nothing: the first that is there. Empty: load.
    pub stateless_affinity: Vec<AffinityKey>,
    /// Which backend gets new work.
    pub placement: Placement,
    /// Which backends are on this machine, where the file says.
    pub local: Option<Local>,
    /// What a suspect backend is asked for with GET; `None`: a TCP connection is enough.
    pub probe_path: Option<String>,
    /// What it is to answer.
    pub probe_status: Statuses,
    /// Its replicas, in the order of the file, those that were found for its services behind; names are unique over all
    /// pools. Empty only where there are services.
    pub backends: Vec<Backend>,
    /// DNS names that stand for further replicas.
    pub services: Vec<Service>,
    /// Whether there are services of which nothing is known yet: so it is in what the file says alone.
    pub undiscovered: bool,
}

/// Which requests belong to a pool. The longest path wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The host asked for: lower case, no port, no trailing dot, IPv6 in brackets. `None` is any.
    pub host: Option<String>,
    /// The beginning of the path, in whole segments.
    pub path: PathPrefix,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or("any host");
        write!(f, "{host}, {}", self.path)
    }
}

/// The `Host` that a backend sees. DNS-rebinding guards of SDK servers want one or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostHeader {
    /// What the client sent.
    Pass,
    /// The backend's own.
    Rewrite,
}

impl HostHeader {
    const WORDS: [(&'static str, Self); 2] = [("pass", Self::Pass), ("rewrite", Self::Rewrite)];
}

/// Which backend gets new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// The less loaded of two that chance picks.
    TwoChoices,
    /// The local one, if it takes new work and is well; else as above.
    LocalFirst,
}

impl Placement {
    const WORDS: [(&'static str, Self); 2] = [
        ("two-choices", Self::TwoChoices),
        ("local-first", Self::LocalFirst),
    ];
}

/// What becomes of a session whose backend is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLoss {
    /// It is answered 404.
    NotFound,
    /// It goes to the ring's next healthy backend: for servers that share their sessions' state.
    Successor,
    /// Its handshake is repeated at another backend, and it goes on there, without the server's memory of it.
    Reinitialize,
}

impl OnLoss {
    const WORDS: [(&'static str, Self); 3] = [
        ("not-found", Self::NotFound),
        ("successor", Self::Successor),
        ("reinitialize", Self::Reinitialize),
    ];
}

/// What becomes of a session id that carries no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpinned {
    /// It goes to the backend that owns its hash on the ring.
    Ring,
    /// It is answered 404.
    Reject,
}

impl Unpinned {
    const WORDS: [(&'static str, Self); 2] = [("ring", Self::Ring), ("reject", Self::Reject)];
}

/// The word of a value, as the file has it.
fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    let mut words = words.iter();
    words
        .find(|(_, meaning)| meaning == value)
        .map_or("", |(word, _)| word)
}

impl fmt::Display for HostHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(&Self::WORDS, self))
    }
}

impl fmt::Display for OnLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(&Self::WORDS, self))
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(&Self::WORDS, self))
    }
}

impl fmt::Display for Unpinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(&Self::WORDS, self))
    }
}

#[cfg(test)]
mod tests;
