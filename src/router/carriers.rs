//! Carriers in bodies: which backend each names, and what is the backend's own of it.
//!
//! Design, section 3, "Carriers in bodies". A bad one is not refused, as a session id is: it goes to whoever takes
//! the request, for a modern client takes a 404 without a known body for an older server.

use super::{Refusal, asker::Asker, locate, table::Pool, table::RoutingTable};
use crate::{
    mcp::{modern::Carried, splice::Carrier},
    pin::{Kind, Pin},
    ring::Member,
};

/// What a string that may have a pin says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// Its backend is this one.
    Here(Member),
    /// It was genuine, and what made it is gone: others may take it, or refuse it themselves.
    Lost,
    /// Nobody here can tell yet.
    Unknown(Refusal),
    /// It has no pin, or one that is not good.
    Nothing,
}

/// A string, judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged<'a> {
    /// What it says.
    pub says: Says,
    /// The backend's own string, as far as the shape tells.
    pub own: &'a str,
}

/// Judges a string that a client sent.
#[must_use]
pub fn judge<'a>(
    table: &RoutingTable,
    pool: &Pool,
    asker: &Asker,
    carrier: Carrier,
    string: &'a str,
) -> Judged<'a> {
    let nothing = Judged {
        says: Says::Nothing,
        own: string,
    };
    let Some(pin) = Pin::parse(kind(carrier), string.as_bytes()) else {
        return nothing;
    };
    let Some(own) = string.get(..pin.string.len()) else {
        return nothing;
    };
    let located = asker
        .verify(table, pool, &pin)
        .and_then(|()| locate(table, pool, pin.coordinate));
    let says = match located {
        Ok(member) => Says::Here(member),
        Err(Refusal::BackendRemoved | Refusal::BackendDown | Refusal::KeyRemoved) => Says::Lost,
        Err(
            refusal @ (Refusal::UnknownCoordinate | Refusal::Undiscovered | Refusal::UnknownKey),
        ) => Says::Unknown(refusal),
        Err(
            Refusal::Forged
            | Refusal::OtherPrincipal
            | Refusal::PrincipalMissing
            | Refusal::Unbound
            | Refusal::WrongPool
            | Refusal::Unpinned
            | Refusal::UnpinnedMessage
            | Refusal::NoBackend
            | Refusal::SessionsFull
            | Refusal::PrincipalSessionsFull,
        ) => Says::Nothing,
    };
    Judged { says, own }
}

/// The pins of a kind of carrier.
#[must_use]
pub fn kind(carrier: Carrier) -> Kind {
    match carrier {
        Carrier::RequestState => Kind::RequestState,
        Carrier::Task => Kind::Task,
    }
}

/// The backend of the first that names one; `None` if none does.
///
/// # Errors
///
/// When none does, and one may do so soon.
pub(super) fn route(
    table: &RoutingTable,
    pool: &Pool,
    asker: &Asker,
    carriers: &[Carried],
) -> Result<Option<Member>, Refusal> {
    let mut unknown = None;
    for carried in carriers {
        match judge(table, pool, asker, carried.carrier, &carried.string).says {
            Says::Here(member) => return Ok(Some(member)),
            Says::Unknown(refusal) => unknown = unknown.or(Some(refusal)),
            Says::Lost | Says::Nothing => {}
        }
    }
    unknown.map_or(Ok(None), Err)
}

/// The first that nobody here can judge yet.
#[must_use]
pub fn first_unknown<'a>(
    table: &RoutingTable,
    pool: &Pool,
    asker: &Asker,
    carriers: &'a [Carried],
) -> Option<&'a Carried> {
    carriers.iter().find(|carried| {
        let judged = judge(table, pool, asker, carried.carrier, &carried.string);
        matches!(judged.says, Says::Unknown(_))
    })
}
