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

use std::{future::poll_fn, pin::Pin, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header, request};

use self::{
    member::Opened,
    members::{Members, Parts},
    opener::Opener,
    stream::{Client, First, Stream},
    wanted::Wanted,
};
use super::{
    body::{Answer, Ending, EventStream, Held, Merged},
    carriers::{Carrying, Tasks},
    deliver::{Delivered, Delivery},
    error::ProxyError,
    headers,
    room::Room,
    taken,
};
use crate::{
    config::ListenStreams,
    mcp::{era, listen},
    observe::{self, Route},
    router::Decision,
};

/// The longest request that is split by backends; a longer one hears one backend. Each id in it takes many times its own
/// length in memory, for as long as the client listens, and is looked for among all others.
const LONGEST_FILTER: usize = 64 * 1024;

/// An answer on its way.
type Answering<'a> = Pin<Box<dyn Future<Output = Result<Response<Answer>, ProxyError>> + 'a>>;

impl Delivery<'_> {
    /// Answers a request that is to hear all backends, if it is one, by the streams of all: `carrying` is its body, and
    /// `decision` where it would go alone. Both the body and the head are taken then.
    pub(super) fn fan_out(
        &self,
        carrying: &mut Option<Box<Carrying>>,
        head: &mut request::Parts,
        decision: &Decision,
    ) -> Option<Answering<'_>> {
        match self.pool.options.listen_streams {
            ListenStreams::One => None,
            ListenStreams::FanOut => {
                let body = carrying.as_ref()?.filter()?;
                if body.len() > LONGEST_FILTER {
                    return None;
                }
                let request = listen::Request::read(body)?;
                let held = carrying.take()?.into_held();
                let stream = self.open_streams(taken(head), (request, held), decision);
                Some(Box::pin(self.listen(stream, decision.clone())))
            }
        }
    }

    async fn listen(
        &self,
        mut stream: Stream,
        decision: Decision,
    ) -> Result<Response<Answer>, ProxyError> {
        let mut first = poll_fn(|cx| stream.poll_first(cx)).await;
        if matches!(first, First::Nothing) {
            // It waits as any other does, and is answered so.
            let opener = stream.members().opener();
            let (head, body) = opener
                .request(self.pool.entry(decision.member))
                .into_parts();
            let asked = head.clone();
            let mut request = Some(Request::from_parts(head, body));
            let mut delivered = self.run(decision, &mut request).await?;
            let member = delivered.member;
            opener.undoes(self.table, self.pool.entry(member), &asked)(&mut delivered.response);
            let opened = opener.opened(self.table, self.pool, member, delivered.in_flight);
            first = stream.adopt(self.pool.entry(member), opened(delivered.response));
        }
        match first {
            First::Stream((status, headers)) => self.begin(stream, status, headers),
            First::Refusal(opened) => self.refuse_listen(*opened).await,
            First::Nothing => unreachable!("an answer is a stream or a refusal"),
        }
    }

    /// Asks every backend that is to be heard.
    fn open_streams(
        &self,
        head: request::Parts,
        (request, held): (listen::Request, Held),
        decision: &Decision,
    ) -> Stream {
        let (proxy, table, pool) = (self.proxy, self.table, self.pool);
        let first = &pool.entry(decision.member).backend.name;
        let asker = self.asked.asker.clone();
        let wanted = Wanted::split(request, asker, first, table, pool);
        let own_host = self.asked.needs_host(pool);
        let (client, ticker) = (proxy.client.clone(), proxy.ticker.clone());
        let changes = proxy.tables.changes();
        let mut members = Members::open(Parts {
            opener: Opener::new(
                (client, ticker.clone(), self.exchange.clone()),
                head,
                own_host,
                (wanted, held),
            ),
            table: Rc::clone(table),
            pool: pool.options.name.clone(),
            reporter: proxy.reporter.clone(),
            sessions: proxy.sessions.clone(),
            ticker: ticker.clone(),
            random: fastrand::Rng::with_seed(proxy.random.borrow_mut().u64(..)),
        });
        members.follow(changes.seen()); // it may be newer than what the request is routed by
        let deadline = |time: Duration| (time, ticker.deadline());
        let ending = Ending::new(ticker.clone(), proxy.random.borrow_mut().f32());
        let comments = table.timeouts.stream_comment.map(deadline);
        let client = Client {
            exchange: self.exchange.clone(),
            events: EventStream::new(comments, Some(ending)),
            idle: table.timeouts.stream_idle.map(deadline),
            watch: proxy.watch.clone(),
            ticker: ticker.clone(),
        };
        Stream::new(members, changes, client)
    }

    /// The answer whose body is `stream`, with the head of the first of those that it is made of.
    fn begin(
        &self,
        stream: Stream,
        status: StatusCode,
        mut headers: HeaderMap,
    ) -> Result<Response<Answer>, ProxyError> {
        headers.remove(era::SESSION_ID); // it belongs to none
        headers.remove(header::CONTENT_LENGTH);
        headers::to_client(&mut headers, None, |id| id.clone().into_value())?;
        self.exchange.answered(status, false);
        self.exchange.streams(observe::Stream::Lasting);
        let mut response = Response::new(Answer::Merged(Merged::new(stream)));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// Nobody lets it listen: the first answer is the client's, as it would be without the others.
    async fn refuse_listen(&self, opened: Opened) -> Result<Response<Answer>, ProxyError> {
        let entry = self.pool.entry(opened.place);
        let name = entry.backend.name.as_str();
        self.exchange.routed(name, &entry.traffic, Route::FanOut);
        let mut delivered = Delivered {
            member: opened.place,
            in_flight: opened.in_flight,
            room: Room::default(),
            response: opened.response,
            read: Bytes::new(),
            carriers: None,
        };
        self.pin(&mut delivered, Tasks::new()).await?;
        self.answer(delivered, None)
    }
}
