//! Brings the carriers of bodies home: reads the requests that may hold some, takes the pins off, and puts them on
//! what the backend makes.
//!
//! Design, section 3, "Carriers in bodies": only requests of 2026-07-28, of methods that can carry, and only in pools
//! with `read_bodies`. The phases of a request see [`Carrying`]; where it goes is the router's business.

use std::{collections::HashMap, rc::Rc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header, request};
use hyper::body::Body as _;

use super::{
    body::{self, Budget, Collected, Held, Passing, RequestBody},
    deliver::{Delivered, Delivery},
    error::ProxyError,
    message_id::MessageId,
};
use crate::{
    mcp::{
        Modern, era,
        jsonrpc::Id,
        modern::{Carried, Carries},
        sentinel,
        splice::{self, Carrier},
        sse,
    },
    pin::{PIN_LEN, TEXT_LEN},
    ring::Member,
    router::{
        asker::Asker,
        carriers::{self, Says},
        table::{Pool, Snapshot},
    },
};

/// An answer of an announced length up to this is collected, and gets its new length; a longer one is sent in chunks.
const MOST_COLLECTED: usize = 64 * 1024;

/// A request that may hold carriers, read.
pub(super) struct Carrying {
    carries: Carries,
    body: Body,
}

enum Body {
    Read(splice::Request, Held),
    /// Longer than is read: it passes as it is.
    Longer(RequestBody),
}

/// The tasks that a request has named, by the backend's own id, each with the client's pin: a client knows its tasks by
/// the whole id, which must stay the same when another secret signs.
pub(super) type Tasks = HashMap<Box<str>, [u8; PIN_LEN]>;

