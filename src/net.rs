//! All sockets, timers and clocks.
//!
//! `tokio::net`, `tokio::time` and `Instant::now` appear nowhere else, so that a simulated network can take their
//! place: the feature `simulation` puts `simulated` where otherwise `clock` and `tcp` are. Nothing here knows
//! HTTP or MCP.

#[cfg(not(feature = "simulation"))]
mod clock;
mod deadline;
#[cfg(not(feature = "simulation"))]
pub mod passing;
#[cfg(feature = "simulation")]
pub mod simulated;
#[cfg(not(feature = "simulation"))]
mod tcp;
pub mod tls;
pub mod unix;

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    task::{Context, Poll, Waker},
    time::Duration,
};

pub use std::time::Instant;

/// Timers for hyper, where it keeps the time of HTTP/2 itself.
pub use hyper_util::rt::TokioTimer as Timer;

pub use self::deadline::{Deadline, DeadlineHandle, Ticker};
#[cfg(feature = "simulation")]
pub use self::simulated::{
    clock::{blocking, now, sleep, sleep_until, time_of_day, within},
    passing,
    tcp::{Bound, Listener, Moving, Stream, connect, raise_open_files, resolve},
};
#[cfg(not(feature = "simulation"))]
pub use self::{
    clock::{blocking, now, sleep, sleep_until, time_of_day, within},
    tcp::{Bound, Listener, Moving, Stream, connect, raise_open_files, resolve},
};

/// The part of a time that is kept back, for the kernel's timers are late: by up to an eighth of a wait, and the last of
/// several waits counts (61.7 and 62.7 s were seen for 60).
const COARSE: u32 = 20;

/// How the kernel watches over idle and stuck TCP connections: without it, a laptop that sleeps
/// would hold a stream for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Liveness {
    /// Silence before the first probe; `None` = no probes.
    keep_alive: Option<Duration>,
    /// Time for which sent bytes may stay unacknowledged, and an idle end silent; `None` = the kernel's own.
    user_timeout: Option<Duration>,
}

impl Liveness {
    /// Probes after `keep_alive` of silence, and gives an end up that has been gone for `gone_after`: since its last
    /// sign of life. After `silence` at the latest something is sent to it.
    ///
    /// The kernel's own clock begins when bytes are sent that stay unacknowledged, and by then the other end may be gone for
    /// the whole silence: what is left for the clock is the rest, but at least half. A loss of packets that
    /// passes must not end a connection.
    #[must_use]
    pub fn new(
        keep_alive: Option<Duration>,
        gone_after: Option<Duration>,
        silence: Duration,
    ) -> Self {
        let clock = |gone_after: Duration| {
            let rest = gone_after.saturating_sub(gone_after / COARSE + silence);
            rest.max(gone_after / 2)
        };
        Self {
            keep_alive,
            user_timeout: gone_after.map(clock),
        }
    }
}

impl Listener {
    /// The next connection. Cancel safe: none is lost.
    ///
    /// # Errors
    ///
    /// As the kernel says; most are of one connection, or pass when descriptors are freed.
    pub async fn accept(&self, liveness: Liveness) -> io::Result<(Stream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx, liveness)).await
    }

    /// The next connection, if one is waiting.
    pub fn accept_waiting(&self, liveness: Liveness) -> Option<io::Result<(Stream, SocketAddr)>> {
        match self.poll_accept(&mut Context::from_waker(Waker::noop()), liveness) {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        }
    }
}
