//! Sends one request over a connection of HTTP/1.1 that it has to itself, driven by the request's own task.
//!
//! No task is woken for another, and nothing is allocated that a request does not need: buffers are the thread's. It is
//! our own where hyper's client would do, for that: half the instructions of a request, and no state for a stream that is
//! silent. The rules are strict, see [`head`] and [`framing`], and a connection goes back to the pool only if both messages
//! have ended exactly where they should.

mod answer;
mod connection;
pub mod framing;
pub mod head;
mod pool;
mod request;

use std::{
    future::poll_fn,
    io, mem,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Method, Request, Response, StatusCode};

pub(super) use self::{
    answer::Answer,
    connection::{Connection, Shared},
};
use self::{
    answer::Lease,
    head::{Delimited, Head, Limits, Malformed},
};
use super::{Failure, Interrupted, Options, Replay};
use crate::{backend::BackendId, net::Deadline};

/// Most bytes of interim answers (1xx): a backend that sends nothing else would keep a client waiting, and a core busy,
/// for as long as the answer may take to begin.
const MOST_INTERIM: usize = 256 * 1024;

/// A connection to this backend that can take a request now, as far as is known. The task of `cx` wakes when something
/// comes over it.
pub(super) fn checkout(shared: &Shared, id: BackendId, cx: &mut Context<'_>) -> Option<Connection> {
    shared.pool.checkout(id, cx)
}

/// Sends `request` as [`super::Client::send`] does. It is left if the backend has seen nothing.
pub(super) async fn exchange<B>(
    shared: &Rc<Shared>,
    connection: Connection,
    id: BackendId,
    request: &mut Option<Request<B>>,
    options: &impl Fn() -> Options,
    (deadline, limit): (&Deadline, Duration),
) -> Result<Response<Answer<B>>, Failure>
where
    B: Replay + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let asked = request.as_ref().map(Request::method);
    let of_head = asked.is_some_and(|method| *method == Method::HEAD);
    let options = options();
    let mut lease = Some(Lease {
        connection,
        shared: Rc::clone(shared),
        id,
        keep_alive: Some(options.keep_alive),
        sending: None,
    });
    let mut heads = Heads {
        limits: Limits {
            bytes: options.header_bytes,
            fields: options.headers,
        },
        of_head,
        begun: Vec::new(),
        interim: 0,
    };
    let mut is_asked = false;
    poll_fn(|cx| {
        let mut is_to_wait = false;
        if let Some(lease) = lease.as_mut().filter(|_| !is_asked) {
            lease.ask(request, cx)?;
            is_asked = true;
            // Nothing had come when the connection was taken, and it is watched since then.
            is_to_wait = lease.sending.is_none() && lease.connection.is_watched();
        }
        if !is_to_wait && let Poll::Ready(answered) = heads.poll(&mut lease, cx) {
            return Poll::Ready(answered);
        }
        deadline
            .poll_expired(cx)
            .map(|()| Err(Failure::HeadTimeout(limit)))
    })
    .await
}

/// Reads heads up to the one of the answer.
struct Heads {
    limits: Limits,
    /// Whether the request asks for nothing else.
    of_head: bool,
    /// What has come of a head that was not there at once.
    begun: Vec<u8>,
    /// Bytes of interim answers.
    interim: usize,
}

impl Heads {
    /// Sends what is left of the request, and reads. `lease` is taken with the answer.
    fn poll<B>(
        &mut self,
        lease: &mut Option<Lease<B>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Answer<B>>, Failure>>
    where
        B: Replay + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        loop {
            let asking = lease.as_mut().expect("no answer has come");
            asking.poll_send(cx)?;
            let shared = Rc::clone(&asking.shared);
            let mut read = shared.reading.borrow_mut();
            let length = match ready!(asking.connection.poll_read(cx, &mut read)) {
                Ok(0) => return Poll::Ready(Err(Failure::Closed(Interrupted::Closed))),
                Ok(length) => length,
                // TLS has found something else in its place.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Poll::Ready(Err(Failure::Malformed(error.into())));
                }
                Err(error) => return Poll::Ready(Err(Failure::Closed(error.into()))),
            };
            let (read, _) = read.split_at_mut(length);
            let taken = self.take(read, &shared, lease);
            if let Some(answer) = taken.map_err(|error| Failure::Malformed(error.into()))? {
                return Poll::Ready(Ok(answer));
            }
        }
    }

    /// Takes what came; gives the answer if its head has ended.
    fn take<B>(
        &mut self,
        read: &mut [u8],
        shared: &Shared,
        lease: &mut Option<Lease<B>>,
    ) -> Result<Option<Response<Answer<B>>>, Malformed>
    where
        B: Replay + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if self.begun.is_empty() {
            let Some((head, at)) = self.last_head(read, shared)? else {
                return Ok(None);
            };
            return self.answer(head, &mut read[at..], lease).map(Some);
        }
        let may_have_ended = memchr::memchr(b'\n', read).is_some();
        let mut begun = mem::take(&mut self.begun);
        begun.extend_from_slice(read);
        if !may_have_ended && begun.len() <= self.limits.bytes {
            self.begun = begun;
            return Ok(None);
        }
        let Some((head, at)) = self.last_head(&begun, shared)? else {
            return Ok(None);
        };
        self.answer(head, &mut begun[at..], lease).map(Some)
    }

    /// The first head in `bytes` that is of no interim answer, and where the body begins; what has come of it otherwise
    /// is kept.
    fn last_head(
        &mut self,
        bytes: &[u8],
        shared: &Shared,
    ) -> Result<Option<(Head, usize)>, Malformed> {
        let mut at = 0;
        let map = || shared.map();
        while let Some(head) = head::parse(&bytes[at..], self.limits, map)? {
            at += head.length;
            let status = head.answer.status();
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Some((head, at)));
            }
            self.interim += head.length;
            if self.interim > MOST_INTERIM {
                return Err(Malformed::Interim);
            }
        }
        self.begun = bytes[at..].to_vec();
        Ok(None)
    }

    fn answer<B>(
        &self,
        Head { answer, behind, .. }: Head,
        body: &mut [u8],
        lease: &mut Option<Lease<B>>,
    ) -> Result<Response<Answer<B>>, Malformed>
    where
        B: Replay + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Delimited {
            framing,
            is_reusable,
        } = head::delimited(&answer, self.of_head)?;
        let mut lease = lease.take().expect("one answer comes");
        if !is_reusable {
            lease.keep_alive = None;
        }
        Ok(answer.map(|()| Answer::new(lease, framing, body, &behind)))
    }
}
