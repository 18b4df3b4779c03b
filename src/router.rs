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

mod decision;

#[cfg(test)]
pub(crate) mod testing;

pub use self::decision::{Decision, Moved, Refusal, Why};

use crate::{
    config::{OnLoss, Unpinned},
    health::Vital,
    mcp::{
        Modern, RequestKind,
        endpoint::PinnedQuery,
        session::{ClientSessionId, ServerSessionId},
    },
    pin::{Kind, Pin},
    ring::{Coordinate, Member, hash},
    router::{
        asker::Asker,
        placement::SessionLimit,
        table::{Entry, Pool, RoutingTable},
    },
};

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
