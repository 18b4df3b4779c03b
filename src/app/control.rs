//! Acts on what comes from outside while the process serves: signals, and another process that takes over.

use std::{io, time::Duration};

use tokio::sync::mpsc;

use crate::{
    limits::Connections,
    net,
    reload::Reason,
    router::table::Reader,
    shutdown::{Request, Trigger},
    takeover::{self, Claim},
};

/// What is controlled, and by what.
pub(super) struct Control<S> {
    pub(super) signals: S,
    pub(super) trigger: Trigger,
    pub(super) tables: Reader,
    pub(super) connections: Connections,
    pub(super) reloads: mpsc::Sender<Reason>,
}

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A signal.
    Asked,
    /// Another process serves in its place.
    TakenOver,
}

impl<S: AsyncFnMut() -> Request> Control<S> {
    /// Acts until everything has drained, or a second signal to stop asks to end at once. `sockets` are passed to those
    /// who come with `claims`; `taken_over` is called when one of them serves.
    pub(super) async fn run(
        mut self,
        sockets: Vec<net::Bound>,
        claims: mpsc::Receiver<Claim>,
        taken_over: impl FnOnce(),
    ) {
        let end = self.end(&sockets, claims).await;
        if end == End::TakenOver {
            taken_over();
        }
        drop(sockets); // each thread has its own handles, and closes them when it drains
        let (delay, limit) = {
            let timeouts = &self.tables.snapshot().timeouts;
            (timeouts.shutdown_delay, timeouts.drain)
        };
        let (delay, linger) = match end {
            End::Asked => (delay, Duration::ZERO),
            // Nobody has to notice. A request that is on its way over a kept connection must not be cut.
            End::TakenOver => (Duration::ZERO, limit / 2),
        };
        tracing::info!(
            delay_s = delay.as_secs_f64(),
            limit_s = limit.as_secs_f64(),
            taken_over = end == End::TakenOver,
            "stopping: what is under way may end; a second signal ends it at once"
        );
        let second = stopped_at_once(end, &mut self.signals);
        tokio::select! {
            biased;
            () = self.trigger.drain(delay, limit, linger) => {}
            () = second => {}
        }
        let left = self.connections.count();
        if left > 0 {
            tracing::warn!(
                connections = left,
                "out of time: what these have under way is cut"
            );
        }
        self.trigger.force();
    }

    /// Waits for the end, and does what is asked for meanwhile.
    async fn end(&mut self, sockets: &[net::Bound], mut claims: mpsc::Receiver<Claim>) -> End {
        let (taken, mut taken_over) = mpsc::channel(1);
        loop {
            tokio::select! {
                biased;
                request = (self.signals)() => match request {
                    // Where there is no room, several are waiting already.
                    Request::Reload => drop(self.reloads.try_send(Reason::Signal)),
                    Request::Stop => return End::Asked,
                },
                Some(claim) = claims.recv() => hand_over(claim, sockets, taken.clone()),
                Some(()) = taken_over.recv() => return End::TakenOver,
            }
        }
    }
}

/// Waits for a signal that asks to end at once. The first after a take-over asks for what is done already: who
/// starts the new process then stops the old one, as `systemctl stop` and `docker stop` do.
async fn stopped_at_once(end: End, mut signals: impl AsyncFnMut() -> Request) {
    let mut is_news = end == End::TakenOver;
    loop {
        match signals().await {
            Request::Reload => {}
            Request::Stop if is_news => {
                is_news = false;
                tracing::info!("already leaving: another signal ends what is under way at once");
            }
            Request::Stop => return,
        }
    }
}

/// Passes the sockets on beside everything else. Says so to `taken` only when the other process serves.
fn hand_over(claim: Claim, sockets: &[net::Bound], taken: mpsc::Sender<()>) {
    let copies: io::Result<Vec<_>> = sockets.iter().map(net::Bound::try_clone).collect();
    tokio::spawn(async move {
        let handed = async { takeover::hand_over(claim, copies?).await };
        match handed.await {
            Ok(()) => drop(taken.send(()).await),
            Err(error) => {
                tracing::warn!(%error, "a process that wanted to take over did not begin to serve: this one goes on");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    /// How many of `requests` are taken until what is under way is ended at once; `None` where it is not.
    fn taken(end: End, requests: &[Request]) -> Option<usize> {
        let taken = Cell::new(0);
        let next = async || match requests.get(taken.get()) {
            Some(request) => {
                taken.set(taken.get() + 1);
                *request
            }
            None => std::future::pending().await,
        };
        let waiting = pin!(stopped_at_once(end, next));
        let mut context = Context::from_waker(Waker::noop());
        let ended = waiting.poll(&mut context).is_ready();
        ended.then_some(taken.get())
    }

    #[test]
    fn the_first_stop_after_a_take_over_ends_nothing_at_once() {
        use Request::{Reload, Stop};
        assert_eq!(taken(End::Asked, &[Reload, Stop]), Some(2));
        assert_eq!(taken(End::TakenOver, &[Stop, Reload]), None);
        assert_eq!(taken(End::TakenOver, &[Stop, Reload, Stop]), Some(3));
    }
}
