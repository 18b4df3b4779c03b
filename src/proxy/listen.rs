//! `subscriptions/listen` over all backends of a pool: one stream of the client, one to each backend, merged.
//!
//! A server tells of what happens in its own process only, so that the stream of one replica misses what the others
//! do. Where a pool says `listen_streams = "fan-out"`, this takes the place of the fourth and the fifth phase for that
//! one method: each backend that is open gets the request, with those tasks of it that it holds itself; the first
//! answer that is a stream begins the client's. If nobody can be reached, the request goes on as any other. Events
//! are never taken apart, nor made up: what is merged is only the acknowledgement, which leaves once.

mod member;
mod members;
mod merge;
mod opener;
mod stream;
mod wanted;

use std::{future::poll_fn, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header, request};

use self::{
    member::Opened,
    members::{Members, Parts},
    opener::Opener,
    stream::{Client, First, Stream},
    wanted::Wanted,
};
use super::{
    Proxy,
    body::{Answer, Ending, EventStream, Merged},
    carriers::{self, Carrying, Tasks},
    deliver::{Delivered, Delivery},
    error::ProxyError,
    headers,
    room::Room,
};
use crate::{
    config::ListenStreams,
    mcp::{era, listen},
    router::{
        Decision,
        table::{Pool, Snapshot},
    },
};

/// A request that is to hear all backends, if it is one.
pub(super) fn of(pool: &Pool, carrying: Option<&Carrying>) -> Option<listen::Request> {
    match pool.options.listen_streams {
        ListenStreams::One => None,
        ListenStreams::FanOut => listen::Request::read(carrying?.filter()?),
    }
}

impl Proxy {
    /// Answers a `request` with this head by the streams of all backends. `decision` is where it would go alone.
    pub(super) async fn listen(
        &self,
        table: &Snapshot,
        delivery: &Delivery<'_>,
        head: request::Parts,
        request: listen::Request,
        decision: Decision,
    ) -> Result<Response<Answer>, ProxyError> {
        let pool = delivery.pool;
        let mut stream = self.open_streams(table, delivery, head, request, &decision);
        let mut first = poll_fn(|cx| stream.poll_first(cx)).await;
        if matches!(first, First::Nothing) {
            // It waits as any other does, and is answered so.
            let opener = stream.members().opener();
            let request = opener.request(pool.entry(decision.member));
            let delivered = delivery.run(decision, request).await?;
            let member = delivered.member;
            let opened = opener.opened(table, pool, member, delivered.in_flight);
            first = stream.adopt(pool.entry(member), opened(delivered.response));
        }
        match first {
            First::Stream((status, headers)) => begin(delivery, stream, status, headers),
            First::Refusal(opened) => self.refuse_listen(table, delivery, *opened).await,
            First::Nothing => unreachable!("an answer is a stream or a refusal"),
        }
    }

    /// Asks every backend that is to be heard.
    fn open_streams(
        &self,
        table: &Snapshot,
        delivery: &Delivery<'_>,
        head: request::Parts,
        request: listen::Request,
        decision: &Decision,
    ) -> Stream {
        let (pool, timeouts) = (delivery.pool, &table.timeouts);
        let first = &pool.entry(decision.member).backend.name;
        let wanted = Wanted::split(request, first, table, pool);
        let own_host = headers::needs_host(&head.headers, pool.options.host);
        let (client, ticker) = (self.client.clone(), self.ticker.clone());
        let changes = self.tables.changes();
        let members = Members::open(Parts {
            opener: Opener::new(client, ticker.clone(), head, own_host, wanted),
            table: Rc::clone(table),
            pool: pool.options.name.clone(),
            reporter: self.reporter.clone(),
            sessions: self.sessions.clone(),
            ticker: ticker.clone(),
            random: fastrand::Rng::with_seed(self.random.borrow_mut().u64(..)),
        });
        let deadline = |time: Duration| (time, ticker.deadline());
        let ending = Ending::new(ticker.clone(), self.random.borrow_mut().f32());
        let comments = timeouts.stream_comment.map(deadline);
        let client = Client {
            exchange: delivery.exchange.clone(),
            events: EventStream::new(comments, Some(ending)),
            idle: timeouts.stream_idle.map(deadline),
            watch: self.watch.clone(),
            ticker: ticker.clone(),
        };
        Stream::new(members, changes, client)
    }

    /// Nobody lets it listen: the first answer is the client's, as it would be without the others.
    async fn refuse_listen(
        &self,
        table: &Snapshot,
        delivery: &Delivery<'_>,
        opened: Opened,
    ) -> Result<Response<Answer>, ProxyError> {
        let (pool, exchange) = (delivery.pool, delivery.exchange);
        let backend = &pool.entry(opened.place).backend;
        exchange.routed(backend.name.as_str(), stream::ROUTE);
        let mut delivered = Delivered {
            member: opened.place,
            in_flight: opened.in_flight,
            room: Room::default(),
            response: opened.response,
            read: Bytes::new(),
            carriers: None,
        };
        carriers::pin(table, pool, &mut delivered, Tasks::new()).await?;
        self.answer(table, pool, delivered, None, delivery.asked, exchange)
    }
}

/// The answer whose body is `stream`, with the head of the first of those that it is made of.
fn begin(
    delivery: &Delivery<'_>,
    stream: Stream,
    status: StatusCode,
    mut headers: HeaderMap,
) -> Result<Response<Answer>, ProxyError> {
    headers.remove(era::SESSION_ID); // it belongs to none
    headers.remove(header::CONTENT_LENGTH);
    headers::to_client(&mut headers, None, |id| id.clone().into_value())?;
    delivery.exchange.answered(status, "");
    let mut response = Response::new(Answer::Merged(Merged::new(stream)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}
