//! Accepts connections, with TLS or without, and serves HTTP/1.1 or HTTP/2 on them with a service that is given.
//!
//! It keeps the pace of each connection (time for a head, idle time), the number of connections, and the end
//! of them all when the process drains. What a request means is the service's business.

mod accept;
mod balancer;
mod chunked;
mod converse;
mod handshake;
mod held;
mod http2;
mod metered;
mod pace;
mod proxy_protocol;
mod serve;
mod share;

use std::{
    cell::Cell,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use hyper::body::{self, Body};

pub use self::{
    accept::Refusals,
    chunked::Scratch,
    share::{Arrivals, Share},
};
use self::{
    held::{Begun, Held},
    pace::Pace,
};
use crate::{
    incoming::Incoming,
    limits::{Connected, Connections, Full, OfAddress, Reached, Room, Told},
    net::{Liveness, Ticker},
    shutdown::{Phase, Watch},
};

/// For a client for whose connection there is no room, to ask and be told so.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// What a connection is served by. Read anew for each connection.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// For a request's head, from its first byte; for the first head, from the connection's beginning.
    pub request_head: Duration,
    /// For an idle connection.
    pub keep_alive: Duration,
    /// What the kernel watches for.
    pub liveness: Liveness,
    /// Most bytes of a head, its first line among them.
    pub header_bytes: usize,
    /// Most header lines.
    pub headers: usize,
    /// Most requests of one HTTP/2 connection under way.
    pub http2_streams: u32,
    /// How HTTP/2 asks whether the client is there; `None` never asks.
    pub pings: Option<Pings>,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// The room for connections.
    pub room: Room,
}

/// How a silent client is asked whether it is there. TCP asks as well, but a balancer on the way may answer that.
#[derive(Debug, Clone, Copy)]
pub struct Pings {
    /// The silence before.
    pub interval: Duration,
    /// For the answer.
    pub timeout: Duration,
}

impl Pings {
    /// Asks after `silence`, so that a client is given up that has been gone for `gone_after`. Both are as for TCP; without
    /// one of them nobody asks.
    #[must_use]
    pub fn new(silence: Option<Duration>, gone_after: Option<Duration>) -> Option<Self> {
        let gone_after = gone_after?;
        let interval = silence?.min(gone_after / 2);
        Some(Self {
            interval,
            timeout: gone_after - interval,
        })
    }
}

/// What serves requests: called with the request and what is known of its client.
pub trait Handler: 'static {
    /// The answer's body.
    type Body: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static>
        + Unpin
        + 'static;

    /// The options of this moment.
    fn options(&self) -> Options;

    /// Whether whoever connects from `address` is believed whose connection it passes on.
    fn trusts(&self, address: IpAddr) -> bool;

    /// Answers one request.
    fn handle(
        &self,
        request: Request<Incoming>,
        client: &Downstream,
    ) -> impl Future<Output = Response<Self::Body>>;

    /// What every request of a connection is answered for which there is no room.
    fn turn_away(&self, full: Full) -> Response<Self::Body>;

    /// How long an answer goes on.
    fn lasting(body: &Self::Body) -> Lasting;
}

/// How long an answer goes on. One that does for long has no use for what HTTP needs to read a request, which is most of
/// the memory that a connection takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// Not long; or it has a length, or does not wait.
    No,
    /// Until something is done, which may take long.
    Perhaps,
    /// As long as its client wants.
    Yes,
}

/// The client side of one connection.
#[derive(Debug)]
pub struct Downstream {
    /// The client's address.
    pub peer: SocketAddr,
    /// Whether that is so: a balancer that does not say whose connection it passes on only lends its own, and nothing
    /// that comes over it is to be believed.
    pub is_known: bool,
    /// Its IP address as `X-Forwarded-For` has it.
    pub forwarded_for: HeaderValue,
    /// Whether it speaks TLS.
    pub is_secure: bool,
}

