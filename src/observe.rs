//! What an operator sees: the access log's one line per request, the metrics, the log's set-up.
//!
//! Sixth of the six phases of a request. An [`Exchange`] is a guard: it counts, and writes its line, when the last part
//! of a request has ended, on every path, also when the client leaves. It takes plain values. No session
//! id, token or query is ever written.

mod exchange;
pub mod logging;
pub mod meter;
pub mod metrics;
pub mod otlp;
pub mod request_id;
pub mod spans;
pub mod tally;
pub mod trace_context;
pub mod traffic;
pub mod word;

pub use self::{
    exchange::{Asking, Exchange, Marks, Stream},
    meter::{Meter, Meters},
    word::{Outcome, Reason, Route},
};

/// The target of access-log lines, to filter them by.
pub const ACCESS: &str = "pinring::access";
