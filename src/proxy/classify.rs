//! Finds out what a request is, and what of it tells where it belongs.
//!
//! First of the six phases. From here on a refusal says which header is at fault.

use http::request;
use hyper::body::Incoming;

use super::{Asked, Proxy, carriers::Carrying, error::ProxyError, headers, route::pool_of};
use crate::{
    identity::trusted::Client,
    mcp::{self, RequestKind},
    net::Deadline,
    observe::Exchange,
    pin::{Kind, Pin},
    router::{
        self,
        asker::Asker,
        table::{Pool, RoutingTable},
    },
};

/// A request as it came. It has one place in the future of a request, so each phase borrows it.
pub(super) struct Arrival {
    pub(super) head: request::Parts,
    /// Until somebody reads it.
    pub(super) body: Option<Incoming>,
    pub(super) client: Client,
    pub(super) exchange: Exchange,
    /// The client sends nothing until the body is asked for.
    pub(super) waits_for_continue: bool,
}

impl Arrival {
    /// Who makes it, as far as `pool` binds sessions.
    pub(super) fn asker(&self, pool: &Pool) -> Asker {
        Asker::of(pool, &self.head.headers, self.client)
    }
}

/// What a request was found to be.
pub(super) struct Classified {
    pub(super) kind: RequestKind,
    pub(super) asked: Asked,
    pub(super) scan: headers::Scan,
    /// Expires when the backend should have begun to answer.
    pub(super) head_deadline: Deadline,
}

impl Proxy {
    /// Classifies a request by its head.
    ///
    /// # Errors
    ///
    /// When its head is too large, ambiguous, or contradicts itself.
    pub(super) fn classify(
        &self,
        table: &RoutingTable,
        arrival: &Arrival,
    ) -> Result<Classified, ProxyError> {
        let head = &arrival.head;
        headers::check_size(head, &table.limits)?;
        let scan = headers::scan(head, arrival.client.by_trusted)?;
        if scan.drops_scheme() {
            self.alarms.dropped_scheme(arrival.client);
        }
        let kind = mcp::classify(head)?;
        Ok(Classified {
            asked: Asked::of(head, &kind, table, arrival.client),
            kind,
            scan,
            head_deadline: self.ticker.deadline(),
        })
    }

    /// Finds out what more tells where a request of the modern era belongs: its pool's own keys, and what its body
    /// carries.
    ///
    /// # Errors
    ///
    /// When its body breaks off.
    pub(super) async fn read(
        &self,
        table: &RoutingTable,
        arrival: &mut Arrival,
        classified: &mut Classified,
    ) -> Result<Option<Box<Carrying>>, ProxyError> {
        let Classified {
            kind: RequestKind::Modern(modern),
            asked,
            head_deadline,
            ..
        } = classified
        else {
            return Ok(None);
        };
        let Arrival {
            head,
            body,
            client,
            exchange,
            ..
        } = arrival;
        let pool = pool_of(table, head).ok(); // that there is none is refused when it is routed
        modern.affinity = pool.and_then(|pool| affinity(pool, head, *client));
        let passing = || self.passing(table, body, (asked, head_deadline), exchange, None);
        let most = table.limits.body_bytes;
        Ok(Carrying::of(modern, pool, &head.headers, most, passing).await?)
    }
}

impl Classified {
    /// Tells the log which session was asked for: under the same hash as when it was served.
    pub(super) fn note_session(&self, table: &RoutingTable, exchange: &Exchange) {
        let own = match &self.kind {
            RequestKind::Session(id) => {
                let pin = Pin::parse(Kind::Session, id.as_bytes());
                pin.map_or(id.as_bytes(), |pin| pin.string)
            }
            RequestKind::Endpoint(query) => query.own().as_bytes(),
            RequestKind::Modern(_) | RequestKind::NewWork | RequestKind::Other => return,
        };
        exchange.session(|| table.keys.log_hash(own).to_string());
    }
}

/// Where a request of the modern era belongs by the pool's own keys.
fn affinity(pool: &Pool, head: &request::Parts, client: Client) -> Option<u64> {
    let keys = &pool.options.stateless_affinity;
    let position = router::affinity::position(keys, &head.headers, client)?;
    Some(position.0)
}