impl Carrying {
    /// Reads a request, if it may hold carriers and its pool allows that. `body` begins its body, of which up to `most`
    /// bytes are read, if `budget` has room for them.
    ///
    /// # Errors
    ///
    /// When the body breaks off, or there is no room.
    pub(super) async fn of(
        modern: &mut Modern,
        pool: Option<&Pool>,
        headers: &HeaderMap,
        (most, budget): (usize, Budget<'_>),
        body: impl FnOnce() -> Passing,
    ) -> Result<Option<Box<Self>>, ProxyError> {
        let may_be_read = pool.is_some_and(|pool| pool.options.read_bodies);
        match modern.carries {
            Carries::InBody | Carries::InFilter | Carries::InBodyAndName if may_be_read => {
                let read = Box::pin(Self::read(modern, headers, body(), most, budget));
                Ok(Some(Box::new(read.await?)))
            }
            Carries::Nothing | Carries::InBody | Carries::InFilter | Carries::InBodyAndName => {
                Ok(None)
            }
        }
    }

    /// Reads the body, and notes in `modern` what was found.
    async fn read(
        modern: &mut Modern,
        headers: &HeaderMap,
        body: Passing,
        most: usize,
        budget: Budget<'_>,
    ) -> Result<Self, ProxyError> {
        let carries = modern.carries;
        let body = match body.collect(most, budget).await? {
            Collected::NoRoom => return Err(ProxyError::BodiesFull),
            Collected::Longer(body) => Body::Longer(body),
            Collected::Whole(body, held) => {
                let read = splice::Request::read(body);
                let found = read.found().iter().map(|found| Carried {
                    carrier: found.carrier,
                    string: found.string.clone(),
                });
                modern.carriers = named(carries, headers).into_iter().chain(found).collect();
                Body::Read(read, held)
            }
        };
        Ok(Self { carries, body })
    }

    /// Whether it is longer than what is read.
    pub(super) fn is_unread(&self) -> bool {
        matches!(self.body, Body::Longer(_))
    }

    /// The body of a `subscriptions/listen`, if it was read.
    pub(super) fn filter(&self) -> Option<&Bytes> {
        match (self.carries, &self.body) {
            (Carries::InFilter, Body::Read(read, _)) => Some(read.body()),
            (Carries::InFilter, Body::Longer(_))
            | (Carries::Nothing | Carries::InBody | Carries::InBodyAndName, _) => None,
        }
    }

    /// What is held of the body, for those who keep it.
    pub(super) fn into_held(self) -> Held {
        match self.body {
            Body::Read(_, held) => held,
            Body::Longer(_) => Held::default(),
        }
    }

    /// Where the id of the request is, if it has been read.
    pub(super) fn message_id(&self) -> Option<Box<MessageId>> {
        let id = match &self.body {
            // The buffer of the connection stays with it anyhow.
            Body::Read(read, held) if held.is_nothing() => MessageId::Within(read.clone()),
            Body::Read(read, _) => MessageId::Read(Id::try_new(read.id()?)?),
            Body::Longer(_) => return None,
        };
        Some(Box::new(id))
    }

    /// Takes what the client is still sending off its hands.
    pub(super) fn discard(self) {
        match self.body {
            Body::Read(..) => {}
            Body::Longer(body) => body.discard(false),
        }
    }

    /// Makes the request what the backend at `member` is to see. The tasks are for [`Delivery::pin`].
    pub(super) fn strip(
        self,
        delivery: &Delivery<'_>,
        member: Member,
        head: &mut request::Parts,
    ) -> (RequestBody, Option<Tasks>) {
        // What is compressed cannot be pinned.
        let identity = HeaderValue::from_static("identity");
        head.headers.insert(header::ACCEPT_ENCODING, identity);
        let (read, held) = match self.body {
            Body::Read(read, held) => (read, held),
            Body::Longer(body) => return (body, Some(Tasks::new())),
        };
        let (mut tasks, asker) = (Tasks::new(), &delivery.asked.asker);
        let mut own_len = |carrier: Carrier, string: &str| {
            let judged = carriers::judge(delivery.table, delivery.pool, asker, carrier, string);
            if carrier == Carrier::Task
                && judged.says == Says::Here(member)
                && let Some(pin) = string.as_bytes().last_chunk()
            {
                tasks.insert(judged.own.into(), *pin);
            }
            // What is unknown here went along with one that is good, or has stayed so for its grace, and is lost.
            (judged.says != Says::Nothing).then_some(judged.own.len())
        };
        if let Some(name) = named(self.carries, &head.headers)
            && let Some(own) = own_len(name.carrier, &name.string)
            && let Some(own) = name.string.get(..own)
        {
            head.headers.insert(era::NAME, sentinel::encode(own));
        }
        let before = read.body().len();
        let body = read.strip(|found| own_len(found.carrier, &found.string));
        if body.len() != before && head.headers.contains_key(header::CONTENT_LENGTH) {
            head.headers
                .insert(header::CONTENT_LENGTH, body.len().into());
        }
        (RequestBody::Whole(held.until_dropped(body)), Some(tasks))
    }
}

/// The task that `Mcp-Name` names.
fn named(carries: Carries, headers: &HeaderMap) -> Option<Carried> {
    match carries {
        Carries::Nothing | Carries::InBody | Carries::InFilter => None,
        Carries::InBodyAndName => {
            let name = sentinel::decode(headers.get(era::NAME)?.as_bytes())?;
            Some(Carried {
                carrier: Carrier::Task,
                string: name.into_owned(),
            })
        }
    }
}

impl Delivery<'_> {
    /// Pins what the backend has made, as far as its answer is short and there is room for it; for the rest it is told
    /// how.
    ///
    /// # Errors
    ///
    /// When a short answer breaks off.
    pub(super) async fn pin(
        &self,
        delivered: &mut Delivered,
        tasks: Tasks,
    ) -> Result<(), ProxyError> {
        let (status, headers) = (delivered.response.status(), delivered.response.headers());
        let body = delivered.response.body();
        let Some(form) = form(headers).filter(|_| !body.is_end_stream()) else {
            return Ok(());
        };
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        let length = body.size_hint().exact();
        let budget = self.proxy.bodies.up_to(self.table.limits.body_bytes_total);
        let mut held = Held::default();
        let whole = if length.is_some_and(|length| length <= MOST_COLLECTED as u64) {
            let has_room = |more| held.take(more, budget);
            delivered.read_whole(MOST_COLLECTED, has_room).await?
        } else {
            None
        };
        if let Some(whole) = &whole
            && splice::Answer::passes(whole)
        {
            delivered.read = held.until_dropped(whole.clone());
            return Ok(());
        }
        let asker = &self.asked.asker;
        let mint = mint(self.table, self.pool, asker, delivered.member, tasks);
        let mut carriers = body::Carriers::new(form, mint);
        if let Some(whole) = whole {
            delivered.read = held.until_dropped(carriers.pass(whole));
            let length = delivered.read.len().into();
            let headers = delivered.response.headers_mut();
            headers.insert(header::CONTENT_LENGTH, length);
            return Ok(());
        }
        let begun = std::mem::take(&mut delivered.read);
        delivered.read = carriers.pass(begun);
        delivered
            .response
            .headers_mut()
            .remove(header::CONTENT_LENGTH);
        delivered.carriers = Some(Box::new(carriers));
        Ok(())
    }
}

/// How a body is to be read, if it can hold carriers.
fn form(headers: &HeaderMap) -> Option<splice::Answer> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return None; // unasked: it passes untouched
    }
    if sse::announced(headers) {
        return Some(splice::Answer::events());
    }
    let media_type = headers.get(header::CONTENT_TYPE)?.as_bytes();
    let media_type = media_type.split(|byte| *byte == b';').next()?;
    let is_json = media_type
        .trim_ascii()
        .eq_ignore_ascii_case(b"application/json");
    is_json.then(splice::Answer::json)
}

/// What pins the strings of this backend for `asker`.
pub(super) fn mint(
    table: &Snapshot,
    pool: &Pool,
    asker: &Asker,
    member: Member,
    tasks: Tasks,
) -> body::Mint {
    let (index, table) = (table.index_of(pool), Rc::clone(table));
    let asker = asker.clone();
    Box::new(move |carrier, own| {
        if carrier == Carrier::Task
            && let Some(pin) = tasks.get(own)
        {
            return Some(*pin);
        }
        let coordinate = table.pools[index].coordinate_for(member, own.as_bytes());
        let kind = carriers::kind(carrier);
        let binding = asker.binding();
        let text = table.keys.mint(kind, coordinate, binding, own.as_bytes());
        let mut pin = [b'-'; PIN_LEN];
        pin[PIN_LEN - TEXT_LEN..].copy_from_slice(&text);
        Some(pin)
    })
}
