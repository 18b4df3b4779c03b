//! One thread that serves: its runtime, its listeners, its proxy with its own connections to backends.
//!
//! Why each thread has a runtime of its own: `benches/threads` runs a relay so, and on one multi-threaded runtime, with two
//! threads either way. Own × shared, medians of one run that other work disturbed at first: CPU per call 0.94, 0.82, 0.92 with 2,
//! 4, 64 connections; calls per second 0.88, 1.17, 1.26; p99 1.45, 0.97, 0.54 (shorter runs agree for 64 alone). Calls beside a
//! busy stream: p50 1.15, p99 1.57 (0.83 to 1.09, 0.96 to 1.07 in shorter runs).
//!
//! Worse: a connection stays where it was accepted, and one thread takes most of a burst. So threads hand connections over,
//! see `listener::share`: of 4, 8, 64 that come at once the fuller of two threads keeps 3, 5, 34, where it had 93, 94, 85 % on
//! average, at worst all. One thread alone shares with nobody.

use std::{
    io,
    net::IpAddr,
    rc::Rc,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use http::{Request, Response};
use tokio::runtime::{Builder, LocalOptions};

use super::socket::Socket;
use crate::{
    backend::Scheme,
    health::probe::Reporter,
    incoming::Incoming,
    limits::{Connections, Full, Reached, Room},
    listener::{
        self, Arrivals, Downstream, Handler, Lasting, Pings, Refusals, Scratch, Server, Share,
    },
    net::{self, Ticker, tls::Acceptor},
    observe::{Meters, Stream, otlp::Outbox},
    proxy::{
        self, Alarms, Bodies, Peer, Proxy, Renewals, Unknowns, body::Answer, headers::Forwarded,
    },
    router::table::{self, Subscriber},
    sessions::Sessions,
    shutdown::{Watch, Watcher},
    upstream::{self, names::Names},
};

/// What all workers share.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) subscriber: Subscriber,
    pub(super) unknowns: Unknowns,
    pub(super) alarms: Alarms,
    pub(super) sessions: Sessions,
    pub(super) renewals: Renewals,
    pub(super) bodies: Bodies,
    pub(super) reporter: Reporter,
    pub(super) names: Names,
    pub(super) upstream: upstream::Open,
    pub(super) watcher: Watcher,
    pub(super) connections: Connections,
    pub(super) reached: Reached,
    pub(super) meters: Meters,
    /// Where spans go, if they are wanted.
    pub(super) outbox: Option<Outbox>,
    pub(super) acceptor: Acceptor,
}

