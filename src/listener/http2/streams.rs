//! What one connection with HTTP/2 is doing, until when it may, and how much its client may ask for in vain.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use super::frames::{Frame, Kind};
use crate::{
    limits::{Connected, Limit},
    net::{self, Deadline, Instant},
};

/// For a client to close a connection that takes no further request.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// Requests that a client may take back before they are answered, or have broken off by what it sends, more than it
/// waits for (rapid reset, CVE-2023-44487, and "made you reset", CVE-2025-8671). After the answer has begun a client leaves
/// as it likes: the Python client does after each event that it waited for.
pub(super) const TAKEN_BACK: u32 = 200;

/// Frames that carry nothing, as PING, SETTINGS, PRIORITY and WINDOW_UPDATE, that a client may send within
/// [`PERIOD`]; and one more for each [`WORTH`] bytes that it takes. Each costs about a microsecond.
const FRAMES: usize = 20_000;
const PERIOD: Duration = Duration::from_secs(10);
const WORTH: usize = 64;

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Streams {
    deadline: Deadline,
    request_head: Duration,
    keep_alive: Duration,
    open: Cell<usize>,
    /// No request has come yet.
    fresh: Cell<bool>,
    /// A head has begun to come.
    within_head: Cell<bool>,
    /// After its last answer the connection is to go.
    last: Cell<bool>,
    /// It takes no further request.
    closing: Cell<bool>,
    taken_back: Cell<u32>,
    idle_frames: Cell<usize>,
    idle_since: Cell<Instant>,
    abused: Cell<Option<Limit>>,
    /// The room of all requests under way but one, which has the connection's.
    beside: RefCell<Vec<Connected>>,
}

/// What a client has been waited for in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// A request's head, all of it.
    Head,
    /// Another request.
    Idle,
    /// The connection's end.
    End,
}

impl Streams {
    /// Of a new connection, whose client is expected to ask at once.
    pub(super) fn new(deadline: Deadline, request_head: Duration, keep_alive: Duration) -> Self {
        deadline.set(request_head);
        Self {
            deadline,
            request_head,
            keep_alive,
            open: Cell::new(0),
            fresh: Cell::new(true),
            within_head: Cell::new(false),
            last: Cell::new(false),
            closing: Cell::new(false),
            taken_back: Cell::new(0),
            idle_frames: Cell::new(0),
            idle_since: Cell::new(net::now()),
            abused: Cell::new(None),
            beside: RefCell::default(),
        }
    }

    /// A request has come; it is under way until the guard is dropped.
    pub(super) fn begin(this: &Rc<Self>) -> Open {
        this.fresh.set(false);
        this.open.set(this.open.get() + 1);
        this.wait();
        Open {
            streams: Rc::clone(this),
            is_answered: false,
        }
    }

    /// Whether more than one request is under way.
    pub(super) fn are_several(&self) -> bool {
        self.open.get() > 1
    }

