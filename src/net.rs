//! All sockets, timers and clocks.
//!
//! `tokio::net`, `tokio::time` and `Instant::now` appear nowhere else, so that a simulated network can take their
//! place: the feature `simulation` puts `simulated` where otherwise `clock` and `tcp` are. Nothing here knows
//! HTTP or MCP.

#[cfg(not(feature = "simulation"))]
mod clock;
mod deadline;
#[cfg(feature = "simulation")]
pub mod simulated;
#[cfg(not(feature = "simulation"))]
mod tcp;

use std::time::Duration;

pub use std::time::Instant;

pub use self::deadline::{Deadline, DeadlineHandle, Ticker};
#[cfg(feature = "simulation")]
pub use self::simulated::{
    clock::{blocking, now, sleep, sleep_until, within},
    tcp::{Bound, Listener, Stream, connect, raise_open_files, resolve},
};
#[cfg(not(feature = "simulation"))]
pub use self::{
    clock::{blocking, now, sleep, sleep_until, within},
    tcp::{Bound, Listener, Stream, connect, raise_open_files, resolve},
};

/// How the kernel watches over idle and stuck TCP connections: without it, a laptop that sleeps
/// would hold a stream for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Liveness {
    /// Silence before the first probe; `None` = no probes.
    pub keep_alive: Option<Duration>,
    /// Time for which sent bytes may stay unacknowledged; `None` = the kernel's own.
    pub user_timeout: Option<Duration>,
}
