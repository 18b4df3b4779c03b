//! One request, from its head to its answer's last byte, in six phases: classify, route, rewrite, send,
//! answer, observe. And nothing else.
//!
//! [`Proxy::handle`] is the place to begin reading. Each thread has one [`Proxy`]; a request holds one
//! routing table from beginning to end.

mod answer;
mod asked;
pub mod body;
mod carriers;
mod deliver;
pub mod error;
mod gone;
pub mod headers;
mod listen;
mod reinitialize;
mod room;
mod unknown;

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http::{HeaderValue, Request, Response, header, request};
use hyper::body::Incoming;

use self::{
    asked::Asked,
    body::{Answer, Passing, RequestBody},
    carriers::Carrying,
    deliver::Delivery,
    error::ProxyError,
    reinitialize::{Part, Recovered},
};
pub use self::{reinitialize::Renewals, unknown::Unknowns};
use crate::{
    config::OnLoss,
    health::probe::Reporter,
    mcp::{self, Modern, RequestKind},
    net::{self, Instant, Liveness, Ticker},
    observe::{Exchange, Outcome},
    pin::{Kind, PIN_LEN, Pin},
    router::{
        self, Decision, Moved, Refusal, Why,
        table::{Pool, Reader, RoutingTable, Snapshot},
    },
    sessions::Sessions,
    shutdown::Watch,
    upstream::{Client, Failure, Options, names::Names},
};

const _: () = assert!(mcp::session::MAX_CLIENT_LEN == mcp::session::MAX_LEN + PIN_LEN);

/// Between two warnings of requests without a pool, on one thread.
const WARN_AGAIN: Duration = Duration::from_secs(1);

