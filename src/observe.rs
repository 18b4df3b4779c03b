//! What an operator sees: the log's set-up and the access log's one line per request.
//!
//! Sixth of the six phases of a request. An [`Exchange`] is a guard: it writes its line when the last part of
//! a request has ended, on every path, also when the client leaves. It takes plain values. No session
//! id, token or query is ever written.

pub mod logging;
pub mod request_id;
pub mod trace_context;

use std::{
    cell::{Cell, OnceCell, RefCell},
    fmt,
    net::IpAddr,
    rc::Rc,
};

use http::{Method, StatusCode, Uri};

use crate::net::{self, Instant};

/// The target of access-log lines, to filter them by.
pub const ACCESS: &str = "pinring::access";

/// How a request ended, as far as the client's side is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The whole answer was handed over.
    Complete,
    /// The client left before the end. Python clients finish every call so: it is no error.
    ClientLeft,
    /// The backend went away in mid-answer: the client sees a truncated one.
    BackendGone,
    /// The stream was silent for longer than allowed.
    Idle,
    /// This process is about to end, or what the backend held is lost because it was drained.
    Drained,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientLeft => "client_left",
            Self::BackendGone => "backend_gone",
            Self::Idle => "idle",
            Self::Drained => "drained",
        }
    }
}

/// Follows one request from its head to the last byte of its answer. Clones are of the same request.
///
/// Does nothing, and costs nothing, where the access log is off.
#[derive(Clone, Default)]
pub struct Exchange(Option<Rc<Record>>);

struct Record {
    client: IpAddr,
    method: Method,
    target: Uri,
    began: Instant,
    pool: OnceCell<String>,
    route: RefCell<Option<Route>>,
    /// Who could not be reached before, and why.
    failed: RefCell<String>,
    error: OnceCell<String>,
    session: OnceCell<String>,
    status: Cell<Option<StatusCode>>,
    answered: Cell<Option<Instant>>,
    reason: Cell<&'static str>,
    received: Cell<usize>,
    sent: Cell<usize>,
    outcome: Cell<Outcome>,
}

struct Route {
    backend: String,
    why: &'static str,
}

impl Exchange {
    /// Begins to follow a request, if anybody reads the access log.
    #[must_use]
    pub fn begin(client: IpAddr, method: &Method, target: &Uri) -> Self {
        if !tracing::enabled!(target: ACCESS, tracing::Level::INFO) {
            return Self(None);
        }
        Self(Some(Rc::new(Record {
            client: client.to_canonical(),
            method: method.clone(),
            target: target.clone(),
            began: net::now(),
            pool: OnceCell::new(),
            route: RefCell::default(),
            failed: RefCell::default(),
            error: OnceCell::new(),
            session: OnceCell::new(),
            status: Cell::new(None),
            answered: Cell::new(None),
            reason: Cell::new(""),
            received: Cell::new(0),
            sent: Cell::new(0),
            outcome: Cell::new(Outcome::ClientLeft),
        })))
    }

    /// Which pool it is for.
    pub fn matched(&self, pool: &str) {
        if let Some(record) = &self.0 {
            record.pool.get_or_init(|| pool.to_owned());
        }
    }

    /// Where the request goes now, and by what rule. The last one counts.
    pub fn routed(&self, backend: &str, why: &'static str) {
        if let Some(record) = &self.0 {
            let backend = backend.to_owned();
            record.route.replace(Some(Route { backend, why }));
        }
    }

    /// A backend did not answer; another, or the same again, may be tried.
    pub fn failed(&self, backend: &str, reason: &'static str) {
        if let Some(record) = &self.0 {
            let mut failed = record.failed.borrow_mut();
            if failed.ends_with(reason)
                && failed
                    .trim_end_matches(reason)
                    .ends_with(&format!("{backend} "))
            {
                return; // tried again and again
            }
            let separator = if failed.is_empty() { "" } else { ", " };
            failed.extend([separator, backend, " ", reason]);
        }
    }

    /// Why the answer is one of pinring's own, with all causes.
    pub fn error(&self, text: impl FnOnce() -> String) {
        if let Some(record) = &self.0 {
            record.error.get_or_init(text);
        }
    }

    /// Which session it belongs to, as a short hash.
    pub fn session(&self, hash: impl FnOnce() -> String) {
        if let Some(record) = &self.0 {
            record.session.get_or_init(hash);
        }
    }

    /// The answer's head is there. `reason` is pinring's own for answers of its own, else empty.
    pub fn answered(&self, status: StatusCode, reason: &'static str) {
        if let Some(record) = &self.0 {
            record.status.set(Some(status));
            record.answered.set(Some(net::now()));
            record.reason.set(reason);
        }
    }

    /// Bytes of the request's body came.
    pub fn received(&self, bytes: usize) {
        if let Some(record) = &self.0 {
            record.received.set(record.received.get() + bytes);
        }
    }

    /// Bytes of the answer's body were handed over.
    pub fn sent(&self, bytes: usize) {
        if let Some(record) = &self.0 {
            record.sent.set(record.sent.get() + bytes);
        }
    }

    /// The answer ended.
    pub fn end(&self, outcome: Outcome) {
        if let Some(record) = &self.0 {
            record.outcome.set(outcome);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let micros = |since: Instant, until: Instant| {
            u64::try_from((until - since).as_micros()).unwrap_or(u64::MAX)
        };
        let now = net::now();
        let route = self.route.borrow();
        let route = route.as_ref();
        let failed = self.failed.borrow();
        tracing::info!(
            target: ACCESS,
            client = %self.client,
            method = %self.method,
            path = self.target.path(),
            status = self.status.get().map(|status| status.as_u16()),
            pool = self.pool.get().map(String::as_str),
            backend = route.map(|route| route.backend.as_str()),
            route = route.map(|route| route.why),
            failed = Some(failed.as_str()).filter(|failed| !failed.is_empty()),
            reason = Some(self.reason.get()).filter(|reason| !reason.is_empty()),
            error = self.error.get().map(String::as_str),
            session = self.session.get().map(String::as_str),
            head_us = self.answered.get().map(|answered| micros(self.began, answered)),
            total_us = micros(self.began, now),
            bytes_in = self.received.get(),
            bytes_out = self.sent.get(),
            end = self.outcome.get().as_str(),
        );
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Exchange")
            .field(&self.0.as_ref().map(|record| &record.target))
            .finish()
    }
}
