//! Brings a request to a backend: again, or to another one, only as long as none has seen it.
//!
//! Design, section 4: connect again before answering at all. What is found out about a backend's health
//! on the way is reported; the routing table says at the next request what follows.

mod elsewhere;

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use super::{
    Asked, Proxy,
    body::{self, Pieces, RequestBody},
    error::{self, ProxyError},
    headers, options,
    room::Room,
};
use crate::{
    health::{Observation, probe},
    mcp::Era,
    net::{self, Deadline},
    observe::Exchange,
    ring::Member,
    router::{
        self, Decision, Refusal,
        placement::{InFlight, Opening},
        table::{Entry, Pool, RoutingTable, Snapshot},
    },
    upstream::{self, Failure, Options, Target},
};

/// For a connect to one that has been down for long: a probe is at it already, and the client waits.
const CONNECT_TO_DOWN: Duration = Duration::from_millis(80);

/// All that the phases of a request know once its pool is found, and what it is delivered by.
pub(super) struct Delivery<'a> {
    pub(super) proxy: &'a Proxy,
    pub(super) table: &'a Snapshot,
    pub(super) pool: &'a Pool,
    pub(super) asked: &'a Asked,
    pub(super) exchange: &'a Exchange,
    /// Expires when the backend should have begun to answer.
    pub(super) head: &'a Deadline,
    /// How long a request waits for who refuses connections to be back, or to be lost: for its session can then be
    /// brought back. `None`: as long as any other.
    pub(super) waits_for_loss: Option<Duration>,
}

/// A request that was answered.
pub(super) struct Delivered {
    /// By whom.
    pub(super) member: Member,
    /// Counts as work of that backend until it is dropped.
    pub(super) in_flight: InFlight,
    /// For the session that it may have opened.
    pub(super) room: Room,
    /// With what.
    pub(super) response: Response<upstream::Body<RequestBody>>,
    /// The beginning of its body, if that was read already.
    pub(super) read: Bytes,
    /// What pins the carriers in the rest of it.
    pub(super) carriers: Option<Box<body::Carriers>>,
}

/// How long a short answer may take to be whole.
const WHOLE_WITHIN: Duration = Duration::from_secs(1);

impl Delivered {
    /// Reads the body to its end, if that comes soon and within `most` bytes, and there `has_room` for each piece of
    /// several. Else what was read of it is put into [`Delivered::read`].
    ///
    /// # Errors
    ///
    /// When it breaks off.
    pub(super) async fn read_whole(
        &mut self,
        most: usize,
        mut has_room: impl FnMut(usize) -> bool,
    ) -> Result<Option<Bytes>, Failure> {
        let mut read = Pieces::default();
        let body = self.response.body_mut();
        let reading = async {
            while body.size_hint().lower() + read.len() as u64 <= most as u64 {
                let Some(frame) = body.frame().await else {
                    return Ok(true);
                };
                let Ok(data) = frame.map_err(Failure::Closed)?.into_data() else {
                    continue;
                };
                let is_one_piece = read.is_empty() && body.is_end_stream();
                let goes_on = is_one_piece || has_room(data.len());
                read.push(data);
                if !goes_on {
                    break;
                }
            }
            Ok(false)
        };
        let is_whole = net::within(WHOLE_WITHIN, reading).await;
        let read = read.into_bytes();
        if is_whole.unwrap_or(Ok(false))? {
            return Ok(Some(read));
        }
        self.read = read;
        Ok(None)
    }
}

/// Why there is no answer.
enum Stopped {
    /// The backend gave none.
    Unanswered(Failure),
    /// The backend has lost all that it held: nobody waits for it any longer.
    Lost,
}

