//! Brings a request to a backend: again, or to another one, only as long as none has seen it.
//!
//! Design, section 4: connect again before answering at all. What is found out about a backend's health
//! on the way is reported; the routing table says at the next request what follows.

use http::{Method, Request, Response};

use super::{
    Asked, Proxy,
    body::{self, RequestBody},
    error::{self, ProxyError},
    headers, options,
};
use crate::{
    health::{Observation, Vital, probe},
    mcp::Era,
    net::{self, Instant},
    observe::Exchange,
    ring::Member,
    router::{
        self, Decision,
        placement::InFlight,
        table::{Entry, Pool, RoutingTable},
    },
    upstream::{self, Failure, Options, Target, Unanswered},
};

/// Between two connects to a backend that refuses: it may be about to listen again.
const CONNECT_AGAIN: std::time::Duration = std::time::Duration::from_millis(100);

/// For a connect to one that is known to be down: a probe is at it already, and the client waits.
const CONNECT_TO_SUSPECT: std::time::Duration = std::time::Duration::from_millis(80);

/// A request that was answered.
pub(super) struct Delivered {
    /// By whom.
    pub(super) member: Member,
    /// Counts as work of that backend until it is dropped.
    pub(super) in_flight: InFlight,
    /// With what.
    pub(super) response: Response<upstream::Body<RequestBody>>,
}

impl Proxy {
    /// Sends `request` where `decision` says, or where it may go instead.
    pub(super) async fn deliver(
        &self,
        table: &RoutingTable,
        pool: &Pool,
        mut decision: Decision,
        mut request: Request<RequestBody>,
        asked: &Asked,
        exchange: &Exchange,
    ) -> Result<Delivered, ProxyError> {
        let mut tried = Vec::new();
        let patience = net::now() + table.timeouts.connect;
        loop {
            let entry = pool.entry(decision.member);
            let name = entry.backend.name.as_str();
            exchange.routed(name, decision.why.as_str());
            let failed = match self.attempt(table, pool, entry, request, asked).await {
                Ok((in_flight, response)) => {
                    return Ok(Delivered {
                        member: decision.member,
                        in_flight,
                        response,
                    });
                }
                Err(failed) => failed,
            };
            self.report(entry, &failed.failure, asked);
            exchange.failed(name, error::upstream(&failed.failure).reason);
            let Some(unsent) = failed.unsent else {
                return Err(failed.failure.into());
            };
            tried.push(decision.member);
            match self
                .next(pool, entry, &decision, &failed.failure, &tried, patience)
                .await
            {
                Some(next) => (decision, request) = (next, unsent),
                None => {
                    if !asked.waits_for_continue {
                        body::discard(unsent.into_body());
                    }
                    return Err(failed.failure.into());
                }
            }
        }
    }

    async fn attempt(
        &self,
        table: &RoutingTable,
        pool: &Pool,
        entry: &Entry,
        mut request: Request<RequestBody>,
        asked: &Asked,
    ) -> Result<(InFlight, Response<upstream::Body<RequestBody>>), Unanswered<RequestBody>> {
        let authority = || entry.backend.endpoint.to_string();
        headers::set_host(request.headers_mut(), pool.options.host, authority);
        let in_flight = entry.load.enter();
        let target = Target {
            id: entry.id,
            endpoint: &entry.backend.endpoint,
        };
        let response = self
            .client
            .send(
                target,
                request,
                connect_options(table, entry),
                asked.head_limit(table),
            )
            .await?;
        if entry.wants_good_news {
            self.reporter.report(entry.id, Observation::Answered);
        }
        Ok((in_flight, response))
    }

    /// Where an unsent request goes next, if anywhere: elsewhere at once, or to the same one after a while.
    async fn next(
        &self,
        pool: &Pool,
        entry: &Entry,
        earlier: &Decision,
        failure: &Failure,
        tried: &[Member],
        patience: Instant,
    ) -> Option<Decision> {
        if earlier.why.may_move() {
            tracing::debug!(backend = %entry.backend.name, error = %failure, "goes to another backend");
            let random = self.random.borrow_mut().u64(..);
            return router::reroute(pool, earlier, random, tried).ok();
        }
        let known_to_be_down = entry.vital != Vital::Healthy;
        if known_to_be_down || !failure.may_pass() || net::now() + CONNECT_AGAIN >= patience {
            return None;
        }
        net::sleep(CONNECT_AGAIN).await;
        Some(earlier.clone())
    }

    fn report(&self, entry: &Entry, failure: &Failure, asked: &Asked) {
        let seen = match failure {
            Failure::Connect(error) => probe::seen_in(error),
            Failure::Closed(_) => Some(Observation::Reset),
            // A call of a session may be at work; what opens something has to begin.
            Failure::HeadTimeout(_) if !asked.is_call() => Some(Observation::TimedOut),
            Failure::HeadTimeout(_) | Failure::Malformed(_) | Failure::RequestBody(_) => None,
        };
        if let Some(seen) = seen {
            self.reporter.report(entry.id, seen);
        }
    }
}

impl Asked {
    /// How long the backend may take to begin: long for a call of a session, which may be at work, short for
    /// what opens something.
    fn head_limit(&self, table: &RoutingTable) -> std::time::Duration {
        if self.is_call() {
            table.timeouts.response_head
        } else {
            table.timeouts.open_head
        }
    }

    fn is_call(&self) -> bool {
        match self.era {
            Era::Legacy => self.has_session && self.method != Method::GET,
            Era::Modern => self.method == Method::POST,
        }
    }
}

fn connect_options(table: &RoutingTable, entry: &Entry) -> Options {
    let options = options(table);
    match entry.vital {
        Vital::Healthy => options,
        Vital::Suspect | Vital::Lost => Options {
            connect: options.connect.min(CONNECT_TO_SUSPECT),
            ..options
        },
    }
}
