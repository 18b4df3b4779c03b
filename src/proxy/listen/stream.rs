//! The body of a merged stream: what several backends say, event by event.
//!
//! It lives as long as its client listens, and follows the routing table meanwhile. All is driven by the client's side:
//! nothing is read that it does not take, so that of each backend no more is held than an event that is not whole yet and
//! what one read brought. When the client leaves, the streams of all backends are closed at once.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use hyper::body::{Body, Frame};

use super::{
    member::{Member, Opened, Step},
    members::Members,
    merge::{End, Heard, Merge},
};
use crate::{
    mcp::sse::Event,
    net::{Deadline, Ticker},
    observe::{Exchange, Outcome, Route},
    proxy::{
        body::{BrokenOff, EventStream, Silence},
        error,
    },
    router::table::{Changes, Entry},
    shutdown::{Phase, Watch},
};

/// From the first word of one backend on, how long the others may take for theirs: the client waits for it. SDK
/// servers acknowledge within milliseconds, and clients wait for a minute.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Stream {
    members: Members,
    merge: Merge,
    /// Events that leave next.
    leaving: VecDeque<Bytes>,
    /// Runs from the first word on.
    patience: Option<Deadline>,
    /// Ready when there is a newer table.
    changed: Pin<Box<dyn Future<Output = Changes>>>,
    /// The first answer that is no stream, until there is one.
    refusal: Option<Box<Opened>>,
    /// The head of the first stream, until the client has it.
    head: Option<Head>,
    has_begun: bool,
    client: Client,
    is_over: bool,
    /// Why the body broke off, until the next poll tells it.
    broken: Option<BrokenOff>,
}

/// What is done on the client's side.
pub(super) struct Client {
    pub(super) exchange: Exchange,
    pub(super) events: EventStream,
    pub(super) idle: Option<(Duration, Deadline)>,
    pub(super) watch: Watch,
    pub(super) ticker: Ticker,
}

/// The status and headers of an answer.
pub(super) type Head = (StatusCode, HeaderMap);

/// What the client's answer is made of.
pub(super) enum First {
    /// It is a stream, and this is the head of the first one.
    Stream(Head),
    /// Nobody lets it listen, and this is the first who said so.
    Refusal(Box<Opened>),
    /// Nobody can be reached.
    Nothing,
}

impl Stream {
    /// Merges the streams of `members`, and follows `changes` from now on.
    pub(super) fn new(members: Members, changes: Changes, client: Client) -> Self {
        client.rest();
        Self {
            members,
            merge: Merge::new(),
            leaving: VecDeque::new(),
            patience: None,
            changed: Box::pin(change(changes)),
            refusal: None,
            head: None,
            has_begun: false,
            client,
            is_over: false,
            broken: None,
        }
    }

    /// What the streams are opened with.
    pub(super) fn members(&self) -> &Members {
        &self.members
    }

    /// Waits for the first answer that is a stream; if there is none, until everybody has answered or failed, or has
    /// had the time for it since the first refusal.
    pub(super) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<First> {
        while self.head.is_none() && self.members.all().iter().any(Member::is_opening) {
            let Poll::Ready((index, step)) = self.members.poll(cx, Member::is_opening) else {
                match &self.patience {
                    Some(patience) if self.refusal.is_some() => ready!(patience.poll_expired(cx)),
                    Some(_) | None => return Poll::Pending,
                }
                break;
            };
            if let Step::Failed(failure) = &step {
                let name = self.members.all()[index].name.as_str();
                let reason = error::upstream(failure).reason;
                self.client.exchange.failed(name, reason);
            }
            self.take(index, step);
        }
        Poll::Ready(self.first())
    }

    /// Takes an answer in that was had elsewhere.
    pub(super) fn adopt(&mut self, entry: &Entry, opened: Opened) -> First {
        let (index, step) = self.members.adopt(entry, opened);
        self.take(index, step);
        self.first()
    }

    fn first(&mut self) -> First {
        match (self.head.take(), self.refusal.take()) {
            (Some(head), _) => {
                self.has_begun = true;
                self.patience = None;
                First::Stream(head)
            }
            (None, Some(refusal)) => First::Refusal(refusal),
            (None, None) => First::Nothing,
        }
    }

    fn take(&mut self, index: usize, step: Step) {
        match step {
            Step::Accepted(head) => {
                self.members.answered(index);
                let member = &self.members.all()[index];
                if !self.has_begun {
                    let name = member.name.as_str();
                    let exchange = &self.client.exchange;
                    exchange.routed(name, &member.traffic, Route::FanOut);
                    self.head = Some(*head);
                }
            }
            Step::Refused(opened) => {
                self.members.answered(index);
                self.members.refused(index, opened.response.status());
                if !self.has_begun {
                    self.run_patience();
                    self.refusal.get_or_insert(opened);
                }
            }
            Step::Failed(failure) => self.members.failed(index, &failure),
            Step::Said(event) => self.hear(index, event),
            Step::BrokeOff(error) => self.members.broke_off(index, error.as_ref()),
            Step::Spoiled(error) => self.members.spoiled(index, error),
            Step::Again => self.members.open_again(index),
        }
    }