    /// Whether no request is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.open.get() == 0 && !self.within_head.get()
    }

    /// Whether the connection is to go now.
    pub(super) fn is_at_end(&self) -> bool {
        self.last.get() && self.is_idle()
    }

    /// No further request is taken.
    pub(super) fn close(&self) {
        self.closing.set(true);
        self.wait();
    }

    /// Whether none is.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// The limit beyond which the client has gone, so that its connection ends at once.
    pub(super) fn abused(&self) -> Option<Limit> {
        self.abused.get()
    }

    /// Ready when the client has been waited for too long.
    pub(super) fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<Expired> {
        self.deadline.poll_expired(cx).map(|()| {
            if self.closing.get() && !self.within_head.get() {
                Expired::End
            } else if self.fresh.get() || self.within_head.get() {
                Expired::Head
            } else {
                Expired::Idle
            }
        })
    }

    /// The client has sent a frame.
    pub(super) fn received(&self, frame: Frame) {
        let carries = match frame.kind {
            Kind::Data => frame.length > 0 || frame.ends_stream(),
            Kind::Headers => true,
            Kind::Reset | Kind::GoAway | Kind::Other => false,
        };
        if carries {
            return;
        }
        let frames = self.idle_frames.get() + 1;
        self.idle_frames.set(frames);
        if frames > FRAMES {
            let now = net::now();
            let before = self.idle_since.replace(now);
            self.idle_frames.set(0);
            if now.saturating_duration_since(before) < PERIOD {
                self.abused.set(Some(Limit::Http2Frames));
            }
        }
    }

    /// A head has begun to come, or is all there.
    pub(super) fn set_within_head(&self, within: bool) {
        if self.within_head.replace(within) != within {
            self.wait();
        }
    }

    /// The client has taken so many bytes.
    pub(super) fn wrote(&self, bytes: usize) {
        let frames = self.idle_frames.get();
        self.idle_frames.set(frames.saturating_sub(bytes / WORTH));
    }

    /// Sets the deadline for what is waited for now.
    fn wait(&self) {
        if self.fresh.get() && !self.closing.get() {
            return; // the first head has its time from the connection's beginning
        }
        if self.within_head.get() {
            self.deadline.set(self.request_head);
        } else if self.open.get() > 0 {
            self.deadline.clear();
        } else if self.closing.get() {
            self.deadline.set(LEAVE_WITHIN);
        } else {
            self.deadline.set(self.keep_alive);
        }
    }

    fn take_back(&self) {
        let taken_back = self.taken_back.get() + 1;
        self.taken_back.set(taken_back);
        if taken_back > TAKEN_BACK {
            self.abused.set(Some(Limit::Http2Resets));
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Open {
    streams: Rc<Streams>,
    is_answered: bool,
}

impl Open {
    /// Whether it is beside another one of its connection.
    pub(super) fn is_beside_another(&self) -> bool {
        self.streams.are_several()
    }

    /// Takes its room, until there is one less under way.
    pub(super) fn takes(&self, room: Connected) {
        self.streams.beside.borrow_mut().push(room);
    }

    /// Its answer begins.
    pub(super) fn answered(&mut self) {
        self.is_answered = true;
        let taken_back = &self.streams.taken_back;
        taken_back.set(taken_back.get().saturating_sub(1));
    }

    /// The connection is to go as soon as all requests under way are answered.
    pub(super) fn end_when_idle(&self) {
        self.streams.last.set(true);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Self {
            streams,
            is_answered,
        } = self;
        if !*is_answered {
            streams.take_back();
        }
        let left = streams.open.get() - 1;
        streams.open.set(left);
        streams.beside.borrow_mut().truncate(left.saturating_sub(1));
        streams.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{listener::http2::frames::Frames, net::Ticker};

    fn streams() -> Rc<Streams> {
        let second = Duration::from_secs(1);
        Rc::new(Streams::new(Ticker::new().deadline(), second, second))
    }

    #[test]
    fn who_takes_no_more_back_than_he_waits_for_may_do_so_for_ever() {
        let streams = streams();
        for _ in 0..10 * TAKEN_BACK {
            Streams::begin(&streams).answered();
            drop(Streams::begin(&streams));
        }
        assert_eq!(streams.abused(), None);
        for _ in 0..TAKEN_BACK {
            assert_eq!(streams.abused(), None);
            drop(Streams::begin(&streams));
        }
        drop(Streams::begin(&streams));
        assert_eq!(streams.abused(), Some(Limit::Http2Resets));
    }

    #[test]
    fn frames_that_carry_nothing_are_too_many_at_once_and_not_beside_what_is_taken() {
        let ping = |streams: &Streams| {
            let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
            Frames::behind(0).pass(&ping, |frame| streams.received(frame));
        };
        let taking = streams();
        for _ in 0..10 * FRAMES {
            ping(&taking);
            taking.wrote(WORTH);
        }
        assert_eq!(taking.abused(), None);
        let flooding = streams();
        for _ in 0..=FRAMES {
            assert_eq!(flooding.abused(), None);
            ping(&flooding);
            flooding.wrote(17);
        }
        assert_eq!(flooding.abused(), Some(Limit::Http2Frames));
    }
}
