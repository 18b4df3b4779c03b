//! The stream of one backend among several: opening, open, or waiting to be opened again.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use hyper::body::Body as _;

use super::merge::Standing;
use crate::{
    backend::{BackendId, Name},
    health::Vital,
    mcp::sse::{self, Cutter, Event, TooLong},
    net::{self, Deadline, Instant},
    observe::traffic::Traffic,
    proxy::body::{Carriers, RequestBody},
    ring,
    router::{placement::InFlight, table::Entry},
    upstream::{self, Failure, Interrupted},
};

/// Before a stream is opened again, for the first time; then twice as long each time. A process that restarts is back
/// within a second or so, and one whose health is known to be good again is not waited for.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A stream that was open for so long shows that the backend is well.
const PROVEN_AFTER: Duration = Duration::from_secs(10);

/// How long to wait after `failures` in a row; `random` is from 0 to 1, so that not all clients' streams come at once.
fn pause(failures: u32, random: f32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
    doubled.min(LONGEST_PAUSE).mul_f32(0.5 + random / 2.0)
}

/// One backend of a merged stream.
pub(super) struct Member {
    pub(super) name: Name,
    /// What it was asked.
    pub(super) traffic: Arc<Traffic>,
    /// Its address.
    pub(super) id: BackendId,
    /// Whether it was well when last seen.
    pub(super) was_healthy: bool,
    /// Whether it has spoken since its stream was opened.
    has_spoken: bool,
    /// Whether its refusal has been told.
    pub(super) was_refused: bool,
    state: State,
    /// [`Standing::Over`] from the end of its stream until another one is open, or has broken off.
    standing: Standing,
    failures: u32,
}

enum State {
    Opening(Opening),
    Open(Box<Stream>),
    /// To be opened again then.
    Waiting(Deadline),
}

/// A request on its way.
pub(super) type Opening = Pin<Box<dyn Future<Output = Result<Opened, Failure>>>>;

/// What a backend answers.
pub(super) type Answer = Response<upstream::Body<RequestBody>>;

/// The same, and what belongs to it.
pub(super) struct Opened {
    /// Whose it is, in the table that it was asked by.
    pub(super) place: ring::Member,
    pub(super) response: Answer,
    pub(super) in_flight: InFlight,
    /// What pins its tasks.
    pub(super) carriers: Carriers,
    /// Most bytes of an event.
    pub(super) longest: usize,
}

struct Stream {
    body: upstream::Body<RequestBody>,
    carriers: Carriers,
    cutter: Cutter,
    /// What has not been cut yet.
    chunk: Bytes,
    since: Instant,
    _in_flight: InFlight,
}

/// What has happened.
pub(super) enum Step {
    /// The stream is open. With the status and headers of the answer.
    Accepted(Box<(StatusCode, HeaderMap)>),
    /// The answer is no stream of events.
    Refused(Box<Opened>),
    /// There is no answer.
    Failed(Failure),
    /// The backend says something.
    Said(Event),
    /// Its stream ended without a word.
    BrokeOff(Option<Interrupted>),
    /// Its stream cannot be read.
    Spoiled(TooLong),
    /// It is time to open it again.
    Again,
}

impl Member {
    /// One that is opened now.
    pub(super) fn opening(entry: &Entry, opening: Opening) -> Self {
        Self::new(entry, State::Opening(opening))
    }

    /// One that is opened soon.
    pub(super) fn joining(entry: &Entry, again: Deadline, random: f32) -> Self {
        again.set(pause(0, random));
        Self::new(entry, State::Waiting(again))
    }

    fn new(entry: &Entry, state: State) -> Self {
        Self {
            name: entry.backend.name.clone(),
            traffic: Arc::clone(&entry.traffic),
            id: entry.id,
            was_healthy: entry.vital == Vital::Healthy,
            has_spoken: false,
            was_refused: false,
            state,
            standing: Standing::Wanted,
            failures: 0,
        }
    }

    pub(super) fn is_opening(&self) -> bool {
        matches!(self.state, State::Opening(_))
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// How it stands to the client's stream.
    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether it may still say its first word.
    pub(super) fn is_awaited(&self) -> bool {
        match self.state {
            State::Opening(_) => true,
            State::Open(_) => !self.has_spoken,
            State::Waiting(_) => false,
        }
    }

    /// It has said something.
    pub(super) fn spoke(&mut self) {
        self.has_spoken = true;
    }

    /// Opens it anew.
    pub(super) fn open(&mut self, opening: Opening) {
        self.state = State::Opening(opening);
    }

    /// Takes an answer that was had elsewhere, if it is a stream of events; else gives it back.
    pub(super) fn accept(&mut self, opened: Opened) -> Step {
        if !is_stream(&opened.response) {
            return Step::Refused(Box::new(opened));
        }
        let (head, body) = opened.response.into_parts();
        self.has_spoken = false;
        self.standing = Standing::Wanted;
        self.state = State::Open(Box::new(Stream {
            body,
            carriers: opened.carriers,
            cutter: Cutter::new(opened.longest),
            chunk: Bytes::new(),
            since: net::now(),
            _in_flight: opened.in_flight,
        }));
        Step::Accepted(Box::new((head.status, head.headers)))
    }

    /// Its stream has ended, or was refused.
    pub(super) fn end(&mut self) {
        self.standing = Standing::Over;
    }

    /// Closes it, to be opened again after a while, which grows with each time.
    pub(super) fn wait(&mut self, again: Deadline, random: f32) {
        if let State::Open(stream) = &self.state
            && net::now().saturating_duration_since(stream.since) >= PROVEN_AFTER
        {
            self.failures = 0;
        }
        again.set(pause(self.failures, random));
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting(again);
    }

    /// It is well again: opens it soon, if it waits.
    pub(super) fn hurry(&mut self, random: f32) {
        self.failures = 0;
        if let State::Waiting(again) = &self.state {
            again.set(pause(0, random));
        }
    }

    /// What happens next. Reads no more than an event needs.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        match &mut self.state {
            State::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                Ok(opened) => Poll::Ready(self.accept(opened)),
                Err(failure) => Poll::Ready(Step::Failed(failure)),
            },
            State::Open(stream) => stream.poll(cx),
            State::Waiting(again) => {
                ready!(again.poll_expired(cx));
                Poll::Ready(Step::Again)
            }
        }
    }
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            match self.cutter.next(&mut self.chunk) {
                Ok(Some(raw)) => {
                    if let Some(event) = Event::read(&raw) {
                        return Poll::Ready(Step::Said(event));
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Step::Spoiled(error)),
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.chunk = self.carriers.pass(data);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Step::BrokeOff(Some(error))),
                None => return Poll::Ready(Step::BrokeOff(None)),
            }
        }
    }
}

/// Whether an answer can be merged: what is compressed, though nobody asked for that, cannot.
fn is_stream<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    response.status().is_success()
        && sse::announced(headers)
        && !headers.contains_key(header::CONTENT_ENCODING)
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("name", &self.name)
            .field("standing", &self.standing())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_minute_and_differ() {
        let seconds = |failures, random| pause(failures, random).as_secs_f32();
        assert!((seconds(0, 0.0) - 0.05).abs() < 1e-6 && (seconds(0, 1.0) - 0.1).abs() < 1e-6);
        assert!((seconds(3, 1.0) - 0.8).abs() < 1e-6);
        for failures in [9, 31, 32, u32::MAX] {
            assert!((seconds(failures, 1.0) - 30.0).abs() < 1e-3, "{failures}");
        }
    }
}
