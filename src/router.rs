//! Where a request goes: its kind and one routing table give a decision or a refusal.
//!
//! Second of the six phases of a request, and the only place with routing rules (design, section 3, the
//! table). Pure: the table, the random number and the time are arguments. What a refusal is answered
//! with is `proxy::error`'s business.

pub mod affinity;
pub mod asker;
pub mod carriers;
pub mod membership;
pub mod placement;
pub mod table;
pub mod unknown;

#[cfg(test)]
pub(crate) mod testing;

use crate::{
    config::{OnLoss, Unpinned},
    health::Vital,
    mcp::{
        Modern, RequestKind,
        endpoint::PinnedQuery,
        session::{ClientSessionId, ServerSessionId},
    },
    observe::word::Route,
    pin::{Kind, Pin},
    ring::{Coordinate, Member, hash},
    router::{
        asker::Asker,
        placement::SessionLimit,
        table::{Entry, Pool, RoutingTable},
    },
};

/// Why a backend was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A pin names it.
    Pinned,
    /// A carrier in its body names it.
    Carrier,
    /// Its backend is lost, and this is the ring's next one: see [`OnLoss::Successor`].
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

/// Where a session is whose handshake was repeated: see [`OnLoss::Reinitialize`].
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

/// Decides where a request of `asker` to `pool` goes. `random` is any number, a new one for each request.
///
/// # Errors
///
/// When it goes nowhere.
pub fn route(
    table: &RoutingTable,
    pool: &Pool,
    asker: &Asker,
    kind: &RequestKind,
    random: u64,
) -> Result<Decision, Refusal> {
    match kind {
        RequestKind::Session(id) => session(table, pool, asker, id),
        RequestKind::Endpoint(query) => endpoint(table, pool, asker, query),
        RequestKind::Modern(request) => modern(table, pool, asker, request, random),
        RequestKind::NewWork => place(pool, random, &[], table.limits.sessions_per_backend),
        RequestKind::Other => home(pool, &[]),
    }
}

/// Decides where a request goes that `earlier` could not be delivered to, nor to the others in `tried`.
///
/// # Errors
///
/// When nobody is left, or the request may not move.
pub fn reroute(
    pool: &Pool,
    earlier: &Decision,
    random: u64,
    tried: &[Member],
) -> Result<Decision, Refusal> {
    match earlier.why {
        Why::Placed => place(pool, random, tried, earlier.limit),
        Why::Affinity(position) => by_affinity(pool, position, tried),
        Why::Home => home(pool, tried),
        Why::Pinned | Why::Carrier | Why::Successor | Why::Reinitialized | Why::Ring => {
            Err(Refusal::NoBackend)
        }
    }
}

/// Decides where a request goes whose session has moved. What it moved to is lost as any backend is.
///
/// # Errors
///
/// When it goes nowhere. The session's pin must still verify, for the one who asks.
pub fn follow(
    table: &RoutingTable,
    pool: &Pool,
    asker: &Asker,
    id: &ClientSessionId,
    moved: &Moved,
) -> Result<Decision, Refusal> {
    let pin = Pin::parse(Kind::Session, id.as_bytes()).ok_or(Refusal::Unpinned)?;
    asker.verify(table, pool, &pin)?;
    Ok(to_moved(locate(table, pool, moved.coordinate)?, moved))
}

/// Decides where a request goes whose session has just moved, while it waited: the backend has answered since,
/// whatever an older `table` says of its health.
///
/// # Errors
///
/// When it goes nowhere. The session's pin must still verify, for the one who asks.
pub fn arrive(
    table: &RoutingTable,
    pool: &Pool,
    asker: &Asker,
    id: &ClientSessionId,
    moved: &Moved,
) -> Result<Decision, Refusal> {
    match (
        follow(table, pool, asker, id, moved),
        pool.exact(moved.coordinate),
    ) {
        (Err(Refusal::BackendDown), Some(member)) => Ok(to_moved(member, moved)),
        (decision, _) => decision,
    }
}

fn to_moved(member: Member, moved: &Moved) -> Decision {
    Decision {
        member,
        why: Why::Reinitialized,
        session: Some(moved.session.clone()),
        limit: None,
    }
}

