//! Makes a connection to a backend: resolve, connect, TLS. Resolving has its own share of the time.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::{AlertDescription, CertificateError};

use super::{Open, Options, http1::Connection, http2::NoHttp2, names::Names};
use crate::{
    backend::{Endpoint, Host},
    net::{
        self, Liveness, Stream,
        tls::{self, Socket},
    },
};

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
            | Self::Certificate { .. } => false,
        }
    }
}

pub(super) async fn connect(
    endpoint: &Endpoint,
    options: Options,
    names: &Names,
    counted: &Open,
) -> Result<Connection, ConnectError> {
    let began = net::now();
    let stream = open(endpoint, options.connect, options.liveness, names).await?;
    let left = options
        .connect
        .saturating_sub(net::now().saturating_duration_since(began));
    let socket = speak(stream, endpoint, left).await?;
    Ok(Connection::new(socket, counted.enter()))
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