/// What one thread serves requests with.
#[derive(Debug)]
pub struct Proxy {
    tables: Reader,
    client: Client<RequestBody>,
    unknowns: Unknowns,
    sessions: Sessions,
    renewals: Renewals,
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
        unknowns: Unknowns,
        sessions: Sessions,
        renewals: Renewals,
        (reporter, names): (Reporter, Names),
        ticker: Ticker,
        watch: Watch,
    ) -> Self {
        Self {
            tables,
            client: Client::new(names),
            unknowns,
            sessions,
            renewals,
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

    /// Answers `request` of a client at `peer`, whose address is written out in `forwarded_for`.
    ///
    /// # Cancel safety
    ///
    /// When dropped, because the client left, the backend's side is closed, and the log gets its line.
    pub async fn handle(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        forwarded_for: &HeaderValue,
    ) -> Response<Answer> {
        let exchange = Exchange::begin(peer.ip(), request.method(), request.uri());
        let (head, body) = request.into_parts();
        // A client that waits for 100-continue sends nothing until the body is asked for.
        let waits = head.headers.contains_key(header::EXPECT);
        let mut body = Some(body);
        match self
            .forward(head, &mut body, peer.ip(), forwarded_for, &exchange)
            .await
        {
            Ok(response) => response,
            Err(error) => {
                if let Some(unread) = body.filter(|_| !waits) {
                    body::discard(unread);
                }
                refuse(&error, peer, exchange)
            }
        }
    }

    async fn forward(
        &self,
        mut head: request::Parts,
        body: &mut Option<Incoming>,
        peer: IpAddr,
        forwarded_for: &HeaderValue,
        exchange: &Exchange,
    ) -> Result<Response<Answer>, ProxyError> {
        let mut table = self.tables.snapshot();

        // 1 classify: from here on a refusal says which header is at fault.
        headers::check_size(&head, &table.limits)?;
        let scan = headers::scan(&head)?;
        let mut kind = mcp::classify(&head)?;
        let asked = Asked::of(&head, &kind, &table, peer);
        let head_deadline = self.ticker.deadline();
        let (idle, head_limit) = (table.timeouts.request_body_idle, asked.head_limit(&table));
        let passing = |incoming: &mut Option<Incoming>, kept| {
            let incoming = incoming.take().expect("a request is forwarded once");
            let (exchange, ticker) = (exchange.clone(), self.ticker.clone());
            let head = (head_deadline.handle(), head_limit);
            Passing::new(incoming, exchange, idle, ticker, head, kept)
        };
        let carrying = match &mut kind {
            RequestKind::Modern(modern) => {
                let pool = pool_of(&table, &head).ok(); // that there is none is refused when it is routed
                modern.affinity = pool.and_then(|pool| affinity(pool, &head, peer));
                let most = table.limits.body_bytes;
                Carrying::of(modern, pool, &head.headers, most, || passing(body, None)).await?
            }
            RequestKind::Session(_)
            | RequestKind::Endpoint(_)
            | RequestKind::NewWork
            | RequestKind::Other => None,
        };

        // 2 route: a refusal says whether the session is gone or will be known.
        let routed = self.route(&mut table, &head, &kind, exchange).await;
        let pool = pool_of(&table, &head)?;
        let part = match pool.options.on_loss {
            OnLoss::NotFound | OnLoss::Successor => Part::None,
            OnLoss::Reinitialize => {
                let mut rewritten = head.clone();
                let strip = pool.options.strip_prefix.as_ref();
                headers::to_backend(&mut rewritten, scan.clone(), forwarded_for, strip, None);
                self.part(&table, pool, &head, rewritten, &kind, exchange)
            }
        };
        let decision = match part.recover(routed).await {
            Ok(Recovered::At(decision)) => decision,
            Ok(Recovered::Denied(denied)) => {
                return self.answer(&table, pool, *denied, None, &asked, exchange);
            }
            Err(error) => {
                note_session(&table, &kind, exchange);
                if let Some(carrying) = carrying {
                    carrying.discard();
                }
                return Err(error);
            }
        };
        let of_principal = match kind {
            RequestKind::NewWork => self.open(&table, &asked)?,
            RequestKind::Modern(_)
            | RequestKind::Session(_)
            | RequestKind::Endpoint(_)
            | RequestKind::Other => None,
        };

        // 3 rewrite: cannot fail.
        let exchanged = answer::exchanged(&asked, &decision);
        if decision.why == Why::Reinitialized {
            note_session(&table, &kind, exchange); // under the same hash as before
        }
        if let Some(session) = &decision.session {
            exchange.session(|| table.keys.log_hash(session.as_bytes()).to_string());
        }
        if let Some(query) = &asked.endpoint {
            exchange.session(|| table.keys.log_hash(query.own().as_bytes()).to_string());
            headers::set_query(&mut head, query.own());
        }
        if asked.may_open.is_some() && kind == RequestKind::NewWork {
            // What is compressed cannot be pinned.
            head.headers.insert(
                header::ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            );
        }
        headers::to_backend(
            &mut head,
            scan,
            forwarded_for,
            pool.options.strip_prefix.as_ref(),
            decision.session.clone(),
        );
        part.prepare(&mut head, &decision);
        if let Some(request) = listen::of(pool, carrying.as_ref()) {
            let delivery = Delivery {
                proxy: self,
                table: &table,
                pool,
                asked: &asked,
                exchange,
                head: head_deadline,
                waits_for_loss: None,
            };
            return Box::pin(self.listen(&table, &delivery, head, request, decision)).await;
        }
        let unannounced = room::unannounced(&table, &kind, &head, &decision);
        let (body, minting) = match carrying {
            Some(carrying) => {
                let (body, tasks) = carrying.strip(&table, pool, decision.member, &mut head);
                (body, Some(tasks))
            }
            None => (RequestBody::Passing(passing(body, part.keep())), None),
        };

        // 4 send: again, or elsewhere, only as long as no backend has seen it, or it knows nothing of the session.
        let delivery = Delivery {
            proxy: self,
            table: &table,
            pool,
            asked: &asked,
            exchange,
            head: head_deadline,
            waits_for_loss: part.waits_for_loss(&decision),
        };
        let request = Request::from_parts(head, body);
        let (mut delivered, exchanged) = match delivery.run(decision, request).await {
            Ok(delivered) => (delivered, exchanged),
            Err(error) => part.redeliver(&delivery, error).await?,
        };
        let gone = self
            .hear(pool, &mut delivered, exchanged.as_ref(), &asked)
            .await?;
        let (mut delivered, exchanged) = match gone {
            Some(gone) => {
                part.reconsider(&delivery, delivered, exchanged, gone)
                    .await?
            }
            None => (delivered, exchanged),
        };
        delivered.room.of_principal = of_principal;
        if let Some(head) = unannounced {
            self.admit(&table, pool, &mut delivered, &asked, head)?;
        }
        if let Some(tasks) = minting {
            Box::pin(carriers::pin(&table, pool, &mut delivered, tasks)).await?;
        }

        // 5 answer: the head leaves now, the body as it comes. 6 observe: `exchange` goes along.
        let mut response = self.answer(&table, pool, delivered, exchanged, &asked, exchange)?;
        part.conclude(&mut response).await;
        Ok(response)
    }

    /// Routes, and waits a little where the table may be about to learn what the pin names.
    async fn route(
        &self,
        table: &mut Snapshot,
        head: &request::Parts,
        kind: &RequestKind,
        exchange: &Exchange,
    ) -> Result<Decision, ProxyError> {
        let random = self.random.borrow_mut().u64(..);
        let pool = pool_of(table, head).inspect_err(|_| self.warn_of_no_pool(head))?;
        exchange.matched(&pool.options.name);
        let moved = match pool.options.on_loss {
            OnLoss::NotFound | OnLoss::Successor => None,
            OnLoss::Reinitialize => self.renewals.moved(table, pool, kind).await,
        };
        let decide =
            |table: &RoutingTable, pool: &Pool| decide(table, pool, kind, moved.as_deref(), random);
        let refusal = match decide(table, pool) {
            Ok(decision) => return Ok(decision),
            Err(refusal) => refusal,
        };
        let carrier = match kind {
            RequestKind::Session(id) => id.as_bytes(),
            RequestKind::Endpoint(query) => query.pin().as_bytes(),
            RequestKind::Modern(modern) => {
                match router::carriers::first_unknown(table, pool, &modern.carriers) {
                    Some(carried) => carried.string.as_bytes(),
                    None => return Err(ProxyError::Refused(refusal)),
                }
            }
            RequestKind::NewWork | RequestKind::Other => {
                return Err(ProxyError::Refused(refusal));
            }
        };
        let again = |table: &RoutingTable| {
            let pool = table.pool_for(headers::host_of(head), head.uri.path());
            pool.map(|pool| decide(table, pool))
        };
        let grace = pool.options.unknown_grace;
        let judged = self
            .unknowns
            .judge(&self.tables, table, refusal, carrier, grace, again)
            .await;
        match (judged, kind) {
            // It counts as lost, and what is lost is placed: never 404.
            (Err(ProxyError::StayedUnknown(_)), RequestKind::Modern(modern)) => {
                let others = RequestKind::Modern(Modern {
                    carriers: Vec::new(),
                    ..modern.clone()
                });
                let pool = pool_of(table, head)?;
                router::route(table, pool, &others, random).map_err(ProxyError::Refused)
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

/// Where the session has moved to comes before where its pin says.
fn decide(
    table: &RoutingTable,
    pool: &Pool,
    kind: &RequestKind,
    moved: Option<&Moved>,
    random: u64,
) -> Result<Decision, Refusal> {
    if let (RequestKind::Session(id), Some(moved)) = (kind, moved) {
        router::follow(table, pool, id, moved)
    } else {
        router::route(table, pool, kind, random)
    }
}

fn pool_of<'a>(table: &'a RoutingTable, head: &request::Parts) -> Result<&'a Pool, ProxyError> {
    table
        .pool_for(headers::host_of(head), head.uri.path())
        .ok_or(ProxyError::NoPool)
}

/// Where a request of the modern era belongs by the pool's own keys.
fn affinity(pool: &Pool, head: &request::Parts, peer: IpAddr) -> Option<u64> {
    let keys = &pool.options.stateless_affinity;
    let position = router::affinity::position(keys, &head.headers, peer)?;
    Some(position.0)
}

/// Tells the log which session a refused request asked for: under the same hash as when it was served.
fn note_session(table: &RoutingTable, kind: &RequestKind, exchange: &Exchange) {
    let own = match kind {
        RequestKind::Session(id) => {
            let pin = Pin::parse(Kind::Session, id.as_bytes());
            pin.map_or(id.as_bytes(), |pin| pin.string)
        }
        RequestKind::Endpoint(query) => query.own().as_bytes(),
        RequestKind::Modern(_) | RequestKind::NewWork | RequestKind::Other => return,
    };
    exchange.session(|| table.keys.log_hash(own).to_string());
}

fn options(table: &RoutingTable) -> Options {
    Options {
        connect: table.timeouts.connect,
        keep_alive: table.timeouts.upstream_keep_alive,
        // No silence but an idle connection's: a request is the only thing that is sent.
        liveness: liveness(table, table.timeouts.upstream_keep_alive),
        header_bytes: table.limits.header_bytes,
        headers: table.limits.headers,
    }
}

/// What the kernel watches for on the side of clients. Their streams are silent until a comment, or a probe.
#[must_use]
pub fn client_liveness(table: &RoutingTable) -> Liveness {
    let timeouts = &table.timeouts;
    let silence = [timeouts.stream_comment, timeouts.tcp_keep_alive];
    liveness(
        table,
        silence.into_iter().flatten().min().unwrap_or_default(),
    )
}

fn liveness(table: &RoutingTable, silence: Duration) -> Liveness {
    let timeouts = &table.timeouts;
    Liveness::new(timeouts.tcp_keep_alive, timeouts.tcp_user_timeout, silence)
}

fn refuse(error: &ProxyError, peer: SocketAddr, exchange: Exchange) -> Response<Answer> {
    let verdict = error.verdict();
    match error {
        // A client that leaves within its own request's body is its own affair.
        ProxyError::Upstream(Failure::RequestBody(_)) | ProxyError::RequestBody(_) => {}
        ProxyError::Upstream(_) | ProxyError::BrokenHead(_) | ProxyError::Switched => {
            tracing::warn!(
                reason = verdict.reason,
                error = chain(error),
                "no usable answer from the backend"
            );
        }
        ProxyError::TooLarge(_)
        | ProxyError::Ambiguous(_)
        | ProxyError::Unclassifiable(_)
        | ProxyError::NoPool
        | ProxyError::Refused(_)
        | ProxyError::StayedUnknown(_)
        | ProxyError::SessionForgotten
        | ProxyError::NotReinitialized
        | ProxyError::Drained => {
            tracing::debug!(%peer, reason = verdict.reason, error = chain(error), "refused");
        }
    }
    exchange.error(|| chain(error));
    exchange.answered(verdict.status, verdict.reason);
    // With its head all of it is there. Nobody asks for the body of an answer to HEAD.
    exchange.end(Outcome::Complete);
    error
        .response()
        .map(|body| Answer::Own(Some(body), exchange))
}

/// An error with its causes, for one log line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F: Future>(
        _handle: impl Fn(&'static Proxy, Request<Incoming>, SocketAddr, &'static HeaderValue) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_is_rare_takes_no_room_in_the_future_of_a_request() {
        let size = size_of_future(|proxy, request, peer, forwarded_for| {
            proxy.handle(request, peer, forwarded_for)
        });
        // Each open connection has one: box what most requests do not need. It was 5,600 before bodies were read and
        // requests waited for a loss, and is to be that again.
        assert!(size <= 7680, "{size}");
    }
}
