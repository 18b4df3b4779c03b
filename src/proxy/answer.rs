//! Makes a backend's answer what the client is to see: pins its session id, and gives its body along as a
//! stream with all that watches over it.
//!
//! Fifth of the six phases. From here on nothing can be tried again.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Body;

use super::{
    Asked,
    body::{Answer, Departure, Ending, Endpoint, EventStream, Relay, Work},
    deliver::{Delivered, Delivery},
    error::ProxyError,
    headers::{self, Exchanged},
    room::Room,
};
use crate::{
    mcp::{Era, session::ServerSessionId, sse},
    observe::Stream,
    pin::{Kind, PIN_LEN},
    ring::Member,
    router::{
        Decision, Why,
        asker::Asker,
        placement::Load,
        table::{Pool, RoutingTable},
    },
    sessions::{Owner, Visit},
};

impl Delivery<'_> {
    /// The answer for the client.
    ///
    /// # Errors
    ///
    /// When its head is none that a client may see.
    pub(super) fn answer(
        &self,
        delivered: Delivered,
        exchanged: Option<Exchanged>,
    ) -> Result<Response<Answer>, ProxyError> {
        let Self {
            proxy,
            table,
            pool,
            asked,
            exchange,
            ..
        } = *self;
        let Delivered {
            member,
            in_flight,
            room,
            response,
            read,
            carriers,
        } = delivered;
        let (mut head, upstream) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(ProxyError::Switched); // nobody asked: Upgrade stops here
        }
        let pin = |id: &ServerSessionId| pinned(table, pool, &asked.asker, member, id);
        let issued = headers::to_client(&mut head.headers, exchanged.as_ref(), pin)?;
        head.version = http::Version::HTTP_11; // what the backend speaks ends here; hyper knows the client's
        if let Some(id) = &issued {
            exchange.session(|| table.keys.log_hash(id.as_bytes()).to_string());
        }
        exchange.answered(head.status, upstream.is_whole());
        let asked_for = exchanged
            .as_ref()
            .map(|exchanged| exchanged.server.as_bytes())
            .or(asked.endpoint.as_ref().map(|query| query.own().as_bytes()));
        let opened = issued.as_ref().filter(|_| head.status.is_success());
        if opened.is_some() && !asked.has_session {
            proxy.meter.session_opened();
        }
        let session = asked_for.or(opened.map(ServerSessionId::as_bytes));
        let load = &pool.entry(member).load;
        let visit = session.and_then(|id| self.visit(id, load, head.status));
        let events = self.event_stream(&head.headers, &upstream);
        if events.is_some() {
            exchange.streams(asked.stream());
        }
        let events = events.map(|events| {
            let may_open = asked.may_open.as_ref().filter(|_| head.status.is_success());
            let owner = asked.owner(table).map(|(_, _, owner)| owner);
            let endpoint = |host| self.endpoint(member, host, owner, room);
            events.with_endpoint(may_open.map(endpoint))
        }); // by now a session that has an id is counted, and its room is given back
        let idle = table
            .timeouts
            .stream_idle
            .map(|limit| (limit, proxy.ticker.deadline()));
        let relay = Relay::new(
            upstream,
            exchange.clone(),
            asked.departure(),
            idle,
            events,
            proxy.watch.clone(),
            Work { in_flight, visit },
        )
        .with_carriers(carriers);
        let body = if read.is_empty() {
            Answer::Relay(relay)
        } else {
            Answer::Begun(read, Box::new(relay))
        };
        Ok(Response::from_parts(head, body))
    }

    /// Counts the answer's session as live until the answer has ended, or for the last time.
    fn visit(&self, id: &[u8], load: &Arc<Load>, status: StatusCode) -> Option<Visit> {
        let (sessions, asked) = (&self.proxy.sessions, self.asked);
        // An error proves no session, and anybody can ask for one.
        let mut visit = if status.is_success() {
            sessions.visit(id, load)
        } else {
            sessions.visit_known(id, load)?
        };
        let ended = asked.method == Method::DELETE && status.is_success();
        let is_gone = status == StatusCode::NOT_FOUND && asked.is_404_of_session();
        if ended || is_gone {
            visit.end_session();
            return None;
        }
        // Now the backend has seen who it is, and had no objection.
        if visit.is_unowned()
            && status.is_success()
            && let Some((_, _, owner)) = asked.owner(self.table)
        {
            visit.belongs_to(owner);
        }
        Some(visit)
    }

    /// What is to be done in this answer's silences, if it is an event stream that can be told apart into
    /// events: neither compressed nor of a length that was announced.
    fn event_stream(&self, headers: &HeaderMap, upstream: &impl Body) -> Option<EventStream> {
        let open = upstream.size_hint().exact().is_none();
        if !open || !sse::announced(headers) || headers.contains_key(header::CONTENT_ENCODING) {
            return None;
        }
        let proxy = self.proxy;
        let comments = self.table.timeouts.stream_comment;
        let comments = comments.map(|silence| (silence, proxy.ticker.deadline()));
        // A call's answer is waited for until it is there; the other streams can be opened again.
        let ending = (self.asked.method == Method::GET)
            .then(|| Ending::new(proxy.ticker.clone(), proxy.random.borrow_mut().f32()));
        Some(EventStream::new(comments, ending))
    }

    /// What pins the `endpoint` event, should the stream begin with one. Until it has passed, or the stream has
    /// ended, `room` counts for the session of `owner`.
    fn endpoint(
        &self,
        member: Member,
        host: &HeaderValue,
        owner: Option<Owner>,
        room: Room,
    ) -> Endpoint {
        let index = self.table.index_of(self.pool);
        let (table, sessions) = (Rc::clone(self.table), self.proxy.sessions.clone());
        let (prefix, asker) = (
            self.pool.options.strip_prefix.clone(),
            self.asked.asker.clone(),
        );
        let meter = self.proxy.meter.clone();
        let issue = move |query: &[u8]| {
            let pool = &table.pools[index];
            let coordinate = pool.coordinate_for(member, query);
            let binding = asker.binding();
            let pin = table.keys.mint(Kind::Endpoint, coordinate, binding, query);
            let mut visit = sessions.visit(query, &pool.entry(member).load);
            if let Some(owner) = owner {
                visit.belongs_to(owner);
            }
            let _until_it_is_counted = &room;
            meter.session_opened();
            (pin, visit)
        };
        Endpoint::new(host.clone(), prefix, Box::new(issue))
    }
}

