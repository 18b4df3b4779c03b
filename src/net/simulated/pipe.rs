//! One direction of a simulated connection.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
    task::Waker,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{keep, with};

/// What is under way from one machine to another, in order.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    // Never across an await. Everything is on one thread; the mutex is for the bounds of the real types.
    pub(super) flow: Mutex<Flow>,
}

#[derive(Debug, Default)]
pub(super) struct Flow {
    /// With the moment at which each is to be there.
    pub(super) parts: VecDeque<(Instant, Bytes)>,
    pub(super) end: Option<(Instant, End)>,
    last: Option<Instant>,
    pub(super) reader: Option<Waker>,
    /// The end that reads is closed: what comes is thrown away.
    unread: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Orderly,
    Reset,
}

impl Pipe {
    pub(super) fn new(from: IpAddr, to: IpAddr) -> Arc<Self> {
        let pipe = Arc::new(Self {
            from,
            to,
            flow: Mutex::default(),
        });
        keep(&pipe);
        pipe
    }

    /// When something is there that is sent now: never before what was sent earlier.
    fn due(&self, flow: &mut Flow) -> Instant {
        let due = Instant::now() + with(|network| network.latency(self.from, self.to));
        let due = flow.last.map_or(due, |last| due.max(last));
        flow.last = Some(due);
        due
    }

    pub(super) fn send(&self, bytes: &[u8]) {
        let mut flow = lock(&self.flow);
        if flow.end.is_none() && !flow.unread {
            let due = self.due(&mut flow);
            flow.parts.push_back((due, Bytes::copy_from_slice(bytes)));
        }
        wake_reader(flow);
    }

    pub(super) fn end(&self, end: End) {
        let mut flow = lock(&self.flow);
        if flow.end.is_none() {
            let due = self.due(&mut flow);
            flow.end = Some((due, end));
        }
        wake_reader(flow);
    }

    /// Nobody reads any more. Gives what the other side is told.
    pub(super) fn close(&self) -> End {
        let mut flow = lock(&self.flow);
        flow.unread = true;
        let now = Instant::now();
        let arrived = flow.parts.front().is_some_and(|(due, _)| *due <= now);
        if arrived { End::Reset } else { End::Orderly }
    }

    pub(super) fn look_again(&self) {
        wake_reader(lock(&self.flow));
    }
}

fn wake_reader(mut flow: MutexGuard<'_, Flow>) {
    let reader = flow.reader.take();
    drop(flow);
    if let Some(reader) = reader {
        reader.wake();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}
