//! Acts on what comes from outside while the process serves: signals, and another process that takes over.

use std::{io, time::Duration};

use tokio::sync::mpsc;

use crate::{
    listener::Connections,
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
    /// Acts until everything has drained, or a second signal asks to end at once. `sockets` are passed to those
    /// who come with `claims`.
    pub(super) async fn run(mut self, sockets: Vec<net::Bound>, claims: mpsc::Receiver<Claim>) {
        let end = self.end(&sockets, claims).await;
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
        let signals = &mut self.signals;
        let second = async { while signals().await != Request::Stop {} };
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
