//! What comes of routing: a decision, or a refusal.

use super::placement::SessionLimit;
use crate::{
    mcp::session::ServerSessionId,
    observe::word::Route,
    ring::{Coordinate, Member},
};

/// Why a backend was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A pin names it.
    Pinned,
    /// A carrier in its body names it.
    Carrier,
    /// Its backend is lost, and this is the ring's next one: see [`OnLoss::Successor`](crate::config::OnLoss::Successor).
    Successor,
    /// Its handshake was repeated there: see [`Moved`].
    Reinitialized,
    /// The id has no pin, and its hash is on this backend's part of the ring.
    Ring,
    /// Its key belongs to this position, at or after which this backend is the first.
    Affinity(Coordinate),
    /// New work, of which this backend has less, or the local one.
    Placed,
    /// It is the pool's home.
    Home,
}

impl Why {
    /// The word for logs and metrics.
    #[must_use]
    pub fn route(self) -> Route {
        match self {
            Self::Pinned => Route::Pinned,
            Self::Carrier => Route::Carrier,
            Self::Successor => Route::Successor,
            Self::Reinitialized => Route::Reinitialized,
            Self::Ring => Route::Ring,
            Self::Affinity(_) => Route::Affinity,
            Self::Placed => Route::Placed,
            Self::Home => Route::Home,
        }
    }
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Which of the pool's members.
    pub member: Member,
    /// By what rule.
    pub why: Why,
    /// The session id for the backend, its own; `None`: the header is not sent.
    pub session: Option<ServerSessionId>,
    /// How many sessions the backend may have, for the request may open one.
    pub limit: SessionLimit,
}

/// Where a session is whose handshake was repeated: see [`OnLoss::Reinitialize`](crate::config::OnLoss::Reinitialize).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// A virtual node of its backend, as a pin would name it.
    pub coordinate: Coordinate,
    /// What that backend calls it.
    pub session: ServerSessionId,
}

/// Why a request goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The pin's tag does not verify.
    #[error("the session id's pin does not verify: it was altered, or made for somebody else")]
    Forged,
    /// The same in a pool that binds sessions, for the one who asks.
    #[error("the session is bound to another user than the request is of, or its id was altered")]
    OtherPrincipal,
    /// The same, and the request does not say of whom it is.
    #[error("sessions are bound to their users here, and the request does not say of whom it is")]
    PrincipalMissing,
    /// The pin is genuine, and was made before sessions were bound.
    #[error("the session was opened before sessions were bound to their users here")]
    Unbound,
    /// The pin names a backend of another pool.
    #[error("the session belongs to another pool than this host and path")]
    WrongPool,
    /// The pin was signed with a key that was taken out of the configuration.
    #[error("the session's pin was signed with a secret that has been removed")]
    KeyRemoved,
    /// The backend was drained, or taken out of the configuration, and its time has run out.
    #[error("the session's backend has been drained or removed")]
    BackendRemoved,
    /// The backend was down for too long.
    #[error("the session's backend has been down for too long")]
    BackendDown,
    /// The pin is good, but no backend with this coordinate was ever known here.
    #[error("the session's backend is not known to this proxy yet")]
    UnknownCoordinate,
    /// The backend may be one of those that were not discovered yet.
    #[error(
        "the DNS name of the backends was not resolved since this proxy began: they are not known yet"
    )]
    Undiscovered,
    /// No key of this process can verify the pin.
    #[error("the session's pin is signed with a secret that this proxy does not have yet")]
    UnknownKey,
    /// The id has no pin, and such ids are not accepted.
    #[error("the session id was not issued through this proxy")]
    Unpinned,
    /// A message of HTTP+SSE whose URL has lost its pin, in a pool that binds sessions.
    #[error(
        "the URL names a session without saying whose it is: it has lost its pinring parameter"
    )]
    UnpinnedMessage,
    /// Nobody takes new work.
    #[error("no backend takes new work")]
    NoBackend,
    /// Whoever takes new work has as many sessions as a backend may have.
    #[error("every backend has as many sessions as it may have")]
    SessionsFull,
    /// The one who asks has as many sessions as he may have.
    #[error("you have as many sessions as you may have; end one first")]
    PrincipalSessionsFull,
}

impl Refusal {
    /// Whether the session was genuine, and its backend is gone with it.
    #[must_use]
    pub fn is_loss(self) -> bool {
        match self {
            Self::BackendRemoved | Self::BackendDown => true,
            Self::Forged
            | Self::OtherPrincipal
            | Self::PrincipalMissing
            | Self::Unbound
            | Self::WrongPool
            | Self::KeyRemoved
            | Self::UnknownCoordinate
            | Self::Undiscovered
            | Self::UnknownKey
            | Self::Unpinned
            | Self::UnpinnedMessage
            | Self::NoBackend
            | Self::SessionsFull
            | Self::PrincipalSessionsFull => false,
        }
    }
}
