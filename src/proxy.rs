//! One request, from its head to its answer's last byte, in six phases: classify, route, rewrite, send,
//! answer, observe. And nothing else.
//!
//! [`Proxy::handle`] is the place to begin reading. Each thread has one [`Proxy`]; a request holds one
//! routing table from beginning to end.

mod alarms;
mod answer;
mod asked;
pub mod body;
mod carriers;
mod classify;
pub mod cors;
mod deliver;
pub mod error;
mod gone;
pub mod headers;
mod health_path;
mod listen;
mod liveness;
mod marks;
mod message_id;
mod refuse;
mod reinitialize;
mod rewrite;
mod room;
mod route;
mod unknown;
mod withhold;

use std::{
    cell::{Cell, RefCell},
    mem,
    net::IpAddr,
};

use http::{Request, Response, request};

pub use self::{
    alarms::Alarms, body::Bodies, liveness::client_liveness, reinitialize::Renewals,
    unknown::Unknowns,
};
use self::{
    asked::Asked,
    body::{Answer, RequestBody},
    classify::Arrival,
    cors::Page,
    deliver::Delivery,
    error::ProxyError,
    headers::{Forwarded, Seen},
    liveness::options,
    marks::Replaced,
    message_id::MessageId,
    reinitialize::Recovered,
    route::pool_of,
};
use crate::{
    health::probe::Reporter,
    identity::trusted::Client,
    incoming::Incoming,
    limits::Reached,
    mcp,
    net::{Instant, Ticker},
    observe::{Asking, Exchange, Meter, otlp::Outbox, request_id::REQUEST_ID},
    pin::PIN_LEN,
    router::table::Reader,
    sessions::Sessions,
    shutdown::Watch,
    upstream::{self, names::Names},
};

const _: () = assert!(mcp::session::MAX_CLIENT_LEN == mcp::session::MAX_LEN + PIN_LEN);

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub enum Peer {
    /// Whoever is at this address.
    Known(IpAddr),
    /// Somebody behind the balancer at this address: nothing is believed that comes over it.
    Unknown(IpAddr),
}

/// What one thread serves requests with.
#[derive(Debug)]
pub struct Proxy {
    tables: Reader,
    client: upstream::Client<RequestBody>,
    unknowns: Unknowns,
    alarms: Alarms,
    sessions: Sessions,
    reached: Reached,
    meter: Meter,
    /// Where spans go, if they are wanted.
    outbox: Option<Outbox>,
    renewals: Renewals,
    bodies: Bodies,
    reporter: Reporter,
    ticker: Ticker,
    watch: Watch,
    random: RefCell<fastrand::Rng>,
    /// When a request without a pool was last warned of.
    warned: Cell<Option<Instant>>,
}

impl Proxy {
    /// The proxy of this thread.
    #[must_use]
    pub fn new(
        tables: Reader,
        (unknowns, alarms): (Unknowns, Alarms),
        (sessions, reached): (Sessions, Reached),
        (meter, outbox, ticker): (Meter, Option<Outbox>, Ticker),
        (renewals, bodies): (Renewals, Bodies),
        (reporter, names, upstream): (Reporter, Names, upstream::Open),
        watch: Watch,
    ) -> Self {
        Self {
            tables,
            client: upstream::Client::new(names, upstream),
            unknowns,
            alarms,
            sessions,
            reached,
            meter,
            outbox,
            renewals,
            bodies,
            reporter,
            ticker,
            watch,
            random: RefCell::new(fastrand::Rng::new()),
            warned: Cell::new(None),
        }
    }

    /// Tends to pooled connections, for ever.
    pub async fn tend(&self) {
        self.client.sweep().await;
    }

    /// Answers `request`, which came over a connection from `peer`, of which backends are told what `forwarded` has.
    ///
    /// # Cancel safety
    ///
    /// When dropped, because the client left, the backend's side is closed, and the log gets its line.
    // Inlined, only what it begins with is moved to where it is polled, and not all of its 3 KiB, twice.
    #[inline(always)]
    pub fn handle(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        forwarded: Forwarded<'_>,
    ) -> impl Future<Output = Response<Answer>> {
        let table = self.tables.snapshot();
        let client = match peer {
            Peer::Known(address) => table.trusted_proxies.client(address, request.headers()),
            Peer::Unknown(balancer) => Client::direct(balancer),
        };
        let seen = Seen::of(request.headers());
        let (marks, context) = self.mark(&table, request.headers(), seen, client);
        let asking = Asking {
            client: client.address,
            method: request.method(),
            target: request.uri(),
        };
        let exchange = Exchange::begin(&self.meter, asking, table.log.sample, marks);
        let (head, body) = request.into_parts();
        let mut arrival = Arrival {
            head,
            seen,
            body: Some(body),
            client,
            message_id: None,
            page: None,
            context,
            exchange,
        };
        // An `async fn` would keep the place that the request was passed in, too.
        async move {
            let answered = self.forward(&mut arrival, forwarded).await;
            let (page, id) = (arrival.page.take(), arrival.exchange.request_id().cloned());
            let mut response = answered.unwrap_or_else(|error| {
                self.alarms.refused(&error);
                arrival.refuse(&error, &self.reached)
            });
            if let Some(id) = id {
                response.headers_mut().insert(REQUEST_ID, id);
            }
            if let Some(page) = page {
                page.admit(response.headers_mut());
            }
            response
        }
    }

