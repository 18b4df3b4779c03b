//! Accepts connections, and knows what to do where that fails or there is no room for one.

use std::{cell::Cell, io, net::SocketAddr, rc::Rc, time::Duration};

use super::{
    Connection, Downstream, Handler, Options, Peer, Server, TOLD_WITHIN,
    metered::Metered,
    pace::Pace,
    serve::serve,
    share::{Arrival, Arrivals, Counted},
};
use crate::{
    limits::{Connected, Full, Limit, OfAddress, Room, Told},
    net::{
        self, Instant, Listener, Stream,
        tls::{Acceptor, Socket},
    },
};

/// After a failed accept; doubled up to the longest while failures go on. Whoever waits is served so much later when
/// descriptors are free again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);
const ACCEPT_AGAIN_LONGEST: Duration = Duration::from_millis(200);

/// Descriptors that are freed one by one are taken one by one: it is the same shortage until so much time has passed.
const SHORTAGE_OVER: Duration = Duration::from_secs(10);

/// Between two warnings of connections without room, on one thread.
const WARN_AGAIN: Duration = Duration::from_secs(1);

/// What a thread remembers of the connections that it could not accept.
#[derive(Debug, Default)]
pub struct Refusals {
    /// When a connection without room was last warned of.
    warned: Cell<Option<Instant>>,
    /// When accepting failed last.
    failed: Cell<Option<Instant>>,
}

/// Why a connection is told that there is no room for it, as long as it is.
struct Refused {
    full: Full,
    told: Told,
}

