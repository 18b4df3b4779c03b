//! Makes a client's request what its backend is to see.
//!
//! Third of the six phases. It cannot fail.

use http::{HeaderValue, header, request};

use super::{
    Asked, Proxy,
    body::{Kept, Passing, RequestBody},
    classify::Classified,
    deliver::Delivery,
    headers::{self, Forwarded},
};
use crate::{
    incoming::Incoming,
    mcp::RequestKind,
    net::Deadline,
    observe::Exchange,
    router::{
        Decision, Why,
        table::{Pool, RoutingTable},
    },
};

impl Classified {
    /// Rewrites its head for the backend that was decided for.
    pub(super) fn rewrite(
        &self,
        pool: &Pool,
        head: &mut request::Parts,
        decision: &Decision,
        forwarded: Forwarded<'_>,
    ) {
        if let Some(query) = &self.asked.endpoint {
            headers::set_query(head, query.own());
        }
        if self.asked.may_open.is_some() && self.kind == RequestKind::NewWork {
            // What is compressed cannot be pinned.
            let identity = HeaderValue::from_static("identity");
            head.headers.insert(header::ACCEPT_ENCODING, identity);
        }
        let strip = pool.options.strip_prefix.as_ref();
        let session = decision.session.clone();
        headers::to_backend(head, &self.scan, forwarded, strip, session);
    }

    /// Tells the log which session the request goes to.
    pub(super) fn note_decision(
        &self,
        table: &RoutingTable,
        decision: &Decision,
        exchange: &Exchange,
    ) {
        if decision.why == Why::Reinitialized {
            self.note_session(table, exchange); // under the same hash as before
        }
        if let Some(session) = &decision.session {
            exchange.session(|| table.keys.log_hash(session.as_bytes()).to_string());
        }
        if let Some(query) = &self.asked.endpoint {
            exchange.session(|| table.keys.log_hash(query.own().as_bytes()).to_string());
        }
    }
}

impl Delivery<'_> {
    /// The body on its way to the backend, and into `kept`, if that is wanted.
    pub(super) fn passing(&self, body: &mut Option<Incoming>, kept: Option<Kept>) -> RequestBody {
        let head = (self.asked, self.head);
        let passing = self
            .proxy
            .passing(self.table, body, head, self.exchange, kept);
        RequestBody::Passing(passing)
    }
}

impl Proxy {
    /// The body on its way to the backend, and into `kept`, if that is wanted.
    pub(super) fn passing(
        &self,
        table: &RoutingTable,
        body: &mut Option<Incoming>,
        (asked, head): (&Asked, &Deadline),
        exchange: &Exchange,
        kept: Option<Kept>,
    ) -> Passing {
        let incoming = body.take().expect("a request is forwarded once");
        let (idle, head_limit) = (table.timeouts.request_body_idle, asked.head_limit(table));
        let head = (head.handle(), head_limit);
        Passing::new(
            incoming,
            exchange.clone(),
            idle,
            self.ticker.clone(),
            head,
            kept,
        )
    }
}
