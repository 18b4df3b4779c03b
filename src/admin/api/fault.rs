//! Why a request at the admin listener was not done.

use std::time::Duration;

use http::{HeaderValue, Method, Response, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::{Body, json, text};
use crate::{
    backend::Name, observe::logging::NoLog, reload::command::Stopping,
    router::membership::Unchanged,
};

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
    /// The reason of [`Fault::token_missing`].
    pub const TOKEN_MISSING: &str = "token_missing";

    fn new(status: StatusCode, reason: &str, message: String) -> Self {
        Self {
            status,
            reason: reason.to_owned(),
            message,
        }
    }

    /// There is nothing at `path`, but at `endpoints`.
    #[must_use]
    pub fn not_found(path: &str, endpoints: &str) -> Self {
        let message = format!("there is no {path}; there are: {endpoints}");
        Self::new(StatusCode::NOT_FOUND, "no_endpoint", message)
    }

    /// What is at `path` is asked for with another method.
    #[must_use]
    pub fn method(path: &str, right: &Method) -> Self {
        let message = format!("{path} is asked for with {right}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", message)
    }

    /// No pool is named, or none that there is; there are `names`.
    #[must_use]
    pub fn no_pool(names: &[&str]) -> Self {
        let message = format!(
            "name a pool, as ?pool=NAME; there are: {}",
            names.join(", ")
        );
        Self::new(StatusCode::NOT_FOUND, "no_pool", message)
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

    /// `Host` is missing, or a name that anybody can have lead here.
    #[must_use]
    pub fn host(host: Option<&str>) -> Self {
        let message = format!(
            "Host is {}: ask by an IP address or as localhost, or with server.admin_token as a bearer token. A web page \
             could have a name of its own lead here",
            host.map_or_else(|| "missing".to_owned(), |host| format!("{host:?}"))
        );
        Self::new(StatusCode::FORBIDDEN, "host_not_allowed", message)
    }

    /// A web page of elsewhere asks.
    #[must_use]
    pub fn origin() -> Self {
        let message = "pages of other origins may not ask here".to_owned();
        Self::new(StatusCode::FORBIDDEN, "origin_not_allowed", message)
    }

    /// Changes over TCP need a token, and there is none.
    #[must_use]
    pub fn no_token() -> Self {
        let message = "changes need the Unix socket (admin = \"unix:/run/pinring/admin.sock\", or beside the address in a \
                       list) or server.admin_token, and this process has no token"
            .to_owned();
        Self::new(StatusCode::FORBIDDEN, "changes_refused", message)
    }

    /// Changes over TCP need the token, and none was shown.
    #[must_use]
    pub fn token_missing() -> Self {
        let message = "changes need server.admin_token: send it as Authorization: Bearer TOKEN; pinring's own commands read \
                       it from the configuration, or from PINRING_ADMIN_TOKEN"
            .to_owned();
        Self::new(StatusCode::UNAUTHORIZED, Self::TOKEN_MISSING, message)
    }

    /// What was shown is another token.
    #[must_use]
    pub fn token_wrong() -> Self {
        let message = "the token is not server.admin_token of this process".to_owned();
        Self::new(StatusCode::UNAUTHORIZED, "token_wrong", message)
    }

    /// A server's container may not drain here.
    #[must_use]
    pub fn drain_is_off() -> Self {
        let message = "there is no /drain here: server.probes_drain is off".to_owned();
        Self::new(StatusCode::NOT_FOUND, "drain_off", message)
    }

    /// No backend is this machine's.
    #[must_use]
    pub fn nothing_local() -> Self {
        let message =
            "there is nothing to drain: no backend is the one that `local` names".to_owned();
        Self::new(StatusCode::NOT_FOUND, "nothing_local", message)
    }

    /// Somebody from elsewhere wants to drain.
    #[must_use]
    pub fn not_from_here() -> Self {
        let message = "only this machine and the address of `local` may ask for that, or who sends server.admin_token as \
                       Authorization: Bearer TOKEN"
            .to_owned();
        Self::new(StatusCode::FORBIDDEN, "not_from_here", message)
    }

    /// The query is another than `right` has.
    #[must_use]
    pub fn query(right: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "query", format!("write {right}"))
    }

    /// What is asked for needs the Unix socket.
    #[must_use]
    pub fn by_socket_alone() -> Self {
        let message = "listening sockets are passed over the Unix socket alone".to_owned();
        Self::new(StatusCode::FORBIDDEN, "socket_alone", message)
    }

    /// The answer for those who show it as it is.
    #[must_use]
    pub fn plain(self) -> Response<Body> {
        text(self.status, self.message + "\n")
    }

    /// The answer.
    #[must_use]
    pub fn response(self) -> Response<Body> {
        let status = self.status;
        let mut response = json(status, &Failed { error: self });
        if status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
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
