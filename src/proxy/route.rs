//! Finds where a request goes, and waits a little where the table may be about to learn what its pin names.
//!
//! Second of the six phases. The rules are the router's; here is what they cannot know: time, chance, other processes.

use std::time::Duration;

use http::{Method, request};
use hyper::body::Body as _;

use super::{
    Proxy,
    classify::{Arrival, Classified},
    error::ProxyError,
    headers,
};
use crate::{
    config::OnLoss,
    incoming::Incoming,
    mcp::{Modern, RequestKind, endpoint},
    net,
    router::{
        self, Decision, Moved, Refusal,
        asker::Asker,
        table::{Pool, RoutingTable, Snapshot},
    },
};

/// Between two warnings of requests without a pool, on one thread.
const WARN_AGAIN: Duration = Duration::from_secs(1);

impl Proxy {
    /// Routes, and waits a little where the table may be about to learn what the pin names.
    ///
    /// # Errors
    ///
    /// When there is no pool for it, or its pool's rules refuse it.
    pub(super) async fn route(
        &self,
        table: &mut Snapshot,
        arrival: &Arrival,
        classified: &mut Classified,
    ) -> Result<Decision, ProxyError> {
        let head = &arrival.head;
        let random = self.random.borrow_mut().u64(..);
        let pool = pool_of(table, head).inspect_err(|_| self.warn_of_no_pool(head))?;
        arrival.exchange.matched(&pool.options.name, &pool.traffic);
        classified.asked.asker = arrival.asker(pool);
        if binds(pool) && classified.is_unpinned_message(arrival) {
            return Err(ProxyError::Refused(Refusal::UnpinnedMessage));
        }
        let moved = match pool.options.on_loss {
            OnLoss::NotFound | OnLoss::Successor => None,
            OnLoss::Reinitialize => self.renewals.moved(table, pool, classified).await,
        };
        let (kind, asked) = (&classified.kind, &mut classified.asked);
        let decide = |table: &RoutingTable, pool: &Pool, asker: &Asker| {
            decide(table, pool, asker, kind, moved.as_deref(), random)
        };
        let refusal = match decide(table, pool, &asked.asker) {
            Ok(decision) => return Ok(decision),
            Err(refusal) => refusal,
        };
        let carrier = match kind {
            RequestKind::Session(id) => id.as_bytes(),
            RequestKind::Endpoint(query) => query.pin().as_bytes(),
            RequestKind::Modern(modern) => {
                let carriers = &modern.carriers;
                match router::carriers::first_unknown(table, pool, &asked.asker, carriers) {
                    Some(carried) => carried.string.as_bytes(),
                    None => return Err(ProxyError::Refused(refusal)),
                }
            }
            RequestKind::NewWork | RequestKind::Other => {
                return Err(ProxyError::Refused(refusal));
            }
        };
        let again = |table: &RoutingTable| {
            let pool = pool_of(table, head).ok()?;
            Some(decide(table, pool, &arrival.asker(pool)))
        };
        let grace = pool.options.unknown_grace;
        // Boxed: it is rare, and would be room in the future of every request.
        let judged = self
            .unknowns
            .judge(&self.tables, table, refusal, carrier, grace, again);
        let judged = Box::pin(judged).await;
        let pool = pool_of(table, head)?;
        asked.asker = arrival.asker(pool); // by now the table, and what the pool binds to, may be another
        match (judged, kind) {
            // It counts as lost, and what is lost is placed: never 404.
            (Err(ProxyError::StayedUnknown(_)), RequestKind::Modern(modern)) => {
                let others = RequestKind::Modern(Modern {
                    carriers: Vec::new(),
                    ..modern.clone()
                });
                router::route(table, pool, &asked.asker, &others, random)
                    .map_err(ProxyError::Refused)
            }
            (judged, _) => judged,
        }
    }

    /// The log's loud trace of a route that was forgotten in the configuration: once in a while, for whoever
    /// scans ports must not fill the log.
    fn warn_of_no_pool(&self, head: &request::Parts) {
        let now = net::now();
        if self
            .warned
            .get()
            .is_none_or(|last| now.saturating_duration_since(last) >= WARN_AGAIN)
        {
            self.warned.set(Some(now));
            tracing::warn!(
                host = headers::host_of(head),
                path = head.uri.path(),
                "a request matches no pool: see `match` of [[pools]]"
            );
        }
    }
}

impl Classified {
    /// Whether it is a message of HTTP+SSE to a URL without a pin, whatever else it is: a server that speaks that
    /// transport looks at the query alone, some of them for any method.
    fn is_unpinned_message(&self, arrival: &Arrival) -> bool {
        let is_pinned = matches!(self.kind, RequestKind::Endpoint(_));
        let query = arrival.head.uri.query().filter(|_| !is_pinned);
        let has_body =
            |body: &Option<Incoming>| body.as_ref().is_none_or(|body| !body.is_end_stream());
        query.is_some_and(endpoint::names_session)
            && (arrival.head.method == Method::POST || has_body(&arrival.body))
    }
}

/// Whether every session of the pool is to be somebody's.
fn binds(pool: &Pool) -> bool {
    pool.options.bind.is_some() && !pool.options.accept_unbound
}

/// Where the session has moved to comes before where its pin says.
fn decide(
    table: &RoutingTable,
    pool: &Pool,
    asker: &Asker,
    kind: &RequestKind,
    moved: Option<&Moved>,
    random: u64,
) -> Result<Decision, Refusal> {
    if let (RequestKind::Session(id), Some(moved)) = (kind, moved) {
        router::follow(table, pool, asker, id, moved)
    } else {
        router::route(table, pool, asker, kind, random)
    }
}

/// The pool that a request is for.
///
/// # Errors
///
/// When there is none.
pub(super) fn pool_of<'a>(
    table: &'a RoutingTable,
    head: &request::Parts,
) -> Result<&'a Pool, ProxyError> {
    table
        .pool_for(|| headers::host_of(head), head.uri.path())
        .ok_or(ProxyError::NoPool)
}
