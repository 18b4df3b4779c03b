//! One thread that serves: its runtime, its listeners, its proxy with its own connections to backends.

use std::{
    io,
    net::IpAddr,
    rc::Rc,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::runtime::{Builder, LocalOptions};

use crate::{
    health::probe::Reporter,
    listener::{self, Connections, Downstream, Handler, Server},
    net::{self, Ticker},
    proxy::{
        self, Alarms, Bodies, Peer, Proxy, Renewals, Unknowns, body::Answer, headers::Forwarded,
    },
    router::table::{self, Subscriber},
    sessions::Sessions,
    shutdown::{Watch, Watcher},
    upstream::names::Names,
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
    pub(super) watcher: Watcher,
    pub(super) connections: Connections,
}

impl Worker {
    /// Starts a thread that serves on `sockets` until it has drained. Returns when it has begun.
    ///
    /// # Errors
    ///
    /// When the thread, its runtime or its listeners cannot be had.
    pub(super) fn spawn(
        self,
        number: usize,
        sockets: Vec<net::Bound>,
    ) -> io::Result<JoinHandle<()>> {
        let (begun, beginning) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("proxy-{number}"))
            .spawn(move || {
                let runtime = Builder::new_current_thread()
                    .enable_all()
                    .build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => {
                        runtime.block_on(async {
                            let listeners = match listen(sockets) {
                                Ok(listeners) => listeners,
                                Err(error) => return drop(begun.send(Err(error))),
                            };
                            drop(begun.send(Ok(()))); // whoever started this thread waits for it
                            self.serve(listeners).await;
                        });
                        runtime.shutdown_background(); // a name that still resolves must not hold us up
                    }
                    Err(error) => drop(begun.send(Err(error))),
                }
            })?;
        let lost = |_| Err(io::Error::other("the thread has ended"));
        beginning.recv().unwrap_or_else(lost).map(|()| thread)
    }

    /// Serves on `listeners` until it has drained. Runs within a local task set.
    pub(super) async fn serve(self, listeners: Vec<net::Listener>) {
        let (ticker, watch) = (Ticker::new(), Watch::new());
        let proxy = Proxy::new(
            self.subscriber.reader(),
            (self.unknowns, self.alarms),
            self.sessions,
            (self.renewals, self.bodies),
            (self.reporter, self.names),
            ticker.clone(),
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
        });
        let accept = |listener| tokio::task::spawn_local(Rc::clone(&server).accept(listener));
        let accepting: Vec<_> = listeners.into_iter().map(accept).collect();
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
pub(super) fn listen(sockets: Vec<net::Bound>) -> io::Result<Vec<net::Listener>> {
    sockets.into_iter().map(net::Bound::into_listener).collect()
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
            header_bytes: table.limits.header_bytes,
            headers: table.limits.headers,
            connections: table.limits.connections,
            proxy_protocol: table.proxy_protocol,
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.tables.snapshot().trusted_proxies.contains(address)
    }

    async fn handle(&self, request: Request<Incoming>, client: &Downstream) -> Response<Answer> {
        let address = client.peer.ip();
        let peer = if client.is_known {
            Peer::Known(address)
        } else {
            Peer::Unknown(address)
        };
        let forwarded = Forwarded {
            peer: &client.forwarded_for,
        };
        self.proxy.handle(request, peer, forwarded).await
    }
}
