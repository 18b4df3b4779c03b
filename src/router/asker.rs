//! Who asks, where a pool binds sessions to principals, and what that means for pins.
//!
//! Design, section 6, "Session binding". What of a request tells who makes it is the business of `identity`.

use std::fmt;

use http::HeaderMap;

use super::{
    Refusal,
    table::{Pool, RoutingTable},
};
use crate::{
    identity::trusted::Client,
    pin::{Binding, Kind, Pin, Verdict},
};

/// Who makes a request to a pool.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The pool binds nothing: it does not matter.
    Anybody,
    /// It does, and the request does not tell.
    Nobody,
    /// The principal with this digest.
    Principal(Binding),
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anybody => "Anybody",
            Self::Nobody => "Nobody",
            Self::Principal(_) => "Principal(…)",
        })
    }
}

impl Asker {
    /// Who makes the request with these headers, of `client`, to `pool`.
    #[must_use]
    pub fn of(pool: &Pool, headers: &HeaderMap, client: Client) -> Self {
        match &pool.options.bind {
            None => Self::Anybody,
            Some(source) => source
                .binding(headers, client)
                .map_or(Self::Nobody, Self::Principal),
        }
    }

    /// What is to be pinned for it is bound to this.
    #[must_use]
    pub fn binding(&self) -> Option<&Binding> {
        match self {
            Self::Anybody | Self::Nobody => None,
            Self::Principal(binding) => Some(binding),
        }
    }

    /// Whether the pin is genuine, and good for this one.
    ///
    /// What 2026-07-28 has in bodies has no login of its own: what nobody in particular was given is good for nobody
    /// in particular. A session is somebody's.
    ///
    /// # Errors
    ///
    /// When it is not, or nobody can tell.
    pub(super) fn verify(
        self,
        table: &RoutingTable,
        pool: &Pool,
        pin: &Pin<'_>,
    ) -> Result<(), Refusal> {
        let verdict = table.keys.verify(pin, self.binding());
        let accepts_unbound = pool.options.accept_unbound;
        let is_session = match pin.kind {
            Kind::Session | Kind::Endpoint => true,
            Kind::RequestState | Kind::Task => false,
        };
        match (verdict, self) {
            (Verdict::UnknownKey, _) if table.has_retired(pin.key) => Err(Refusal::KeyRemoved),
            (Verdict::UnknownKey, _) => Err(Refusal::UnknownKey),
            (Verdict::Good, Self::Nobody) if is_session && !accepts_unbound => {
                Err(Refusal::Unbound)
            }
            (Verdict::Good, _) => Ok(()),
            (Verdict::Forged, Self::Anybody) => Err(Refusal::Forged),
            (Verdict::Forged, Self::Nobody) => Err(Refusal::PrincipalMissing),
            (Verdict::Forged, Self::Principal(_)) => match table.keys.verify(pin, None) {
                Verdict::Good if accepts_unbound => Ok(()),
                Verdict::Good => Err(Refusal::Unbound),
                Verdict::Forged | Verdict::UnknownKey => Err(Refusal::OtherPrincipal),
            },
        }
    }
}
