//! The limits of a process: how often each was reached, and the budget of connections.
//!
//! Counted are refusals and what else follows from a limit. The counters are plain numbers, for whoever watches: nobody
//! decides by them, and where no limit is reached nobody touches them.

mod connections;
mod network;

use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

pub use self::connections::{Connected, Connections, Full, OfAddress, Room, Told};

/// What is limited. What a client is told stands in the README, "Limits".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Connections of the process.
    Connections,
    /// Connections of one address.
    ConnectionsPerAddress,
    /// Descriptors: counted is how often they began to be too few to accept with.
    OpenFiles,
    /// Bytes of a request's target.
    TargetBytes,
    /// Bytes of a request's head.
    HeaderBytes,
    /// Header fields of a request.
    Headers,
    /// Time for a request's head.
    RequestHead,
    /// Silence within a request's body.
    RequestBodyIdle,
    /// Idle connections.
    KeepAlive,
    /// Ends that are gone: answers to the pings of HTTP/2.
    UserTimeout,
    /// Requests of one HTTP/2 connection under way.
    Http2Streams,
    /// Requests of one HTTP/2 connection that were taken back, or broken off, before they were answered.
    Http2Resets,
    /// Frames of one HTTP/2 connection that carry nothing, or so little that they are no use.
    Http2Frames,
    /// Bytes of a request that was to be looked into, and passed unread.
    BodyBytes,
    /// Bytes of all bodies that are looked into.
    BodyBytesTotal,
    /// Sessions of one backend.
    SessionsPerBackend,
    /// Sessions of one principal.
    SessionsPerPrincipal,
}

impl Limit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::OpenFiles,
        Self::TargetBytes,
        Self::HeaderBytes,
        Self::Headers,
        Self::RequestHead,
        Self::RequestBodyIdle,
        Self::KeepAlive,
        Self::UserTimeout,
        Self::Http2Streams,
        Self::Http2Resets,
        Self::Http2Frames,
        Self::BodyBytes,
        Self::BodyBytesTotal,
        Self::SessionsPerBackend,
        Self::SessionsPerPrincipal,
    ];

    /// Its key in the configuration; what is no key has a name of its own.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Connections => "limits.connections",
            Self::ConnectionsPerAddress => "limits.connections_per_address",
            Self::OpenFiles => "open_files",
            Self::TargetBytes => "limits.target_bytes",
            Self::HeaderBytes => "limits.header_bytes",
            Self::Headers => "limits.headers",
            Self::RequestHead => "timeouts.request_head",
            Self::RequestBodyIdle => "timeouts.request_body_idle",
            Self::KeepAlive => "timeouts.keep_alive",
            Self::UserTimeout => "timeouts.tcp_user_timeout",
            Self::Http2Streams => "limits.http2_streams",
            Self::Http2Resets => "http2_resets",
            Self::Http2Frames => "http2_frames",
            Self::BodyBytes => "limits.body_bytes",
            Self::BodyBytesTotal => "limits.body_bytes_total",
            Self::SessionsPerBackend => "limits.sessions_per_backend",
            Self::SessionsPerPrincipal => "limits.sessions_per_principal",
        }
    }
}

/// How often each limit was reached since the process began. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Reached(Arc<[AtomicU64; Limit::ALL.len()]>);

impl Reached {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(array::from_fn(|_| AtomicU64::new(0))))
    }

    /// It was reached once more.
    pub fn count(&self, limit: Limit) {
        if let Some(counter) = self.0.get(limit as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often it was.
    #[must_use]
    pub fn times(&self, limit: Limit) -> u64 {
        let counter = self.0.get(limit as usize);
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

impl Default for Reached {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_a_counter_of_its_own() {
        for (number, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, number, "{limit:?}");
            let reached = Reached::new();
            reached.clone().count(limit);
            let counted = Limit::ALL
                .into_iter()
                .filter(|limit| reached.times(*limit) > 0);
            assert_eq!(counted.collect::<Vec<_>>(), [limit]);
        }
        let mut keys = Limit::ALL.map(Limit::key);
        keys.sort_unstable();
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
    }
}
