//! Finds out what a request is, and what of it tells where it belongs.
//!
//! First of the six phases. From here on a refusal says which header is at fault.

use http::{Response, request};

use super::{
    Asked, MessageId, Proxy, Replaced,
    body::{self, Answer},
    carriers::Carrying,
    cors::{self, ForeignOrigin, Page},
    error::ProxyError,
    headers::{self, Seen},
    route::pool_of,
};
use crate::{
    identity::{Source, trusted::Client},
    incoming::Incoming,
    limits::Limit,
    mcp::{self, RequestKind},
    net::Deadline,
    observe::{Exchange, Outcome},
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
    /// What its headers were when it came.
    pub(super) seen: Seen,
    /// Until somebody reads it.
    pub(super) body: Option<Incoming>,
    pub(super) client: Client,
    /// Once it is known where it is. Boxed: the place is in the future of each request.
    pub(super) message_id: Option<Box<MessageId>>,
    /// Where pages of other origins are told what they may. Boxed: mostly they are not.
    pub(super) page: Option<Box<Page>>,
    /// The trace context that it goes on with, where the head has not that. Boxed, as what is before it.
    pub(super) context: Option<Box<Replaced>>,
    pub(super) exchange: Exchange,
}

impl Arrival {
    /// Whether its client sends nothing of the body until that is asked for: it waits for 100-continue.
    pub(super) fn waits_for_continue(&self) -> bool {
        self.seen.has(Seen::EXPECT)
    }

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

impl Classified {
    /// What says who asks is believed of trusted proxies alone, here and at the backend.
    pub(super) fn doubt_names(&mut self, table: &RoutingTable, pool: &Pool) {
        let counted = table.limits.sessions_per_principal.as_ref();
        for source in [pool.options.bind.as_ref(), counted.map(|limit| &limit.by)] {
            if let Some(Source::Header(name)) = source {
                self.scan.names_principal(name);
            }
        }
    }
}

impl Proxy {
    /// Classifies a request by its head.
    ///
    /// # Errors
    ///
    /// When its head is too large, ambiguous, or contradicts itself, or it comes from a page that may not ask.
    pub(super) fn classify(
        &self,
        table: &RoutingTable,
        arrival: &Arrival,
    ) -> Result<Classified, ProxyError> {
        let head = &arrival.head;
        headers::check_size(head, &table.limits)?;
        let scan = headers::scan(head, arrival.seen, arrival.client.by_trusted)?;
        if scan.drops_scheme() {
            self.alarms.dropped_scheme(arrival.client);
        }
        if arrival.seen.has(Seen::ORIGIN) {
            cors::check_origin(&head.headers, &table.allowed_origins)?;
        }
        let kind = mcp::classify(head)?;
        Ok(Classified {
            asked: Asked::of(arrival, &kind, table),
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
    /// When its body breaks off, or there is no room for it.
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
            message_id,
            exchange,
            ..
        } = arrival;
        let pool = pool_of(table, head).ok(); // that there is none is refused when it is routed
        modern.affinity = pool.and_then(|pool| affinity(pool, head, *client));
        let passing = || self.passing(table, body, (asked, head_deadline), exchange, None);
        let budget = self.bodies.up_to(table.limits.body_bytes_total);
        let limits = (table.limits.body_bytes, budget);
        let carrying = Carrying::of(modern, pool, &head.headers, limits, passing).await?;
        if let Some(carrying) = &carrying {
            *message_id = carrying.message_id();
            if carrying.is_unread() {
                self.reached.count(Limit::BodyBytes);
            }
        }
        Ok(carrying)
    }
}

impl Arrival {
    /// Answers a browser that asks what a page may send, unless that is left to the backends.
    ///
    /// # Errors
    ///
    /// When the page may not read answers.
    pub(super) fn preflight(&mut self) -> Result<Option<Response<Answer>>, ForeignOrigin> {
        let Some(page) = &self.page else {
            return Ok(None);
        };
        let Some(response) = page.preflight(&self.head)? else {
            return Ok(None);
        };
        if let Some(unread) = self.body.take() {
            body::discard(unread);
        }
        let exchange = self.exchange.clone();
        exchange.answered_here(response.status(), None);
        exchange.end(Outcome::Complete);
        Ok(Some(response.map(|()| Answer::Own(None, exchange))))
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