impl Worker {
    /// Starts a thread that serves its `share` of what comes to `sockets`, until it has drained. Returns when it has begun.
    ///
    /// # Errors
    ///
    /// When the thread, its runtime or its listeners cannot be had.
    pub(super) fn spawn(
        self,
        number: usize,
        sockets: Vec<Socket>,
        share: Option<(Share, Arrivals)>,
    ) -> io::Result<JoinHandle<()>> {
        let (begun, beginning) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("proxy-{number}"))
            .spawn(move || {
                let mut builder = Builder::new_current_thread();
                if let Some((share, _)) = &share {
                    builder.on_thread_park(share.note(true));
                    builder.on_thread_unpark(share.note(false));
                }
                let runtime = builder.enable_all().build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => {
                        runtime.block_on(async {
                            let listeners = match listen(sockets) {
                                Ok(listeners) => listeners,
                                Err(error) => return drop(begun.send(Err(error))),
                            };
                            drop(begun.send(Ok(()))); // whoever started this thread waits for it
                            self.serve(listeners, share).await;
                        });
                        runtime.shutdown_background(); // a name that still resolves must not hold us up
                    }
                    Err(error) => drop(begun.send(Err(error))),
                }
            })?;
        let lost = |_| Err(io::Error::other("the thread has ended"));
        beginning.recv().unwrap_or_else(lost).map(|()| thread)
    }

    /// Serves on `listeners` until it has drained, and beside other threads its `share`. Runs within a local task set.
    pub(super) async fn serve(
        self,
        listeners: Vec<(net::Listener, Scheme)>,
        share: Option<(Share, Arrivals)>,
    ) {
        let (share, arrivals) = share.unzip();
        let (ticker, watch) = (Ticker::new(), Watch::new());
        let proxy = Proxy::new(
            self.subscriber.reader(),
            (self.unknowns, self.alarms),
            (self.sessions, self.reached.clone()),
            (self.meters.meter(), self.outbox, ticker.clone()),
            (self.renewals, self.bodies),
            (self.reporter, self.names, self.upstream),
            watch.clone(),
        );
        let handler = Traffic {
            proxy,
            tables: self.subscriber.reader(),
        };
        let server = Rc::new(Server {
            handler,
            ticker,
            watch,
            connections: self.connections,
            share,
            reached: self.reached,
            refusals: Refusals::default(),
            scratch: Scratch::default(),
        });
        let accept = |(listener, scheme)| {
            let tls = match scheme {
                Scheme::Http => None,
                Scheme::Https => Some(self.acceptor.clone()),
            };
            tokio::task::spawn_local(Rc::clone(&server).accept(listener, tls))
        };
        let receive = |arrivals| tokio::task::spawn_local(Rc::clone(&server).receive(arrivals));
        let accepting: Vec<_> = arrivals
            .map(receive)
            .into_iter()
            .chain(listeners.into_iter().map(accept))
            .collect();
        let (watch, phases) = (server.watch.clone(), self.watcher);
        tokio::task::spawn_local(async move { watch.follow(phases).await });
        let drained = async {
            for accepted in accepting {
                drop(accepted.await); // ends when draining begins
            }
            server.watch.idle().await;
        };
        tokio::select! {
            biased;
            () = drained => {}
            () = server.watch.forced() => server.watch.idle().await, // each connection cuts itself
            () = server.ticker.run() => {}
            () = server.handler.proxy.tend() => {}
        }
    }
}

/// Registers the sockets with the current runtime.
///
/// # Errors
///
/// When the runtime's poller refuses one.
pub(super) fn listen(sockets: Vec<Socket>) -> io::Result<Vec<(net::Listener, Scheme)>> {
    let sockets = sockets.into_iter();
    sockets
        .map(|Socket { bound, scheme }| Ok((bound.into_listener()?, scheme)))
        .collect()
}

/// Hands requests from the listener to the proxy.
#[derive(Debug)]
struct Traffic {
    proxy: Proxy,
    tables: table::Reader,
}

impl Handler for Traffic {
    type Body = Answer;

    fn options(&self) -> listener::Options {
        let table = self.tables.snapshot();
        listener::Options {
            request_head: table.timeouts.request_head,
            keep_alive: table.timeouts.keep_alive,
            liveness: proxy::client_liveness(&table),
            header_bytes: table.limits.header_bytes.max(table.limits.target_bytes),
            headers: table.limits.headers,
            http2_streams: table.limits.http2_streams,
            pings: Pings::new(
                table.timeouts.tcp_keep_alive,
                table.timeouts.tcp_user_timeout,
            ),
            proxy_protocol: table.proxy_protocol,
            room: Room {
                all: table.limits.connections,
                of_address: table.limits.connections_per_address,
            },
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.tables.snapshot().trusted_proxies.contains(address)
    }

    #[inline(always)] // as the proxy's
    fn handle(
        &self,
        request: Request<Incoming>,
        client: &Downstream,
    ) -> impl Future<Output = Response<Answer>> {
        let address = client.peer.ip();
        let peer = if client.is_known {
            Peer::Known(address)
        } else {
            Peer::Unknown(address)
        };
        let scheme = if client.is_secure {
            Scheme::Https
        } else {
            Scheme::Http
        };
        let forwarded = Forwarded {
            peer: &client.forwarded_for,
            scheme,
        };
        self.proxy.handle(request, peer, forwarded)
    }

    fn turn_away(&self, full: Full) -> Response<Answer> {
        self.proxy.turn_away(full)
    }

    fn lasting(answer: &Answer) -> Lasting {
        match answer.stream() {
            Stream::No => Lasting::No,
            Stream::OfCall => Lasting::Perhaps,
            Stream::Lasting => Lasting::Yes,
        }
    }
}
