//! What is said over the admin socket: each answer as a type, for both ends.
//!
//! Times are seconds from now, for the clocks of two machines may differ, and this process knows no calendar.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use serde::{Deserialize, Serialize};

use crate::{
    backend::Name,
    limits::{Limit, Reached},
    net::Instant,
    observe::logging::{NoLog, Standing},
    reload::command::Stopping,
    router::membership::{Changed, Unchanged, View},
};

/// All endpoints, for whoever asks for another.
const ENDPOINTS: &str =
    "GET /backends, GET /limits, GET /log, GET /metrics, POST /drain, POST /undrain, POST /log";

/// The answer to `GET /backends`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// The pool's name.
    pub pool: String,
    /// The backend's.
    pub name: String,
    /// How it stands: a word of [`crate::router::membership::Shown`].
    pub state: String,
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

/// Why a request was not done: a word for programs and a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    #[serde(skip)]
    status: StatusCode,
    /// The word.
    pub reason: String,
    /// The sentence.
    pub message: String,
}

/// How a [`Fault`] is wrapped in an answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failed {
    /// The fault.
    pub error: Fault,
}

impl Fault {
    fn new(status: StatusCode, reason: &str, message: String) -> Self {
        Self {
            status,
            reason: reason.to_owned(),
            message,
        }
    }

    /// There is nothing at `path`.
    #[must_use]
    pub fn not_found(path: &str) -> Self {
        let message = format!("there is no {path}; there are: {ENDPOINTS}");
        Self::new(StatusCode::NOT_FOUND, "no_endpoint", message)
    }

    /// What is at `path` is asked for with another method.
    #[must_use]
    pub fn method(path: &str, right: &Method) -> Self {
        let message = format!("{path} is asked for with {right}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", message)
    }

    /// What was sent cannot be read.
    #[must_use]
    pub fn body(why: &dyn std::fmt::Display) -> Self {
        let message = format!("the body cannot be used: {why}");
        Self::new(StatusCode::BAD_REQUEST, "body", message)
    }

    /// What was to be sent did not come.
    #[must_use]
    pub fn late(limit: Duration) -> Self {
        let message = format!("the body has to come within {limit:?}");
        Self::new(StatusCode::REQUEST_TIMEOUT, "late", message)
    }

    /// Who takes over has to speak another protocol.
    #[must_use]
    pub fn no_upgrade() -> Self {
        let message = "pinring --take-over asks for this; there is nothing to read here".to_owned();
        Self::new(StatusCode::UPGRADE_REQUIRED, "no_upgrade", message)
    }

    /// Somebody else takes over.
    #[must_use]
    pub fn taken() -> Self {
        let message = "another process is taking over: wait for it".to_owned();
        Self::new(StatusCode::CONFLICT, "being_taken_over", message)
    }

    /// Nothing was changed about `backend`.
    #[must_use]
    pub fn unchanged(backend: &str, why: &Unchanged) -> Self {
        let conflict = |reason, message| Self::new(StatusCode::CONFLICT, reason, message);
        match why {
            Unchanged::Unknown(names) => {
                let message = unknown(backend, names);
                Self::new(StatusCode::NOT_FOUND, "unknown_backend", message)
            }
            Unchanged::ByFile => conflict(
                "draining_in_file",
                format!(
                    "{backend} goes on draining, for the file says draining = true: take that out of it"
                ),
            ),
            Unchanged::Departed => conflict(
                "departed",
                format!("{backend} is no longer in the file: put it there again"),
            ),
        }
    }

    /// The answer.
    #[must_use]
    pub fn response(self) -> Response<Full<Bytes>> {
        json(self.status, &Failed { error: self })
    }
}

impl From<NoLog> for Fault {
    fn from(none: NoLog) -> Self {
        Self::new(StatusCode::CONFLICT, "no_log", none.to_string())
    }
}

impl From<Stopping> for Fault {
    fn from(stopping: Stopping) -> Self {
        let message = format!("{stopping}: ask the one that takes its place");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message)
    }
}

/// Names those that are there, and the nearest.
fn unknown(backend: &str, names: &[Name]) -> String {
    let distance = |name: &&str| strsim::damerau_levenshtein(backend, name);
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    let nearest = names.iter().copied().min_by_key(distance);
    let near = nearest.filter(|name| distance(name) <= backend.len().max(name.len()) / 2);
    let question = near.map_or_else(String::new, |name| format!(" (did you mean {name:?}?)"));
    let all = names.join(", ");
    format!("no backend is called {backend:?}{question}; there are: {all}")
}

/// An answer in JSON, with a line end for whoever reads it on a terminal.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let mut text = serde_json::to_vec(body).expect("plain data has a form in JSON");
    text.push(b'\n');
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
