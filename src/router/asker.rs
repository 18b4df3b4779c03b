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
#[derive(Clone, PartialEq, Eq)]
pub enum Asker {
    /// The pool binds nothing: it does not matter.
    Anybody,
    /// It does, and the request does not tell.
    Nobody,
    /// The principal with this digest. In a box: each request has room for it, and few pools bind.
    Principal(Box<Binding>),
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
                .map_or(Self::Nobody, |binding| Self::Principal(Box::new(binding))),
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
        &self,
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
            (Verdict::Good, _) => {
                table.verified.count(pin.key);
                Ok(())
            }
            (Verdict::Forged, Self::Anybody) => Err(Refusal::Forged),
            (Verdict::Forged, Self::Nobody) => Err(Refusal::PrincipalMissing),
            (Verdict::Forged, Self::Principal(_)) => match table.keys.verify(pin, None) {
                Verdict::Good if accepts_unbound => {
                    table.verified.count(pin.key);
                    Ok(())
                }
                Verdict::Good => Err(Refusal::Unbound),
                Verdict::Forged | Verdict::UnknownKey => Err(Refusal::OtherPrincipal),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        ring::Coordinate,
        router::{membership::Membership, testing::pool_of},
    };

    const ANN: Binding = [1; 32];
    const BOB: Binding = [2; 32];

    fn table(more: &str) -> RoutingTable {
        let lines = format!("[affinity]\nsecrets = [\"env:SECRET\"]\n{more}");
        let config = pool_of(&["a"], &lines);
        let mut membership = Membership::new();
        membership.update(&config, None, Instant::now());
        membership.table(&config)
    }

    /// What becomes of a pin of this kind and binding when `asker` comes with it.
    fn told(
        table: &RoutingTable,
        kind: Kind,
        bound: Option<Binding>,
        asker: &Asker,
    ) -> Result<(), Refusal> {
        let text = table.keys.mint(kind, Coordinate(7), bound.as_ref(), b"own");
        let pin = Pin::parse_encoded(kind, b"own", &text).unwrap();
        asker.verify(table, &table.pools[0], &pin)
    }

    #[test]
    fn a_session_is_good_for_its_principal_alone() {
        let strict = table("bind = \"jwt:sub\"");
        let lenient = table("bind = \"jwt:sub\"\naccept_unbound = true");
        let ann = &Asker::Principal(Box::new(ANN));
        for kind in [Kind::Session, Kind::Endpoint] {
            for table in [&strict, &lenient] {
                assert_eq!(told(table, kind, Some(ANN), ann), Ok(()));
                assert_eq!(
                    told(table, kind, Some(BOB), ann),
                    Err(Refusal::OtherPrincipal)
                );
                assert_eq!(
                    told(table, kind, Some(ANN), &Asker::Nobody),
                    Err(Refusal::PrincipalMissing)
                );
            }
            for asker in [ann, &Asker::Nobody] {
                assert_eq!(told(&strict, kind, None, asker), Err(Refusal::Unbound));
                assert_eq!(told(&lenient, kind, None, asker), Ok(()));
            }
        }
        let off = super::tests::table("");
        assert_eq!(told(&off, Kind::Session, None, &Asker::Anybody), Ok(()));
        assert_eq!(
            told(&off, Kind::Session, Some(ANN), &Asker::Anybody),
            Err(Refusal::Forged)
        );
    }

    #[test]
    fn what_bodies_carry_may_be_nobody_s() {
        let strict = table("bind = \"jwt:sub\"");
        for kind in [Kind::RequestState, Kind::Task] {
            assert_eq!(told(&strict, kind, None, &Asker::Nobody), Ok(()));
            assert_eq!(
                told(&strict, kind, Some(ANN), &Asker::Nobody),
                Err(Refusal::PrincipalMissing)
            );
            assert_eq!(
                told(&strict, kind, None, &Asker::Principal(Box::new(ANN))),
                Err(Refusal::Unbound)
            );
            assert_eq!(
                told(&strict, kind, Some(ANN), &Asker::Principal(Box::new(ANN))),
                Ok(())
            );
        }
    }

    #[test]
    fn a_pin_that_nobody_here_can_verify_is_not_called_somebody_else_s() {
        let here = table("bind = \"jwt:sub\"");
        let elsewhere =
            crate::pin::Keys::try_new(&[crate::pin::Secret::try_new(&[9; 32]).unwrap()]).unwrap();
        let text = elsewhere.mint(Kind::Session, Coordinate(7), Some(&ANN), b"own");
        let pin = Pin::parse_encoded(Kind::Session, b"own", &text).unwrap();
        for asker in [Asker::Nobody, Asker::Principal(Box::new(ANN))] {
            let told = asker.verify(&here, &here.pools[0], &pin);
            assert_eq!(told, Err(Refusal::UnknownKey));
        }
    }
}