/// Whether the session may have moved without this process having done it: its pin is genuine, and its
/// backend is, or was at some time, lost or unknown here.
#[must_use]
pub fn may_have_moved(
    table: &RoutingTable,
    pool: &Pool,
    asker: &Asker,
    id: &ClientSessionId,
) -> bool {
    let Some(pin) = Pin::parse(Kind::Session, id.as_bytes()) else {
        return false;
    };
    let was_lost = |member: Member| pool.entry(member).was_lost;
    locate(table, pool, pin.coordinate).map_or(true, was_lost)
        && asker.verify(table, pool, &pin).is_ok()
}

fn session(
    table: &RoutingTable,
    pool: &Pool,
    asker: &Asker,
    id: &ClientSessionId,
) -> Result<Decision, Refusal> {
    if let Some(decision) = pinned(table, pool, asker, id)? {
        return Ok(decision);
    }
    match pool.options.unpinned {
        Unpinned::Reject => Err(Refusal::Unpinned),
        Unpinned::Ring => {
            // A pin would make room for more: without one, no backend can have issued an id that long.
            let session = ServerSessionId::try_from(id.clone().into_value());
            let session = session.map_err(|_| Refusal::Unpinned)?;
            let position = hash::position(id.as_bytes());
            // With half of the list, it would be another's.
            let owner = pool.unpinned_owner(position);
            let owner = owner.filter(|_| !pool.options.undiscovered);
            let member = owner.ok_or_else(|| nobody(pool))?;
            let (member, why) = match loss_of(pool.entry(member)) {
                Some(lost) => (instead(pool, position, lost)?, Why::Successor),
                None => (member, Why::Ring),
            };
            Ok(Decision {
                member,
                why,
                session: Some(session),
                limit: None,
            })
        }
    }
}

fn modern(
    table: &RoutingTable,
    pool: &Pool,
    asker: &Asker,
    request: &Modern,
    random: u64,
) -> Result<Decision, Refusal> {
    // An id never costs a modern request its answer: servers are to ignore it. Where its backend is
    // lost, it goes along nowhere.
    let id = request.session.as_ref();
    let session = id
        .and_then(|id| pinned(table, pool, asker, id).ok().flatten())
        .filter(|decision| decision.why == Why::Pinned);
    if let Some(member) = carriers::route(table, pool, asker, &request.carriers)? {
        let session = session.filter(|decision| decision.member == member);
        return Ok(Decision {
            member,
            why: Why::Carrier,
            session: session.and_then(|decision| decision.session),
            limit: None,
        });
    }
    match (session, request.affinity) {
        (Some(decision), _) => Ok(decision),
        (None, Some(position)) => by_affinity(pool, Coordinate(position), &[]),
        (None, None) => place(pool, random, &[], None),
    }
}

/// Routes by the id's pin; `None` if it has none.
fn pinned(
    table: &RoutingTable,
    pool: &Pool,
    asker: &Asker,
    id: &ClientSessionId,
) -> Result<Option<Decision>, Refusal> {
    let Some(pin) = Pin::parse(Kind::Session, id.as_bytes()) else {
        return Ok(None);
    };
    let (member, why) = by_pin(table, pool, asker, &pin)?;
    // A part of a valid id is one too: the shape leaves at least one byte.
    let session = http::HeaderValue::from_bytes(pin.string)
        .ok()
        .and_then(|value| value.try_into().ok());
    Ok(Some(Decision {
        member,
        why,
        session,
        limit: None,
    }))
}

/// Routes by the pin in the query of an `endpoint` URL.
fn endpoint(
    table: &RoutingTable,
    pool: &Pool,
    asker: &Asker,
    query: &PinnedQuery,
) -> Result<Decision, Refusal> {
    let (own, pin) = (query.own().as_bytes(), query.pin().as_bytes());
    let pin = Pin::parse_encoded(Kind::Endpoint, own, pin).ok_or(Refusal::Forged)?;
    let (member, why) = by_pin(table, pool, asker, &pin)?;
    Ok(Decision {
        member,
        why,
        session: None,
        limit: None,
    })
}

/// The backend that a pin leads to, once it has been verified.
fn by_pin(
    table: &RoutingTable,
    pool: &Pool,
    asker: &Asker,
    pin: &Pin<'_>,
) -> Result<(Member, Why), Refusal> {
    asker.verify(table, pool, pin)?;
    match locate(table, pool, pin.coordinate) {
        Ok(member) => Ok((member, Why::Pinned)),
        Err(lost) if lost.is_loss() => Ok((instead(pool, pin.coordinate, lost)?, Why::Successor)),
        Err(refusal) => Err(refusal),
    }
}

