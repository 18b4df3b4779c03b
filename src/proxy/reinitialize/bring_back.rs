//! Brings a lost session back: under a lease, by its recorded handshake, at a backend that takes new work.

use std::{sync::Arc, time::Duration};

use super::{
    flights::{Flight, Landed},
    handshake::Opened,
    renewal::Renewal,
};
use crate::{
    health::Vital,
    mcp::session::ServerSessionId,
    net,
    proxy::deliver::Delivered,
    ring::{Coordinate, Member},
    router::{self, Moved},
    sessions::store::{Found, Handshake, Lease},
};

/// For one handshake at one backend.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Backends that are tried.
const ATTEMPTS: usize = 2;

/// How long a request waits for the handshake of another proxy, and how often it looks. A lease is as long.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What came of an attempt to bring the session back.
pub(super) enum Brought {
    Landed(Landed),
    /// The new server wants to know first who asks.
    Denied(Box<Delivered>),
}

impl Renewal<'_> {
    /// Brings the session back, or waits for who does so already.
    pub(super) async fn bring_back(&self) -> Brought {
        loop {
            match self.proxy.renewals.flights.join(self.key) {
                Flight::Leads(lead) => {
                    let brought = self.lead().await;
                    if let Brought::Landed(landed) = &brought {
                        lead.land(landed.clone());
                    } // else the next one may ask with better credentials
                    return brought;
                }
                Flight::Waits(waits) => match waits.landed().await {
                    Some(Landed::At(moved)) if self.has_followed(&moved) => {}
                    Some(landed) => return Brought::Landed(landed),
                    None => {}
                },
            }
        }
    }

    /// Brings the session back, unless another proxy does or has done so.
    async fn lead(&self) -> Brought {
        let give_up = net::now() + WAIT_FOR_OTHERS;
        loop {
            // In this order: what is found then is what the last holder of the lease left.
            let lease = match self.store().lease(&self.key).await {
                Ok(lease) => lease,
                Err(away) => return Brought::Landed(self.without_store(away)),
            };
            let Found { handshake, moved } = match self.store().find(&self.key).await {
                Ok(found) => found,
                Err(away) => return Brought::Landed(self.without_store(away)),
            };
            if let Some(moved) = moved.as_ref().filter(|moved| self.is_news(moved)) {
                return Brought::Landed(Landed::At(Arc::clone(moved)));
            }
            let Some(handshake) = handshake else {
                return Brought::Landed(Landed::Gone);
            };
            match lease {
                Some(lease) => return self.repeat(lease, &handshake, moved.as_deref()).await,
                None if net::now() >= give_up => return Brought::Landed(Landed::Unavailable),
                None => net::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Repeats the handshake, at another backend if the first fails. `moved` is where the session was, if it was
    /// not where its pin says.
    async fn repeat(&self, lease: Lease, handshake: &Handshake, moved: Option<&Moved>) -> Brought {
        let from = moved.map_or_else(|| self.pinned_to(), |moved| Some(moved.coordinate));
        let mut tried = Vec::from_iter(from.and_then(|from| self.lost_member(from)));
        for _ in 0..ATTEMPTS {
            let random = self.proxy.random.borrow_mut().u64(..);
            let limit = self.table.limits.sessions_per_backend;
            let Ok(decision) = router::place(self.pool, random, &tried, limit) else {
                break;
            };
            tried.push(decision.member);
            let opened = net::within(HANDSHAKE_TIME, self.open(decision, handshake)).await;
            match opened.unwrap_or(Opened::Failed) {
                Opened::Session(member, session) => {
                    let landed = self.settle(lease, from, member, session).await;
                    return Brought::Landed(landed);
                }
                Opened::Denied(denied) => return Brought::Denied(denied),
                Opened::Rejected => return Brought::Landed(Landed::Gone),
                Opened::Failed => {}
            }
        }
        Brought::Landed(Landed::Unavailable)
    }

    /// Writes down where the session is now.
    async fn settle(
        &self,
        lease: Lease,
        from: Option<Coordinate>,
        member: Member,
        session: ServerSessionId,
    ) -> Landed {
        let moved = Moved {
            coordinate: self.pool.coordinate_for(member, session.as_bytes()),
            session,
        };
        let moved = match lease.moved(moved).await {
            Ok(Some(moved)) => moved,
            Ok(None) => {
                // It was ended meanwhile, or our lease had run out, and another proxy was as slow.
                return match self.store().find(&self.key).await {
                    Ok(found) => found.moved.map_or(Landed::Gone, Landed::At),
                    Err(away) => self.without_store(away),
                };
            }
            Err(away) => return self.without_store(away),
        };
        let entry = self.pool.entry(member);
        self.proxy.renewals.count();
        let from = from.and_then(|from| self.pool.name_at(from));
        tracing::info!(
            session = %self.table.keys.log_hash(self.own()),
            from = from.map(tracing::field::display),
            to = %entry.backend.name,
            "session reinitialized: its server has forgotten all but the handshake"
        );
        Landed::At(moved)
    }

    fn pinned_to(&self) -> Option<Coordinate> {
        self.pin().map(|pin| pin.coordinate)
    }

    /// The backend at this place, if it is lost and still known.
    fn lost_member(&self, at: Coordinate) -> Option<Member> {
        let member = self.pool.exact(at)?;
        (self.pool.entry(member).vital == Vital::Lost).then_some(member)
    }
}