impl Downstream {
    fn new(peer: Peer, is_secure: bool) -> Self {
        let Peer {
            address: peer,
            is_known,
        } = peer;
        Self {
            peer,
            is_known,
            forwarded_for: written(peer.ip()),
            is_secure,
        }
    }
}

/// An address as headers have it. A dual-stack socket shows IPv4 clients as `::ffff:a.b.c.d`.
fn written(address: IpAddr) -> HeaderValue {
    let text = match address.to_canonical() {
        // A thousand instructions less than by its `Display`, for each connection.
        IpAddr::V4(address) => {
            let mut text = BytesMut::with_capacity("255.255.255.255".len());
            for octet in address.octets() {
                text.extend_from_slice(if text.is_empty() { b"" } else { b"." });
                text.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
            text.freeze()
        }
        IpAddr::V6(address) => address.to_string().into(),
    };
    HeaderValue::from_maybe_shared(text).expect("an IP address is visible ASCII")
}

/// Who is at the other end of a connection: see [`Downstream`].
#[derive(Debug, Clone, Copy)]
struct Peer {
    address: SocketAddr,
    is_known: bool,
}

impl Peer {
    /// Nobody stands between.
    fn direct(address: SocketAddr) -> Self {
        Self {
            address,
            is_known: true,
        }
    }
}

/// Everything that the connections of one thread share.
#[derive(Debug)]
pub struct Server<H> {
    /// What answers.
    pub handler: H,
    /// The deadlines of this thread.
    pub ticker: Ticker,
    /// The phase of the process.
    pub watch: Watch,
    /// How many connections there are.
    pub connections: Connections,
    /// What this thread has of them; `None` where there is no other thread.
    pub share: Option<Share>,
    /// How often the limits were reached.
    pub reached: Reached,
    /// What could not be accepted.
    pub refusals: Refusals,
    /// Where answers without HTTP are put together.
    pub scratch: Scratch,
}

/// One connection: who is at its other end, and its pace.
struct Connection<H: Handler> {
    server: Rc<Server<H>>,
    client: Downstream,
    pace: Rc<Pace>,
    options: Options,
    /// Why there is no room for it.
    full: Option<Full>,
    /// An answer that HTTP has let go of.
    left: Cell<Option<Box<Begun<H::Body>>>>,
    /// The room that it takes: as a connection, as its client's behind a balancer, or to be told that there is none.
    _room: (Option<Connected>, Option<OfAddress>, Option<Told>),
}

impl<H: Handler> Connection<H> {
    async fn answer(
        self: Rc<Self>,
        request: Request<body::Incoming>,
    ) -> Result<Response<Held<H>>, Infallible> {
        let busy = Pace::begin(&self.pace);
        let request = request.map(|body| Incoming::new(body, self.pace.taken_whole()));
        let http_10 = request.version() == Version::HTTP_10;
        let wants_end = is_closing(request.headers());
        let handler = &self.server.handler;
        let mut response = match self.full {
            None => handler.handle(request, &self.client).await,
            Some(full) => handler.turn_away(full),
        };
        // HTTP/1.0 knows no chunks: without a length, the answer ends with its connection.
        let close_delimited = http_10 && response.body().size_hint().exact().is_none();
        let closes =
            close_delimited || self.full.is_some() || self.server.watch.phase() != Phase::Running;
        if closes {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let lasting = if http_10 {
            Lasting::No
        } else {
            H::lasting(response.body())
        };
        self.pace
            .answer(close_delimited, closes || wants_end, lasting);
        Ok(response.map(|body| Held::new(Begun { body, busy }, Rc::clone(&self))))
    }
}

/// Whether the client of a request wants no other one over its connection (RFC 9112, section 9.6).
fn is_closing(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONNECTION).iter().any(|value| {
        let mut options = value.as_bytes().split(|byte| *byte == b',');
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_everywhere() {
        for (address, text) in [
            ("0.0.0.0", "0.0.0.0"),
            ("255.255.255.255", "255.255.255.255"),
            ("10.0.203.7", "10.0.203.7"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(written(address.parse().unwrap()), text);
        }
    }
}
