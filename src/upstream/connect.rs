//! Makes a connection to a backend: resolve, connect, handshake, all within one deadline.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    body::Body,
    client::conn::http1::{self, SendRequest},
    rt::{Read, ReadBufCursor, Write},
};

use super::Options;
use crate::{
    backend::{Endpoint, Host},
    net::{self, Liveness, Stream},
};

/// hyper reads bodies into a buffer of up to this size.
const MIN_BUFFER: usize = 64 * 1024;

/// Why no connection could be made. The backend has seen nothing.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The port is closed: nothing listens there, or a firewall says no.
    #[error("the connection to {address} was refused")]
    Refused {
        /// Who refused.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
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
        source: io::Error,
    },
    /// The host name has no address.
    #[error("cannot resolve the host name {host:?}")]
    Unresolved {
        /// The name.
        host: Box<str>,
        /// What the resolver said.
        source: io::Error,
    },
    /// The host name stands for several replicas, and a session lives in one.
    #[error(
        "the host name {host:?} resolves to {addresses:?}: name each replica as a backend of its own"
    )]
    SeveralAddresses {
        /// The name.
        host: Box<str>,
        /// What it resolves to.
        addresses: Vec<IpAddr>,
    },
    /// The connection was lost in the handshake.
    #[error("the connection was lost at once")]
    Handshake(#[source] hyper::Error),
}

impl ConnectError {
    /// Whether to try again soon may help: the port was closed, as it is while a process restarts.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

pub(super) async fn connect<B>(
    endpoint: &Endpoint,
    options: Options,
) -> Result<SendRequest<B>, ConnectError>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let limit = options.connect;
    let stream = net::within(limit, open(endpoint, options.liveness)).await;
    let stream = stream.unwrap_or(Err(ConnectError::TimedOut { limit }))?;
    let handshake = http1::Builder::new()
        // Small messages leave in one plain write: CPU per request ×0.8 against writev.
        .writev(false)
        .max_headers(options.headers)
        .max_header_size(options.header_bytes)
        // Else a client that does not read costs 400 KiB here alone.
        .max_buf_size(options.header_bytes.max(MIN_BUFFER))
        .handshake(Patient(stream));
    let (sender, connection) = handshake.await.map_err(ConnectError::Handshake)?;
    tokio::task::spawn_local(async move {
        // Its errors reach whoever waits for the answer or reads the body.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Ok(sender)
}

/// A connection whose end is seen by reading alone. A server that refuses a request by its head answers
/// and closes while the body is still on its way. That fails our write, and hyper would give up with the
/// answer, such as 413, unread.
struct Patient(Stream);

impl Read for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(Pin::new(&mut self.0).poll_write(cx, bytes)) {
            Err(error) if is_closed_by_peer(&error) => Poll::Ready(Ok(bytes.len())),
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn is_closed_by_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// Opens a TCP connection to the backend's one address. Cancel safe. Has no deadline of its own.
///
/// # Errors
///
/// See [`ConnectError`].
pub async fn open(endpoint: &Endpoint, liveness: Liveness) -> Result<Stream, ConnectError> {
    let mut failure = None;
    for ip in addresses(&endpoint.host).await? {
        let address = SocketAddr::new(ip, endpoint.port.get());
        match net::connect(address, liveness).await {
            Ok(stream) => return Ok(stream),
            Err(source) if source.kind() == io::ErrorKind::ConnectionRefused => {
                failure = Some(ConnectError::Refused { address, source });
            }
            Err(source) => failure = Some(ConnectError::Failed { address, source }),
        }
    }
    Err(failure.expect("a host has at least one address"))
}

/// The one address of the host, or one of each family.
async fn addresses(host: &Host) -> Result<Vec<IpAddr>, ConnectError> {
    let host = match host {
        Host::Ip(ip) => return Ok(vec![*ip]),
        Host::Dns(host) => host,
    };
    let unresolved = |source| ConnectError::Unresolved {
        host: host.clone(),
        source,
    };
    let addresses = net::resolve(host).await.map_err(unresolved)?;
    if addresses.is_empty() {
        return Err(unresolved(io::Error::other("the name has no address")));
    }
    let of_v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
    if of_v4 > 1 || addresses.len() - of_v4 > 1 {
        return Err(ConnectError::SeveralAddresses {
            host: host.clone(),
            addresses,
        });
    }
    Ok(addresses)
}