impl Asked {
    /// What kind of stream its answer is, if it is one.
    fn stream(&self) -> Stream {
        if self.listens || self.method == Method::GET {
            Stream::Lasting
        } else {
            Stream::OfCall
        }
    }

    fn departure(&self) -> Departure {
        match self.era {
            Era::Legacy if self.method == Method::POST => Departure::ReadOn,
            Era::Legacy | Era::Modern => Departure::Close,
        }
    }
}

/// The ids of a request whose pin was verified. The contract wants its answers to carry the client's id again.
pub(super) fn exchanged(asked: &Asked, decision: &Decision) -> Option<Exchanged> {
    match (decision.why, &asked.client_id, &decision.session) {
        // An id without a pin may go to a successor too: as it came.
        (
            Why::Pinned | Why::Carrier | Why::Successor | Why::Reinitialized,
            Some(client),
            Some(server),
        ) if client.as_bytes() != server.as_bytes() => Some(Exchanged {
            client: client.clone(),
            server: server.clone().into_value(),
        }),
        (
            Why::Pinned
            | Why::Carrier
            | Why::Successor
            | Why::Reinitialized
            | Why::Ring
            | Why::Affinity(_)
            | Why::Placed
            | Why::Home,
            _,
            _,
        ) => None,
    }
}

/// The client's id for a backend's: with a pin to one of that backend's own virtual nodes.
fn pinned(
    table: &RoutingTable,
    pool: &Pool,
    asker: &Asker,
    member: Member,
    id: &ServerSessionId,
) -> HeaderValue {
    let coordinate = pool.coordinate_for(member, id.as_bytes());
    let pin = table
        .keys
        .mint(Kind::Session, coordinate, asker.binding(), id.as_bytes());
    let mut text = Vec::with_capacity(id.as_bytes().len() + PIN_LEN);
    text.extend_from_slice(id.as_bytes());
    text.push(b'-');
    text.extend_from_slice(&pin);
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("an id and a pin are visible ASCII")
}