impl Delivery<'_> {
    /// Sends `request` where `decision` says, or where it may go instead. Nothing is left in it.
    pub(super) async fn run(
        &self,
        mut decision: Decision,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<Delivered, ProxyError> {
        let delivered = self.try_in_turn(&mut decision, request).await;
        if let Some(unsent) = request.take() {
            // Read on, so that the client reads the answer.
            unsent.into_body().discard(self.asked.waits_for_continue);
        }
        delivered
    }

    /// What is left in `request` has been seen by nobody.
    async fn try_in_turn(
        &self,
        decision: &mut Decision,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<Delivered, ProxyError> {
        // Where the client sent no Host (HTTP/1.0), each backend gets its own.
        let own_host = self.asked.needs_host(self.pool);
        let mut tried = Vec::new();
        let mut give_up = None;
        loop {
            let opening = self
                .take_room(decision, &tried)
                .map_err(ProxyError::Refused)?;
            let entry = self.pool.entry(decision.member);
            if own_host && let Some(request) = request {
                headers::set_host(request.headers_mut(), &entry.backend.endpoint.authority());
            }
            let stopped = match self.attempt(entry, decision, opening, request).await {
                Ok(delivered) => return Ok(delivered),
                Err(stopped) => stopped,
            };
            tried.push(decision.member);
            *decision = match stopped {
                Stopped::Lost => self.after_loss(decision, request, &tried).await?,
                Stopped::Unanswered(failure) => {
                    self.note(entry, &failure);
                    if request.is_none() {
                        return Err(failure.into());
                    }
                    if self.waits_for_loss.is_some() && self.is_lost_by_now(entry) {
                        elsewhere::keep(request).await;
                        return Err(ProxyError::Refused(Refusal::BackendDown));
                    }
                    let give_up = *give_up.get_or_insert_with(|| net::now() + self.patience());
                    let next = self.next(entry, decision, &failure, &mut tried, give_up);
                    next.await.ok_or(failure)?
                }
            };
        }
    }

    /// Takes room for the session that the request may open, where `decision` says; where others were faster,
    /// it says another place afterwards.
    fn take_room(
        &self,
        decision: &mut Decision,
        tried: &[Member],
    ) -> Result<Option<Opening>, Refusal> {
        let Some(most) = decision.limit else {
            return Ok(None);
        };
        let mut full = tried.to_vec();
        loop {
            let load = &self.pool.entry(decision.member).load;
            if let Some(opening) = load.open_session(most) {
                return Ok(Some(opening));
            }
            full.push(decision.member);
            let random = self.proxy.random.borrow_mut().u64(..);
            *decision = router::reroute(self.pool, decision, random, &full)
                .map_err(|_| Refusal::SessionsFull)?;
        }
    }

    async fn attempt(
        &self,
        entry: &Entry,
        decision: &Decision,
        opening: Option<Opening>,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<Delivered, Stopped> {
        let name = entry.backend.name.as_str();
        self.exchange
            .routed(name, &entry.traffic, decision.why.route());
        let headers = request.as_mut().map(Request::headers_mut);
        self.exchange.departs(name, headers);
        let mut in_flight = entry.load.enter();
        let target = Target {
            id: entry.id,
            endpoint: &entry.backend.endpoint,
        };
        let head = (self.head, self.asked.head_limit(self.table));
        let client = &self.proxy.client;
        let mut sent = pin!(client.send(target, request, || self.options(entry), head));
        let answered = poll_fn(|cx| match sent.as_mut().poll(cx) {
            Poll::Pending if in_flight.is_to_end(self.proxy.watch.round()) => Poll::Ready(None),
            polled => polled.map(Some),
        });
        let response = match answered.await {
            Some(answered) => answered.map_err(Stopped::Unanswered)?,
            None => return Err(Stopped::Lost),
        };
        if entry.wants_good_news {
            let seen = if self.asked.has_session {
                Observation::Served
            } else {
                Observation::Answered
            };
            self.proxy.reporter.report(entry.id, seen);
        }
        Ok(Delivered {
            member: decision.member,
            in_flight,
            room: Room {
                of_backend: opening,
                of_principal: None,
            },
            response,
            read: Bytes::new(),
            carriers: None,
        })
    }

    fn options(&self, entry: &Entry) -> Options {
        let options = options(self.table);
        if self.is_long_down(entry) {
            Options {
                connect: options.connect.min(CONNECT_TO_DOWN),
                ..options
            }
        } else {
            options
        }
    }

    /// Tells the log and the table's writer what was seen.
    fn note(&self, entry: &Entry, failure: &Failure) {
        self.exchange
            .failed(entry.backend.name.as_str(), error::upstream(failure).reason);
        if matches!(failure, Failure::Connect(_) | Failure::Closed(_)) {
            self.proxy.sessions.doubt(&entry.load);
        }
        if let Some(seen) = seen_in(failure, self.asked.has_session) {
            self.proxy.reporter.report(entry.id, seen);
        }
    }
}

/// What a failure says of its backend.
pub(super) fn seen_in(failure: &Failure, is_of_session: bool) -> Option<Observation> {
    match failure {
        Failure::Connect(error) => probe::seen_in(error),
        Failure::Closed(_) => Some(Observation::Reset),
        // A request of a session may be at work; what opens something has to begin.
        Failure::HeadTimeout(_) if !is_of_session => Some(Observation::TimedOut),
        Failure::Refused(_) => None, // it is well, and says so
        Failure::HeadTimeout(_) | Failure::Malformed(_) | Failure::RequestBody(_) => None,
    }
}

impl Asked {
    /// How long the backend may take to begin: long for a call, which may be at work, short for what opens
    /// something.
    pub(super) fn head_limit(&self, table: &RoutingTable) -> Duration {
        let is_call = match self.era {
            Era::Legacy => self.has_session && self.method != Method::GET,
            Era::Modern => self.method == Method::POST,
        };
        if is_call {
            table.timeouts.response_head
        } else {
            table.timeouts.open_head
        }
    }
}
