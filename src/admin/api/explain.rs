//! What `POST /explain` wants and answers.

use serde::{Deserialize, Serialize};

use super::Backend;

/// What `POST /explain` wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// What a client holds: a session id, the query of an `endpoint` URL, a request state or a task's id.
    pub id: String,
}

/// The answer: what this process would do with it now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// What carries the pin; none: there is no pin.
    pub kind: Option<String>,
    /// The hash that stands in the log.
    pub in_logs: String,
    /// The id of the key that signed it.
    pub key: Option<String>,
    /// The place on the ring.
    pub coordinate: Option<String>,
    /// The backend that has, or had, this place.
    pub names: Option<String>,
    /// What becomes of it in each pool that it can be meant for.
    pub fates: Vec<Fate>,
}

/// What becomes of it in one pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fate {
    /// The pool's name.
    pub pool: String,
    /// A sentence about it.
    pub says: String,
    /// The status, where it goes nowhere.
    pub status: Option<u16>,
    /// The reason, then.
    pub reason: Option<String>,
    /// How the backend stands, if it is still known.
    pub backend: Option<Backend>,
}
