//! Opens the streams of one client's request at its backends, now and whenever one is to be opened again.

use http::{HeaderValue, Request, header, request};

use super::{
    member::{Answer, Opened, Opening},
    wanted::Wanted,
};
use crate::{
    mcp::{era, splice},
    net::Ticker,
    observe::{Exchange, Route, tally::Word as _},
    proxy::{
        body::{Carriers, Held, RequestBody},
        carriers, error, headers, options,
        room::{self, Undoing},
    },
    ring::Member,
    router::{
        asker::Asker,
        placement::InFlight,
        table::{Entry, Pool, Snapshot},
    },
    upstream::{Client, Target},
};

/// See the module. It keeps the request as long as the client listens.
pub(super) struct Opener {
    client: Client<RequestBody>,
    ticker: Ticker,
    exchange: Exchange,
    head: request::Parts,
    /// Each backend gets its own Host.
    own_host: bool,
    wanted: Wanted,
    /// The body counts as long as it may be sent again.
    _held: Held,
}

impl Opener {
    /// Opens streams with this head, which is as a backend is to see it, but for what differs from one to the other.
    pub(super) fn new(
        (client, ticker, exchange): (Client<RequestBody>, Ticker, Exchange),
        mut head: request::Parts,
        own_host: bool,
        (wanted, held): (Wanted, Held),
    ) -> Self {
        // What is compressed cannot be merged.
        let identity = HeaderValue::from_static("identity");
        head.headers.insert(header::ACCEPT_ENCODING, identity);
        head.headers.remove(header::EXPECT); // the body is here
        head.extensions.clear();
        Self {
            client,
            ticker,
            exchange,
            head,
            own_host,
            wanted,
            _held: held,
        }
    }

    /// Which backends are to be heard.
    pub(super) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The request that this backend gets.
    pub(super) fn request(&self, entry: &Entry) -> Request<RequestBody> {
        let name = &entry.backend.name;
        let (mut head, body) = (self.head.clone(), self.wanted.body_for(name));
        let length = HeaderValue::from(body.len());
        head.headers.insert(header::CONTENT_LENGTH, length);
        if self.own_host {
            headers::set_host(&mut head.headers, &entry.backend.endpoint.authority());
        }
        if !self.wanted.is_first(name) {
            head.headers.remove(era::SESSION_ID); // it is another's
        }
        Request::from_parts(head, RequestBody::Whole(body))
    }

    /// Takes the session off that an answer has issued, where sessions are somebody's, or counted: it is not for the
    /// client, whose stream is of several servers. `asked` is the request's head.
    pub(super) fn undoes(
        &self,
        table: &Snapshot,
        entry: &Entry,
        asked: &request::Parts,
    ) -> impl FnOnce(&mut Answer) + use<> {
        let is_nobody_s = *self.wanted.asker() == Asker::Nobody;
        let is_wanted = is_nobody_s || room::is_limited(table);
        let undoing =
            (is_wanted && !asked.headers.contains_key(era::SESSION_ID)).then(|| Undoing {
                client: self.client.clone(),
                deadline: self.ticker.deadline(),
                options: options(table),
                backend: entry.id,
                endpoint: entry.backend.endpoint.clone(),
                head: Box::new(asked.clone()),
            });
        move |answer| {
            let may_be_left = !is_nobody_s && !answer.status().is_success(); // an error proves no session
            if let Some(undoing) = undoing.filter(|_| !may_be_left)
                && let Some(id) = answer.headers_mut().remove(era::SESSION_ID)
            {
                undoing.end(id);
            }
        }
    }

    /// Sends the request to one backend.
    pub(super) fn open(&self, table: &Snapshot, pool: &Pool, member: Member) -> Opening {
        let entry = pool.entry(member);
        let (mut asked, body) = self.request(entry).into_parts();
        let undo = self.undoes(table, entry, &asked);
        let attempt = self
            .exchange
            .attempt(entry.backend.name.as_str(), Route::FanOut);
        if let Some(attempt) = &attempt {
            attempt.departs(&mut asked.headers);
        }
        let mut request = Some(Request::from_parts(asked, body));
        let (client, options) = (self.client.clone(), options(table));
        let (id, endpoint) = (entry.id, entry.backend.endpoint.clone());
        // It opens something, and need not run any tool before it answers.
        let (deadline, limit) = (self.ticker.deadline(), table.timeouts.open_head);
        let opened = self.opened(table, pool, member, entry.load.enter());
        Box::pin(async move {
            let target = Target {
                id,
                endpoint: &endpoint,
            };
            let answered = client.send(target, &mut request, || options, (&deadline, limit));
            let answered = answered.await;
            match (&answered, attempt) {
                (_, None) => {}
                (Ok(response), Some(attempt)) => attempt.answered(response.status()),
                (Err(failure), Some(attempt)) => {
                    attempt.failed(error::upstream(failure).reason.as_str());
                }
            }
            let mut response = answered?;
            undo(&mut response);
            Ok(opened(response))
        })
    }

    /// What an answer of this backend is read with.
    pub(super) fn opened(
        &self,
        table: &Snapshot,
        pool: &Pool,
        member: Member,
        in_flight: InFlight,
    ) -> impl FnOnce(Answer) -> Opened + use<> {
        let tasks = self.wanted.tasks_of(&pool.entry(member).backend.name);
        let mint = carriers::mint(table, pool, self.wanted.asker(), member, tasks);
        let carriers = Carriers::new(splice::Answer::events(), mint);
        let longest = table.limits.body_bytes;
        move |response| Opened {
            place: member,
            response,
            in_flight,
            carriers,
            longest,
        }
    }
}