impl<H: Handler> Server<H> {
    /// Accepts and serves until draining begins, then closes the socket. With `tls`, that is spoken. Runs within a
    /// local task set.
    pub async fn accept(self: Rc<Self>, listener: Listener, tls: Option<Acceptor>) {
        let mut pause = ACCEPT_AGAIN;
        loop {
            let options = self.handler.options();
            let accepted = tokio::select! {
                biased;
                () = self.watch.draining() => return self.accept_waiting(listener, tls, options).await,
                accepted = listener.accept(options.liveness) => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause = ACCEPT_AGAIN;
                    self.end_shortage();
                    self.place(stream, peer, tls.clone());
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    self.begin_shortage(&error);
                    net::sleep(pause).await;
                    pause = (pause * 2).min(ACCEPT_AGAIN_LONGEST);
                }
            }
        }
    }

    /// Accepts who has connected before the socket closes: it would be reset.
    async fn accept_waiting(
        self: &Rc<Self>,
        listener: Listener,
        tls: Option<Acceptor>,
        options: Options,
    ) {
        tokio::task::yield_now().await; // the runtime looks at the socket once more
        while let Some(accepted) = listener.accept_waiting(options.liveness) {
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, tls.clone(), options, None),
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => return,
            }
        }
    }

    /// Serves what other threads have accepted for this one, until draining begins and none is left of it. Runs within a
    /// local task set.
    pub async fn receive(self: Rc<Self>, mut arrivals: Arrivals) {
        loop {
            let arrival = tokio::select! {
                biased;
                () = self.watch.draining() => break,
                arrival = arrivals.next() => arrival,
            };
            match arrival {
                Some(arrival) => self.welcome(arrival),
                None => return,
            }
        }
        arrivals.close(); // whoever comes now is served by the thread that has accepted it
        while let Some(arrival) = arrivals.next().await {
            self.welcome(arrival);
        }
    }

    /// Serves a connection here, or has another thread do so that has fewer.
    fn place(self: &Rc<Self>, stream: Stream, peer: SocketAddr, tls: Option<Acceptor>) {
        // It may have been waited for for long, and the configuration be another.
        let options = self.handler.options();
        let Some(share) = &self.share else {
            return self.admit(stream, peer, tls, options, None);
        };
        let counted = share.count();
        if share.keeps(&counted) {
            return self.admit(stream, peer, tls, options, Some(counted));
        }
        match stream.leave() {
            Ok(stream) => {
                let arrival = Arrival {
                    stream,
                    peer,
                    tls,
                    counted,
                };
                if let Err(refused) = arrival.hand_over() {
                    self.welcome(refused); // that thread drains already, and this one is about to
                }
            }
            Err(error) => lost(peer, &error),
        }
    }

    fn welcome(self: &Rc<Self>, arrival: Arrival) {
        let Arrival {
            stream,
            peer,
            tls,
            counted,
        } = arrival;
        match stream.arrive() {
            Ok(stream) => {
                self.admit(stream, peer, tls, self.handler.options(), Some(counted));
            }
            Err(error) => lost(peer, &error),
        }
    }

    fn admit(
        self: &Rc<Self>,
        stream: Stream,
        peer: SocketAddr,
        tls: Option<Acceptor>,
        mut options: Options,
        counted: Option<Counted>,
    ) {
        let entered = self.connections.enter(self.room(peer, options), peer.ip());
        let refused = match &entered {
            Ok(_) => None,
            Err(full) => match self.refuse(*full, peer, &mut options) {
                Some(refused) => Some(refused),
                None => return,
            },
        };
        let entered = entered.ok();
        if tls.is_none() && !options.proxy_protocol {
            let (socket, peer) = (Socket::clear(stream), Peer::direct(peer));
            let room = (entered, None, refused);
            let (bytes, connection) = Rc::clone(self).connection(socket, peer, room, options);
            tokio::task::spawn_local(async move {
                serve(bytes, connection).await;
                drop(counted);
            });
            return;
        }
        // In a box, and given back with all that it needs: what follows lasts for long, and is to be small.
        let beginning =
            Box::pin(Rc::clone(self).begin(stream, peer, tls, (refused, entered), options));
        tokio::task::spawn_local(async move {
            if let Some((bytes, connection)) = beginning.await {
                serve(bytes, connection).await;
            }
            drop(counted);
        });
    }

    /// The room for connections from there: a trusted proxy stands for all who come through it.
    pub(super) fn room(&self, peer: SocketAddr, options: Options) -> Room {
        let of_address = options.room.of_address;
        Room {
            of_address: of_address.filter(|_| !self.handler.trusts(peer.ip())),
            ..options.room
        }
    }

    /// Takes room for telling a connection that there is none for it; `None` where it is to be closed at once.
    fn refuse(&self, full: Full, peer: SocketAddr, options: &mut Options) -> Option<Refused> {
        self.note(full, peer);
        let told = self.connections.tell()?;
        options.request_head = options.request_head.min(TOLD_WITHIN);
        Some(Refused { full, told })
    }

    /// Comes to where HTTP begins, through what may be before it. What is rare on the way is in boxes of its own.
    async fn begin(
        self: Rc<Self>,
        mut stream: Stream,
        peer: SocketAddr,
        tls: Option<Acceptor>,
        (mut refused, entered): (Option<Refused>, Option<Connected>),
        mut options: Options,
    ) -> Option<(Box<Metered>, Rc<Connection<H>>)> {
        let peer = if options.proxy_protocol {
            Box::pin(self.behind(&mut stream, peer, options)).await?
        } else {
            Peer::direct(peer)
        };
        let mut of_client = None;
        if options.proxy_protocol && refused.is_none() {
            let room = self.room(peer.address, options);
            match self.connections.enter_of(room, peer.address.ip()) {
                Ok(entered) => of_client = entered,
                Err(full) => refused = Some(self.refuse(full, peer.address, &mut options)?),
            }
        }
        let socket = match tls {
            None => Socket::clear(stream),
            Some(tls) => Box::pin(self.secured(stream, peer.address, &tls, options)).await?,
        };
        Some(self.connection(socket, peer, (entered, of_client, refused), options))
    }

    /// A connection on which HTTP begins, with the room that it takes.
    fn connection(
        self: Rc<Self>,
        socket: Socket,
        peer: Peer,
        (entered, of_client, refused): (Option<Connected>, Option<OfAddress>, Option<Refused>),
        options: Options,
    ) -> (Box<Metered>, Rc<Connection<H>>) {
        let pace = Rc::new(Pace::new(
            self.ticker.deadline(),
            options.request_head,
            options.keep_alive,
        ));
        let connection = Connection {
            client: Downstream::new(peer, socket.is_secure()),
            pace: Rc::clone(&pace),
            options,
            full: refused.as_ref().map(|refused| refused.full),
            left: Cell::new(None),
            server: self,
            _room: (entered, of_client, refused.map(|refused| refused.told)),
        };
        (Box::new(Metered::new(socket, pace)), Rc::new(connection))
    }

    /// Counts it, and warns once in a while.
    fn note(&self, full: Full, peer: SocketAddr) {
        let limit = full.limit();
        self.reached.count(limit);
        let now = net::now();
        let last = self.refusals.warned.get();
        if last.is_none_or(|last| now.saturating_duration_since(last) >= WARN_AGAIN) {
            self.refusals.warned.set(Some(now));
            tracing::warn!(
                %peer,
                limit = limit.key(),
                refused = self.reached.times(limit),
                "too many connections: this one is refused"
            );
        }
    }

    fn begin_shortage(&self, error: &io::Error) {
        self.refusals.failed.set(Some(net::now()));
        if self.connections.lacks_descriptors(true) {
            self.reached.count(Limit::OpenFiles);
            tracing::error!(%error, "cannot accept connections: they wait; if open files have run out, raise `ulimit -n`, or lower limits.connections");
        }
    }

    fn end_shortage(&self) {
        let Some(failed) = self.refusals.failed.get() else {
            return;
        };
        if net::now().saturating_duration_since(failed) >= SHORTAGE_OVER {
            self.refusals.failed.set(None);
            if self.connections.lacks_descriptors(false) {
                tracing::info!("connections are accepted again");
            }
        }
    }
}

/// The poller has no room for it, or does not know it: nothing that a client can do.
fn lost(peer: SocketAddr, error: &io::Error) {
    tracing::warn!(%peer, %error, "a connection was closed: it cannot go to another thread");
}

/// Whether the client of the connection that was to be accepted had left already.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::InvalidInput
    )
}
