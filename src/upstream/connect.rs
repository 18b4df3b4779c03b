//! Makes a connection to a backend: resolve, connect, TLS, handshake. Resolving has its own share of the time.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    body::Body,
    client::conn::http1::{self, SendRequest},
    rt::{Read, ReadBuf, ReadBufCursor, Write},
};
use rustls::{AlertDescription, CertificateError};

use super::{
    Open, Options,
    http2::NoHttp2,
    intake::{Intake, Reading},
    names::Names,
};
use crate::{
    backend::{Endpoint, Host},
    net::{
        self, Liveness, Stream,
        tls::{self, Socket},
    },
};

/// hyper reads bodies into a buffer of up to this size.
const MIN_BUFFER: usize = 64 * 1024;

/// The part of the time for a connection that a lookup may take. The rest is enough to connect in, so that who
/// is found to be unreachable was asked, and the resolver alone loses nobody.
const LOOKUP: u32 = 2;

/// Why no connection could be made. The backend has seen nothing.
///
/// Cheap to clone: several requests may have waited for one connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// The port is closed: nothing listens there, or a firewall says no.
    #[error("the connection to {address} was refused")]
    Refused {
        /// Who refused.
        address: SocketAddr,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
    /// Nothing came back in time: the host is gone, or a network policy drops the packets.
    #[error(
        "no connection within {limit:?}: the host is gone, or a firewall or network policy drops packets"
    )]
    TimedOut {
        /// The deadline.
        limit: Duration,
    },
    /// Anything else.
    #[error("cannot connect to {address}")]
    Failed {
        /// Where to.
        address: SocketAddr,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
    /// The host name has no address, or the resolver was silent, and none is known from before.
    #[error("cannot resolve the host name {host:?}")]
    Unresolved {
        /// The name.
        host: Box<str>,
        /// What the resolver said.
        source: Arc<io::Error>,
    },
    /// The host name stands for several replicas, and a session lives in one.
    #[error(
        "the host name {host:?} resolves to {addresses:?}: write dns+ before its URL, or name each replica as a backend of its own"
    )]
    SeveralAddresses {
        /// The name.
        host: Box<str>,
        /// What it resolves to.
        addresses: Vec<IpAddr>,
    },
    /// The connection was lost in the handshake.
    #[error("the connection was lost at once")]
    Handshake(#[source] Arc<hyper::Error>),
    /// The backend's certificate is not believed.
    #[error("the certificate of {name} is not believed: {why}")]
    Certificate {
        /// Whom it has to be for.
        name: Box<str>,
        /// What is wrong with it, and what to do about it.
        why: Distrust,
        /// What TLS said. In a box: each open connection has room for an error.
        source: Box<rustls::Error>,
    },
    /// The TLS handshake came to nothing for another reason.
    #[error("no TLS with {name}")]
    Tls {
        /// Who was to be there.
        name: Box<str>,
        /// What was said, or not.
        source: Arc<io::Error>,
    },
    /// It is there, and HTTP/2 cannot be spoken with it.
    #[error("no HTTP/2: {0}")]
    Http2(NoHttp2),
}

/// Why a certificate is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// It is for others.
    #[error(
        "it is for other names; write server_name under tls of the pool if one of those is meant"
    )]
    Name,
    /// Nobody who is believed has issued it.
    #[error(
        "its issuer is not among the roots that are believed; see `roots` under tls of the pool"
    )]
    Issuer,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time has not begun.
    #[error("it is not valid yet, or this machine's clock is wrong")]
    NotYetValid,
    /// Anything else.
    #[error("it cannot be used")]
    Other,
}

impl From<&CertificateError> for Distrust {
    fn from(error: &CertificateError) -> Self {
        match error {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::Name
            }
            CertificateError::UnknownIssuer => Self::Issuer,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            _ => Self::Other,
        }
    }
}

impl ConnectError {
    /// Whether to try again soon may help: the port was closed, as it is while a process restarts, or a connection was
    /// lost that was just made.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused { .. } => true,
            Self::Tls { source, .. } => {
                is_closed_by_peer(source) || source.kind() == io::ErrorKind::UnexpectedEof
            }
            Self::Http2(NoHttp2::Closed) => true,
            Self::Http2(_)
            | Self::TimedOut { .. }
            | Self::Failed { .. }
            | Self::Unresolved { .. }
            | Self::SeveralAddresses { .. }
            | Self::Handshake(_)
            | Self::Certificate { .. } => false,
        }
    }
}

/// A connection that takes one request after the other.
pub(super) struct Connection<B> {
    pub(super) sender: SendRequest<B>,
    pub(super) intake: Rc<Intake>,
}