/// Who serves a session whose backend is lost, if anybody does.
fn instead(pool: &Pool, position: Coordinate, lost: Refusal) -> Result<Member, Refusal> {
    match pool.options.on_loss {
        OnLoss::NotFound | OnLoss::Reinitialize => Err(lost),
        OnLoss::Successor => pool.successor(position, &[]).ok_or_else(|| nobody(pool)),
    }
}

/// Why what a backend held is lost, if it is.
fn loss_of(entry: &Entry) -> Option<Refusal> {
    match entry.vital {
        _ if entry.drained => Some(Refusal::BackendRemoved),
        Vital::Lost => Some(Refusal::BackendDown),
        Vital::Healthy | Vital::Suspect => None,
    }
}

/// What would become of a carrier that came now, as far as that can be told without the request that it comes with.
///
/// # Errors
///
/// Where a request with it would be refused, or, of a request state or task, be placed as if it had none.
pub fn foresee(table: &RoutingTable, pool: &Pool, pin: &Pin<'_>) -> Result<(Member, Why), Refusal> {
    let asker = match pool.options.bind {
        None => Asker::Anybody,
        Some(_) => Asker::Nobody,
    };
    match (by_pin(table, pool, &asker, pin), asker) {
        // It is somebody's, who alone could make it.
        (Err(Refusal::PrincipalMissing), Asker::Nobody) => {
            match locate(table, pool, pin.coordinate) {
                Ok(member) => Ok((member, Why::Pinned)),
                Err(lost) if lost.is_loss() => {
                    Ok((instead(pool, pin.coordinate, lost)?, Why::Successor))
                }
                Err(refusal) => Err(refusal),
            }
        }
        (foreseen, _) => foreseen,
    }
}

/// The backend whose virtual node this is, by exact match: never a successor, which would answer for a session
/// that it does not know.
fn locate(table: &RoutingTable, pool: &Pool, coordinate: Coordinate) -> Result<Member, Refusal> {
    if let Some(member) = pool.exact(coordinate) {
        return loss_of(pool.entry(member)).map_or(Ok(member), Err);
    }
    if pool.has_lost(coordinate) {
        return Err(Refusal::BackendRemoved);
    }
    let elsewhere = table
        .pools
        .iter()
        .any(|other| other.exact(coordinate).is_some());
    Err(if elsewhere {
        Refusal::WrongPool
    } else if pool.options.undiscovered {
        Refusal::Undiscovered // which says nothing about the pin
    } else {
        Refusal::UnknownCoordinate
    })
}

/// Why nobody takes work.
fn nobody(pool: &Pool) -> Refusal {
    if pool.options.undiscovered {
        Refusal::Undiscovered
    } else {
        Refusal::NoBackend
    }
}

/// Places new work, at none of `tried`, and where there is room for a session if `limit` asks for that.
///
/// # Errors
///
/// When nobody else takes any.
pub fn place(
    pool: &Pool,
    random: u64,
    tried: &[Member],
    limit: SessionLimit,
) -> Result<Decision, Refusal> {
    let candidates = pool.candidates();
    let local = pool.local().two_choices(random, tried, limit);
    let Some(member) = local.or_else(|| candidates.two_choices(random, tried, limit)) else {
        return Err(if candidates.has_untried(tried) {
            Refusal::SessionsFull
        } else {
            nobody(pool)
        });
    };
    Ok(Decision {
        member,
        why: Why::Placed,
        session: None,
        limit,
    })
}

fn by_affinity(pool: &Pool, position: Coordinate, tried: &[Member]) -> Result<Decision, Refusal> {
    let member = pool
        .successor(position, tried)
        .ok_or_else(|| nobody(pool))?;
    Ok(Decision {
        member,
        why: Why::Affinity(position),
        session: None,
        limit: None,
    })
}

fn home(pool: &Pool, tried: &[Member]) -> Result<Decision, Refusal> {
    let member = pool.home(tried).ok_or_else(|| nobody(pool))?;
    Ok(Decision {
        member,
        why: Why::Home,
        session: None,
        limit: None,
    })
}

#[cfg(test)]
mod tests;
