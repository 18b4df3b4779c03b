//! What is said at the admin listener: each answer as a type, for both ends.
//!
//! Times are seconds from now, for the clocks of two machines may differ, and this process knows no calendar.

mod explain;
mod fault;
mod status;

use std::{collections::BTreeMap, convert::Infallible};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use serde::{Deserialize, Serialize};

pub use self::{
    explain::{Explain, Explanation, Fate},
    fault::{Failed, Fault},
    status::{Listeners, PoolStatus, ReloadStatus, Status},
};
use crate::{
    limits::{Limit, Reached},
    net::Instant,
    observe::logging::Standing,
    router::membership::{Changed, View},
};

/// The body of an answer, be it whole or a stream.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The answer to `GET /backends`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backends {
    /// In the order of the file, the departed behind.
    pub backends: Vec<Backend>,
    /// What is counted for the whole process.
    pub counts: Counts,
}

/// What a process has counted since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Sessions that it brought back at another backend.
    pub sessions_reinitialized: u64,
    /// Sessions whose handshake it forgot, because others were used later and `store.sessions` holds no more.
    pub handshakes_forgotten: u64,
    /// Requests that were refused a session because it is bound to another principal than theirs.
    #[serde(default)]
    pub principals_refused: u64,
    /// Sessions that it ended because nobody in particular had opened them, where sessions are bound.
    #[serde(default)]
    pub sessions_withheld: u64,
    /// Clients that did not come through the TLS handshake.
    pub tls_handshakes_failed: u64,
    /// Spans that the collector has taken.
    #[serde(default)]
    pub spans_exported: u64,
    /// Spans that were lost, because the collector was away or slow.
    #[serde(default)]
    pub spans_dropped: u64,
}

/// The answer to `GET /limits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Connections of clients at the moment.
    pub connections: usize,
    /// How often each limit was reached since the process began, by its key.
    pub reached: BTreeMap<String, u64>,
}

impl Limits {
    /// What is told while there are so many `connections`.
    #[must_use]
    pub fn of(connections: usize, reached: &Reached) -> Self {
        let times = |limit: Limit| (limit.key().to_owned(), reached.times(limit));
        Self {
            connections,
            reached: Limit::ALL.into_iter().map(times).collect(),
        }
    }
}

/// What `POST /drain` wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// The backend's name.
    pub backend: String,
    /// After which time what it still holds is lost, as `"10m"`; without it, or with `"0s"`, never.
    #[serde(default)]
    pub timeout: Option<String>,
    /// Whether that is to be at once, whatever `timeout` says.
    #[serde(default)]
    pub now: bool,
}

/// What `POST /undrain` wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undrain {
    /// The backend's name.
    pub backend: String,
}

/// What `POST /log` wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeLog {
    /// What is to be logged, as in `RUST_LOG`; without it, as configured.
    #[serde(default)]
    pub filter: Option<String>,
    /// How long, as `"10m"`; without it, until the next reload.
    #[serde(default, rename = "for")]
    pub time: Option<String>,
}

/// The answer to `GET /log` and `POST /log`: what is logged at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The filter in force.
    pub filter: String,
    /// That of file and environment.
    pub configured: String,
    /// In how many seconds that one is in force again, if an operator's filter stands in for it for a time.
    pub reset_in_s: Option<u64>,
}

impl From<Standing> for Log {
    fn from(standing: Standing) -> Self {
        let left = standing.left;
        Self {
            filter: standing.filter,
            configured: standing.configured,
            reset_in_s: left.map(|left| left.as_secs() + u64::from(left.subsec_nanos() > 0)),
        }
    }
}

/// The answer to a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// The backend as it stands now; one that is being removed may stand in several pools.
    pub backends: Vec<Backend>,
    /// How many backends of its pool are left that take new work and are not known to be down.
    pub open_left: usize,
}

impl Changes {
    /// What is told at `now`.
    #[must_use]
    pub fn of(changed: &Changed, now: Instant) -> Self {
        let views = changed.views.iter();
        Self {
            backends: views.map(|view| Backend::of(view, now)).collect(),
            open_left: changed.open_left,
        }
    }
}

/// One backend of one pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// The pool's name.
    pub pool: String,
    /// The backend's.
    pub name: String,
    /// How it stands: a word of [`crate::router::membership::Shown`].
    pub state: String,
    /// Why, where it does not take new work as the others do; else empty.
    #[serde(default)]
    pub why: String,
    /// For how many seconds.
    #[serde(default)]
    pub since_s: u64,
    /// Where it listens.
    #[serde(default)]
    pub url: String,
    /// Its share of new work in proportion to the others.
    #[serde(default)]
    pub weight: u16,
    /// Whether it is on this machine, as `local` of its pool says.
    #[serde(default)]
    pub local: bool,
    /// The part of the ring that it has, from 0 to 1: ids without a pin go there.
    #[serde(default)]
    pub ring_share: f64,
    /// Its live sessions, as far as this process knows them.
    pub sessions: u32,
    /// Whether these are all, or some may not have shown themselves since the process began, or since they were
    /// last forgotten: at a loss, at the end of a drain, or when the backend was removed.
    pub sessions_complete: bool,
    /// In how many seconds they will be all.
    pub sessions_complete_in_s: u64,
    /// Its requests and streams that are under way.
    pub in_flight: u32,
    /// In how many seconds what it holds will be lost, if that is known.
    pub lost_in_s: Option<u64>,
    /// How many live sessions were lost when its drain was over.
    pub sessions_lost: Option<u32>,
    /// How many sessions it did not know though it had answered them a moment ago.
    pub forgotten: u64,
    /// Whether the file says `draining = true`.
    pub draining_in_file: bool,
}

impl Backend {
    /// What is told at `now`.
    #[must_use]
    pub fn of(view: &View, now: Instant) -> Self {
        let complete_in = seconds_until(view.complete_at, now);
        Self {
            pool: view.pool.clone(),
            name: view.name.to_string(),
            state: view.state.as_str().to_owned(),
            why: view.why.to_owned(),
            since_s: now.saturating_duration_since(view.since).as_secs(),
            url: view.url.clone(),
            weight: view.weight,
            local: view.local,
            ring_share: 0.0,
            sessions: view.sessions,
            sessions_complete: complete_in == 0,
            sessions_complete_in_s: complete_in,
            in_flight: view.in_flight,
            lost_in_s: view.ends_at.map(|at| seconds_until(at, now)),
            sessions_lost: view.sessions_lost,
            forgotten: view.forgotten,
            draining_in_file: view.draining_in_file,
        }
    }
}

/// Whole seconds, rounded up: 0 only when `at` has come.
fn seconds_until(at: Instant, now: Instant) -> u64 {
    let left = at.saturating_duration_since(now);
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

/// An answer in JSON, with a line end for whoever reads it on a terminal.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let mut text = serde_json::to_vec(body).expect("plain data has a form in JSON");
    text.push(b'\n');
    whole(status, "application/json", text)
}

/// An answer for a person, or for a program that looks at the status alone.
pub fn text(status: StatusCode, text: String) -> Response<Body> {
    whole(status, "text/plain; charset=utf-8", text)
}

/// An answer whose body is there. It is of this moment: nobody is to keep it.
pub fn whole(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let no_guess = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, no_guess);
    response
}