    fn hear(&mut self, index: usize, event: Event) {
        if self.merge.is_gathering() {
            self.run_patience();
        }
        self.members.spoke(index);
        match self.merge.hear(event) {
            Heard::Leaves(event) => self.leaving.push_back(event),
            Heard::Kept => {}
            Heard::Last { is_error: true } => self.members.refused(index, StatusCode::OK),
            Heard::Last { is_error: false } => self.members.ended(index),
        }
    }

    fn run_patience(&mut self) {
        self.patience.get_or_insert_with(|| {
            let deadline = self.client.ticker.deadline();
            deadline.set(PATIENCE);
            deadline
        });
    }

    /// Takes newer tables over, for as long as there are any.
    fn poll_changes(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(changes) = self.changed.as_mut().poll(cx) {
            self.members.follow(changes.seen());
            self.changed = Box::pin(change(changes));
        }
    }

    /// The next event that leaves; `None` when all is over.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BrokenOff>> {
        loop {
            if let Some(event) = self.leaving.pop_front() {
                return Poll::Ready(Ok(Some(event)));
            }
            if self.is_over {
                return Poll::Ready(Ok(None));
            }
            let is_gathering = self.merge.is_gathering();
            let listens =
                |member: &Member| !is_gathering || !member.is_open() || member.is_awaited();
            if let Poll::Ready((index, step)) = self.members.poll(cx, listens) {
                self.take(index, step);
                continue;
            }
            if is_gathering {
                ready!(self.poll_settled(cx));
                self.leaving.extend(self.merge.settle());
                continue;
            }
            let standings = self.members.all().iter().map(Member::standing);
            match self.merge.end(standings) {
                None => return Poll::Pending,
                Some(End::Properly(event)) => self.leaving.push_back(event),
                Some(End::Abandoned) => return Poll::Ready(Err(BrokenOff::Abandoned)),
            }
            self.is_over = true;
        }
    }

    /// Whether everybody has spoken, or has had the time for it.
    fn poll_settled(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.members.all().iter().any(Member::is_awaited) {
            return Poll::Ready(());
        }
        match &self.patience {
            Some(patience) => patience.poll_expired(cx),
            None => Poll::Pending,
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.is_over = true;
        self.client.exchange.end(outcome);
    }
}

async fn change(mut changes: Changes) -> Changes {
    changes.next().await;
    changes
}

impl Client {
    fn passes(&mut self, data: &Bytes) {
        self.exchange.sent(data.len());
        self.events.passed(data);
        self.rest();
    }

    /// The time in which it may be silent begins anew.
    fn rest(&self) {
        if let Some((limit, deadline)) = &self.idle {
            deadline.set(*limit);
        }
    }

    /// Whether the stream has been silent for longer than it may.
    fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<Duration> {
        let Some((limit, deadline)) = &self.idle else {
            return Poll::Pending;
        };
        deadline.poll_expired(cx).map(|()| *limit)
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = &mut *self;
        if let Some(why) = this.broken.take() {
            return Poll::Ready(Some(Err(why)));
        }
        this.poll_changes(cx);
        match this.poll_event(cx) {
            Poll::Ready(Ok(Some(event))) => {
                this.client.passes(&event);
                return Poll::Ready(Some(Ok(Frame::data(event))));
            }
            Poll::Ready(Ok(None)) => {
                this.client.exchange.end(Outcome::Complete);
                return Poll::Ready(None);
            }
            Poll::Ready(Err(why)) => {
                this.end(Outcome::BackendGone);
                // What hyper holds is flushed before the next poll: an error at once would drop it.
                this.broken = Some(why);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Pending => {}
        }
        let phase = this.client.watch.phase();
        if let Poll::Ready(silence) = this.client.events.poll_silence(phase, cx) {
            return Poll::Ready(match silence {
                Silence::Comment(comment) => Some(Ok(Frame::data(comment))),
                Silence::End => {
                    this.end(Outcome::Drained);
                    None
                }
            });
        }
        let limit = ready!(this.client.poll_idle(cx));
        this.end(Outcome::Idle);
        Poll::Ready(Some(Err(BrokenOff::Idle(limit))))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.is_over {
            let is_cut = self.client.watch.phase() == Phase::Forced;
            let outcome = if is_cut {
                Outcome::Drained
            } else {
                Outcome::ClientLeft
            };
            self.client.exchange.end(outcome);
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("members", &self.members)
            .field("merge", &self.merge)
            .finish_non_exhaustive()
    }
}