pub(super) async fn connect<B>(
    endpoint: &Endpoint,
    options: Options,
    names: &Names,
    counted: &Open,
) -> Result<Connection<B>, ConnectError>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let began = net::now();
    let stream = open(endpoint, options.connect, options.liveness, names).await?;
    let left = options
        .connect
        .saturating_sub(net::now().saturating_duration_since(began));
    let intake: Rc<Intake> = Rc::default();
    let stream = Patient {
        socket: speak(stream, endpoint, left).await?,
        intake: Rc::clone(&intake),
    };
    let handshake = http1::Builder::new()
        // Small messages leave in one plain write: CPU per request ×0.8 against writev.
        .writev(false)
        .max_headers(options.headers)
        .max_header_size(options.header_bytes)
        // Else a client that does not read costs 400 KiB here alone.
        .max_buf_size(options.header_bytes.max(MIN_BUFFER))
        .handshake(stream);
    let (sender, connection) = handshake
        .await
        .map_err(|error| ConnectError::Handshake(Arc::new(error)))?;
    let entered = counted.enter();
    tokio::task::spawn_local(async move {
        let _until_it_ends = entered;
        // Its errors reach whoever waits for the answer or reads the body.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Ok(Connection { sender, intake })
}

/// A connection whose end is seen by reading alone. A server that refuses a request by its head answers
/// and closes while the body is still on its way. That fails our write, and hyper would give up with the
/// answer, such as 413, unread.
///
/// What it reads until an answer's head is there is watched over: see [`Intake`].
struct Patient {
    socket: Socket,
    intake: Rc<Intake>,
}

impl Read for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.intake.next()? {
            Reading::Counted => {}
            Reading::Quiet if !self.socket.is_quiet() => {
                // The request has not left: it goes out on another connection.
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            Reading::Quiet | Reading::Free => {
                let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
                if polled.is_ready() {
                    self.intake.read(0);
                }
                return polled;
            }
        }
        let mut piece = [0; 4096];
        let room = piece.len().min(buffer.remaining());
        let mut read = ReadBuf::new(&mut piece[..room]);
        ready!(Pin::new(&mut self.socket).poll_read(cx, read.unfilled()))?;
        self.intake.read(read.filled().len());
        buffer.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(Pin::new(&mut self.socket).poll_write(cx, bytes)) {
            Err(error) if is_closed_by_peer(&error) => Poll::Ready(Ok(bytes.len())),
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.socket).poll_flush(cx)) {
            // With TLS, what was written may be on its way until now.
            Err(error) if is_closed_by_peer(&error) => Poll::Ready(Ok(())),
            flushed => Poll::Ready(flushed),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

fn is_closed_by_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// Makes of a connection what is spoken with the backend, within `limit`: TLS, if its URL says so. Cancel safe.
///
/// # Errors
///
/// [`ConnectError::Certificate`] and [`ConnectError::Tls`].
pub async fn speak(
    stream: Stream,
    endpoint: &Endpoint,
    limit: Duration,
) -> Result<Socket, ConnectError> {
    let Some(settings) = &endpoint.tls else {
        return Ok(Socket::clear(stream));
    };
    let connecting = tls::connect(stream, settings);
    let connected = net::within(limit, connecting).await.unwrap_or_else(|| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "it did not finish the handshake in time; does it speak TLS?",
        ))
    });
    let is_http2 = |socket: &Socket| socket.agreed_on_http2();
    if endpoint.http2 && connected.as_ref().is_ok_and(|socket| !is_http2(socket)) {
        return Err(ConnectError::Http2(NoHttp2::NotChosen));
    }
    connected.map_err(|source| {
        let name = settings.name().to_str().into();
        let inner = source.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(error @ rustls::Error::InvalidCertificate(problem)) => ConnectError::Certificate {
                name,
                why: Distrust::from(problem),
                source: Box::new(error.clone()),
            },
            Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol))
                if endpoint.http2 =>
            {
                ConnectError::Http2(NoHttp2::NotChosen)
            }
            Some(_) | None => ConnectError::Tls {
                name,
                source: Arc::new(source),
            },
        }
    })
}

/// Opens a TCP connection to the backend's one address within `limit`. Cancel safe.
///
/// # Errors
///
/// See [`ConnectError`].
pub async fn open(
    endpoint: &Endpoint,
    limit: Duration,
    liveness: Liveness,
    names: &Names,
) -> Result<Stream, ConnectError> {
    match &endpoint.host {
        Host::Ip(ip) => open_one_of(&[*ip], endpoint, limit, liveness).await,
        Host::Dns(host) => {
            let share = limit / LOOKUP;
            let began = net::now();
            let addresses = names.addresses(host, share).await?;
            let taken = net::now().saturating_duration_since(began).min(share); // timers are late
            open_one_of(&addresses, endpoint, limit - taken, liveness).await
        }
    }
}

async fn open_one_of(
    addresses: &[IpAddr],
    endpoint: &Endpoint,
    limit: Duration,
    liveness: Liveness,
) -> Result<Stream, ConnectError> {
    let opened = net::within(limit, async {
        let mut failure = None;
        for ip in addresses {
            let address = SocketAddr::new(*ip, endpoint.port.get());
            match net::connect(address, liveness).await {
                Ok(stream) => return Ok(stream),
                Err(source) if source.kind() == io::ErrorKind::ConnectionRefused => {
                    let source = Arc::new(source);
                    failure = Some(ConnectError::Refused { address, source });
                }
                Err(source) => {
                    let source = Arc::new(source);
                    failure = Some(ConnectError::Failed { address, source });
                }
            }
        }
        Err(failure.expect("a host has at least one address"))
    });
    opened
        .await
        .unwrap_or(Err(ConnectError::TimedOut { limit }))
}