    async fn forward(
        &self,
        arrival: &mut Arrival,
        forwarded: Forwarded<'_>,
    ) -> Result<Response<Answer>, ProxyError> {
        let mut table = self.tables.snapshot();
        if let Some(path) = &table.health_path {
            let knows_backends = table.pools.iter().all(|pool| !pool.entries().is_empty());
            let phase = self.watch.phase();
            if let Some(answer) = arrival.health(path.as_str(), phase, knows_backends) {
                return Ok(answer);
            }
        }
        let cors = table.cors.as_ref(); // every answer tells browsers of it, a refusal too
        arrival.page = cors.map(|cors| Box::new(Page::of(&arrival.head.headers, cors)));

        // 1 classify: from here on a refusal says which header is at fault.
        let mut classified = self.classify(&table, arrival)?;
        if let Some(answer) = arrival.preflight()? {
            return Ok(answer);
        }
        let mut carrying = self.read(&table, arrival, &mut classified).await?;

        arrival.tell_marks();

        // 2 route: a refusal says whether the session is gone or will be known.
        let routed = self.route(&mut table, arrival, &mut classified).await;
        let pool = pool_of(&table, &arrival.head)?;
        classified.doubt_names(&table, pool);
        let mut delivery = Delivery {
            proxy: self,
            table: &table,
            pool,
            asked: &classified.asked,
            exchange: &arrival.exchange,
            head: &classified.head_deadline,
            waits_for_loss: None,
        };
        let part = delivery.part(&arrival.head, &classified, forwarded);
        if let Some(kept) = part.keep() {
            arrival.message_id = Some(Box::new(part.message_id(kept)));
        }
        let decision = match part.recover(routed).await {
            Ok(Recovered::At(decision)) => decision,
            Ok(Recovered::Denied(denied)) => {
                refuse::discard(arrival.body.take(), arrival.waits_for_continue());
                return delivery.answer(*denied, None);
            }
            Err(error) => {
                classified.note_session(&table, &arrival.exchange);
                if let Some(carrying) = carrying {
                    carrying.discard();
                }
                return Err(error);
            }
        };
        let of_principal = delivery.announced(&classified.kind)?;

        // 3 rewrite: cannot fail.
        let exchanged = answer::exchanged(&classified.asked, &decision);
        classified.note_decision(&table, &decision, &arrival.exchange);
        classified.rewrite(pool, &mut arrival.head, &decision, forwarded);
        part.prepare(&mut arrival.head, &decision);
        if let Some(merged) = delivery.fan_out(&mut carrying, &mut arrival.head, &decision) {
            return merged.await;
        }
        let unannounced = room::unannounced(&table, &classified, &arrival.head, &decision);
        let (body, minting) = match carrying {
            Some(carrying) => carrying.strip(&delivery, decision.member, &mut arrival.head),
            None => (delivery.passing(&mut arrival.body, part.keep()), None),
        };
        let mut request = Some(Request::from_parts(taken(&mut arrival.head), body));

        if let Some(gathering) = part.gather(&classified.asked, &mut request) {
            gathering.await?;
        }

        // 4 send: again, or elsewhere, only as long as no backend has seen it, or it knows nothing of the session.
        delivery.waits_for_loss = part.waits_for_loss(&decision);
        let (mut delivered, exchanged) = match delivery.run(decision, &mut request).await {
            Ok(delivered) if !delivery.may_tell_loss(&delivered, exchanged.as_ref()) => {
                (delivered, exchanged)
            }
            delivered => Box::pin(part.heed(&delivery, delivered, exchanged)).await?,
        };
        delivered.room.of_principal = of_principal;
        if let Some(head) = unannounced {
            delivery.admit(&mut delivered, head)?;
        }
        if let Some(tasks) = minting {
            Box::pin(delivery.pin(&mut delivered, tasks)).await?;
        }

        // 5 answer: the head leaves now, the body as it comes. 6 observe: `exchange` goes along.
        let mut response = delivery.answer(delivered, exchanged)?;
        part.conclude(&mut response).await;
        Ok(response)
    }
}

/// Takes the head of a request that goes on: nobody looks at it any longer.
fn taken(head: &mut request::Parts) -> request::Parts {
    mem::replace(head, Request::new(()).into_parts().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F: Future>(
        _handle: impl Fn(&'static Proxy, Request<Incoming>, Peer, Forwarded<'static>) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_is_rare_takes_no_room_in_the_future_of_a_request() {
        let size = size_of_future(|proxy, request, peer, forwarded| {
            proxy.handle(request, peer, forwarded)
        });
        // Each open connection has one. What commonly adds to it: an argument by value of an `async fn`, which has
        // a place as an argument and another as a local; what lives across two awaits; what most requests do not
        // need and nobody has boxed.
        assert!(size <= 3176, "{size}");
    }
}
