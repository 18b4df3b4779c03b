//! An answer's body on its way to the client: a backend's, or pinring's own.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::{
    carriers::Carriers,
    event_stream::{EventStream, Silence},
    read_on,
    request::RequestBody,
};
use crate::{
    net::Deadline,
    observe::{Exchange, Outcome, Stream},
    router::placement::InFlight,
    sessions::Visit,
    shutdown::{Phase, Watch},
    upstream,
};

/// What is read of a legacy POST's answer after its client has left: the Python client leaves after each
/// event that it waited for, and the rest, often one empty chunk, saves a connection for every call.
const READ_ON_BYTES: usize = 16 * 1024;
const READ_ON_TIME: Duration = Duration::from_millis(20);

/// What becomes of the backend's side when the client leaves before the end (design, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It is closed at once. A server answers 409 to a second stream while it thinks that the first lives,
    /// and in the modern era closing *is* the cancellation.
    Close,
    /// The short rest is read, so that the connection can be used again.
    ReadOn,
}

/// Why an answer's body broke off: the client sees it truncated, never as complete.
#[derive(Debug, thiserror::Error)]
pub enum BrokenOff {
    /// The backend went away.
    #[error("the backend's answer broke off")]
    Backend(#[source] upstream::Interrupted),
    /// The stream was silent for longer than `stream_idle`.
    #[error("the stream was silent for {0:?}")]
    Idle(Duration),
    /// The backend was drained, and its time has run out.
    #[error("the backend was drained, and its time has run out")]
    Lost,
    /// It was of several backends, and none is left that would go on with it.
    #[error("no backend is left that would go on with the stream")]
    Abandoned,
}

/// What an answer counts as until it has ended.
#[derive(Debug)]
pub struct Work {
    /// A request of its backend.
    pub in_flight: InFlight,
    /// A use of its session, if it belongs to one.
    pub visit: Option<Visit>,
}

/// An answer's body.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all answers are the large one, and a box is an allocation for each"
)]
#[derive(Debug)]
pub enum Answer {
    /// Of pinring itself.
    Own(Option<Bytes>, Exchange),
    /// Of a backend.
    Relay(Relay),
    /// The same, and its beginning, which was read already; empty once that is on its way.
    Begun(Bytes, Box<Relay>),
    /// Of several backends.
    Merged(Merged),
}

/// A body that somebody puts together of what several backends send.
pub struct Merged(Pin<Box<dyn Body<Data = Bytes, Error = BrokenOff>>>);

impl Merged {
    /// Takes it.
    #[must_use]
    pub fn new(body: impl Body<Data = Bytes, Error = BrokenOff> + 'static) -> Self {
        Self(Box::pin(body))
    }
}

impl fmt::Debug for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merged").finish_non_exhaustive()
    }
}

/// A backend's body, passed on frame by frame.
pub struct Relay {
    /// `None` once the end was reached.
    upstream: Option<upstream::Body<RequestBody>>,
    exchange: Exchange,
    departure: Departure,
    idle: Option<(Duration, Deadline)>,
    events: Option<EventStream>,
    /// Boxed: most answers hold none.
    carriers: Option<Box<Carriers>>,
    watch: Watch,
    /// Why the body broke off, until the next poll tells it.
    broken: Option<BrokenOff>,
    work: Work,
}

impl Relay {
    /// Passes `upstream` on.
    #[must_use]
    pub fn new(
        upstream: upstream::Body<RequestBody>,
        exchange: Exchange,
        departure: Departure,
        idle: Option<(Duration, Deadline)>,
        events: Option<EventStream>,
        watch: Watch,
        work: Work,
    ) -> Self {
        if let Some((limit, deadline)) = &idle {
            deadline.set(*limit);
        }
        Self {
            upstream: Some(upstream),
            exchange,
            departure,
            idle,
            events,
            carriers: None,
            watch,
            broken: None,
            work,
        }
    }

    /// The same, of one that may hold carriers. Its length is then unknown.
    #[must_use]
    pub fn with_carriers(mut self, carriers: Option<Box<Carriers>>) -> Self {
        self.carriers = carriers;
        self
    }

    fn stream(&self) -> Stream {
        match &self.events {
            None => Stream::No,
            Some(events) if events.lasts() => Stream::Lasting,
            Some(_) => Stream::OfCall,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none() && self.upstream.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.upstream {
            Some(_) if self.carriers.is_some() => SizeHint::default(),
            Some(upstream) => upstream.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }

    fn passed(&mut self, data: &Bytes) {
        self.exchange.sent(data.len());
        if let Some((limit, deadline)) = &self.idle {
            deadline.set(*limit);
        }
        if let Some(events) = &mut self.events {
            events.passed(data);
        }
        if self.upstream.as_ref().is_some_and(Body::is_end_stream) {
            self.finish(Outcome::Complete);
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        self.upstream = None;
        self.exchange.end(outcome);
    }

    /// Nothing has come from the backend: is it time to say something, or to end all the same?
    fn poll_silence(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(events) = &mut self.events
            && let Poll::Ready(silence) = events.poll_silence(self.watch.phase(), cx)
        {
            return Poll::Ready(match silence {
                Silence::Comment(comment) => Some(Ok(Frame::data(comment))),
                Silence::End => {
                    self.finish(Outcome::Drained);
                    None
                }
            });
        }
        let Some((limit, deadline)) = &self.idle else {
            return Poll::Pending;
        };
        ready!(deadline.poll_expired(cx));
        let limit = *limit;
        self.finish(Outcome::Idle);
        Poll::Ready(Some(Err(BrokenOff::Idle(limit))))
    }

    /// What the backend held is lost: a stream that can be opened again ends between two events, and what is
    /// waited for breaks off.
    fn poll_lost(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.finish(Outcome::Drained);
        if self.events.as_ref().is_some_and(EventStream::may_end) {
            return Poll::Ready(None);
        }
        self.break_off(BrokenOff::Lost, cx)
    }

    /// What hyper holds, the head above all, is flushed between this poll and the next: an error at once would
    /// drop it, and the client would see nothing at all.
    fn break_off(
        &mut self,
        why: BrokenOff,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.broken = Some(why);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.upstream.is_some() && self.work.in_flight.is_to_end(self.watch.round()) {
            return self.poll_lost(cx);
        }
        loop {
            let Some(upstream) = &mut self.upstream else {
                return Poll::Ready(self.broken.take().map(Err));
            };
            match Pin::new(upstream).poll_frame(cx) {
                Poll::Pending => return self.poll_silence(cx),
                Poll::Ready(None) => {
                    let held_back = self.events.as_mut().map(EventStream::finish);
                    if let Some(data) = held_back.filter(|data| !data.is_empty()) {
                        self.passed(&data);
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    self.finish(Outcome::Complete);
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    if let Some(visit) = &self.work.visit {
                        visit.doubt_backend();
                    }
                    self.finish(Outcome::BackendGone);
                    return self.break_off(BrokenOff::Backend(error), cx);
                }
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else {
                        continue; // a trailer: dropped
                    };
                    let data = match &mut self.events {
                        Some(events) => events.pass(data),
                        None => data,
                    };
                    let data = match &mut self.carriers {
                        Some(carriers) => carriers.pass(data),
                        None => data,
                    };
                    if !data.is_empty() {
                        self.passed(&data);
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let Some(upstream) = self.upstream.take() else {
            return;
        };
        // Before the backend sees that it is over: by then there is room for the next session.
        (self.events, self.work.visit) = (None, None);
        if upstream.is_end_stream() {
            self.exchange.end(Outcome::Complete); // an answer without a body is never polled
            return;
        }
        let cut = self.watch.phase() == Phase::Forced;
        self.exchange.end(if cut {
            Outcome::Drained
        } else {
            Outcome::ClientLeft
        });
        if self.departure == Departure::ReadOn && !cut {
            tokio::task::spawn_local(read_on(upstream, READ_ON_BYTES, READ_ON_TIME));
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("departure", &self.departure)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// Whether it is an event stream, as far as that can be seen of the body alone.
    #[must_use]
    pub fn stream(&self) -> Stream {
        match self {
            Self::Own(..) => Stream::No,
            Self::Relay(relay) => relay.stream(),
            Self::Begun(_, relay) => relay.stream(),
            Self::Merged(_) => Stream::Lasting,
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut *self {
            Self::Own(body, exchange) => {
                let body = body.take();
                if let Some(body) = &body {
                    exchange.sent(body.len());
                }
                Poll::Ready(body.map(|body| Ok(Frame::data(body))))
            }
            Self::Relay(relay) => relay.poll(cx),
            Self::Begun(read, relay) if read.is_empty() => relay.poll(cx),
            Self::Begun(read, relay) => {
                let read = std::mem::take(read);
                relay.passed(&read);
                Poll::Ready(Some(Ok(Frame::data(read))))
            }
            Self::Merged(merged) => merged.0.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body, _) => body.is_none(),
            Self::Relay(relay) => relay.is_end_stream(),
            Self::Begun(read, relay) => read.is_empty() && relay.is_end_stream(),
            Self::Merged(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body, _) => SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64),
            Self::Relay(relay) => relay.size_hint(),
            Self::Begun(read, relay) => super::longer(&relay.size_hint(), read.len()),
            Self::Merged(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_few_answers_need_takes_no_room_in_one() {
        // Each open stream has one.
        let size = size_of::<Answer>();
        assert!(size <= 352, "{size}");
    }
}
