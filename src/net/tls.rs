//! TLS over the sockets of this machine, for both sides, and what outlives a change of certificates.
//!
//! Which certificates there are and whom to believe was read and checked by `config::tls`. A [`Socket`] is read and
//! written like a [`Stream`], which one without TLS pays for with one look at which it is.

mod certificates;
mod first_byte;

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    crypto::ring::Ticketer,
    server::{NoClientAuth, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions},
};
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use self::{certificates::Certificates, first_byte::FirstByte};
use super::Stream;
use crate::{backend, config::tls};

/// What is spoken behind TLS, as clients are offered it (RFC 7301): the first of these that a client speaks, too.
const PROTOCOLS: [&[u8]; 2] = [HTTP_2, b"http/1.1"];
const HTTP_2: &[u8] = b"h2";

/// Sessions of TLS 1.2 without tickets that are remembered, 200 bytes each.
const SESSIONS: usize = 4096;

/// What a client is told that speaks HTTP where TLS is spoken. Its body ends with the connection.
const NOT_TLS: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
                       This port speaks TLS: the URL has to begin with https://\n";

/// A connection, with TLS or without.
pub struct Socket(Kind);

enum Kind {
    Clear(Stream),
    Tls(Box<TokioIo<TlsStream<Transport>>>),
}

/// What TLS is spoken over.
type Transport = TokioIo<FirstByte>;

impl Socket {
    /// A connection without TLS.
    #[must_use]
    pub fn clear(stream: Stream) -> Self {
        Self(Kind::Clear(stream))
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        matches!(self.0, Kind::Tls(_))
    }

    /// Whether nothing has come that is not read yet: see [`Stream::is_quiet`]. With TLS nobody can tell: what has come may
    /// be a session ticket.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        match &self.0 {
            Kind::Clear(stream) => stream.is_quiet(),
            Kind::Tls(_) => true,
        }
    }

    /// Whether both ends have agreed on HTTP/2 in the TLS handshake.
    #[must_use]
    pub fn agreed_on_http2(&self) -> bool {
        match &self.0 {
            Kind::Clear(_) => false,
            Kind::Tls(stream) => stream.inner().get_ref().1.alpn_protocol() == Some(HTTP_2),
        }
    }

    /// Whether something has come that nobody has read yet, be it only for TLS: the opposite of [`Stream::is_quiet`].
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.stream().is_quiet()
    }

    /// Ready when there is something to read: see [`Stream::poll_peek`]. With TLS, that may also be something that TLS
    /// says to itself, and what is copied is what TLS has made of it; what was decrypted already is not seen.
    ///
    /// # Errors
    ///
    /// When reading would fail.
    pub fn poll_peek(&mut self, cx: &mut Context<'_>, begin: &mut [u8]) -> Poll<io::Result<usize>> {
        let stream = match &mut self.0 {
            Kind::Clear(stream) => stream,
            Kind::Tls(stream) => match stream.inner_mut() {
                TlsStream::Client(stream) => stream.get_mut().0.inner_mut().stream_mut(),
                TlsStream::Server(stream) => stream.get_mut().0.inner_mut().stream_mut(),
            },
        };
        stream.poll_peek(cx, begin)
    }

    /// Makes closing this connection visible as a failure: see [`Stream::reset_on_close`].
    ///
    /// # Errors
    ///
    /// When the connection is gone already.
    pub fn reset_on_close(&self) -> io::Result<()> {
        self.stream().reset_on_close()
    }

    fn stream(&self) -> &Stream {
        match &self.0 {
            Kind::Clear(stream) => stream,
            Kind::Tls(stream) => match stream.inner() {
                TlsStream::Client(stream) => stream.get_ref().0.inner().stream(),
                TlsStream::Server(stream) => stream.get_ref().0.inner().stream(),
            },
        }
    }

    fn secured(stream: impl Into<TlsStream<Transport>>) -> Self {
        Self(Kind::Tls(Box::new(TokioIo::new(stream.into()))))
    }
}

impl Read for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Kind::Clear(stream) => Pin::new(stream).poll_read(cx, buffer),
            Kind::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl Write for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Kind::Clear(stream) => Pin::new(stream).poll_write(cx, bytes),
            Kind::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Kind::Clear(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Kind::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Kind::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Kind::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Kind::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("is_secure", &self.is_secure())
            .finish_non_exhaustive()
    }
}

/// What clients are shown, by all threads. Cheap to clone: all clones are one.
#[derive(Clone)]
pub struct Acceptor(Arc<Shared>);

struct Shared {
    /// `None` while there are no certificates: then no listener speaks TLS.
    config: ArcSwapOption<ServerConfig>,
    // Only for the moment in which certificates are replaced.
    sessions: Mutex<Option<Sessions>>,
    failed: AtomicU64,
    // Only for the moment in which certificates are replaced, and for whoever watches.
    shown: Mutex<Vec<Shown>>,
}

/// A certificate that clients are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The host names that it is for.
    pub names: Vec<String>,
    /// The last moment of its time.
    pub until: SystemTime,
}

/// By what clients resume sessions. It outlives certificates, but not the roots by which clients were checked: who
/// resumes a session is not checked again.
#[derive(Clone)]
struct Sessions {
    checked_by: Option<[u8; 32]>,
    tickets: Arc<dyn ProducesTickets>,
    store: Arc<dyn StoresServerSessions>,
}

/// A handshake that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client speaks HTTP without TLS, and was told so.
    #[error("the client speaks HTTP without TLS")]
    NotTls,
    /// The client left without a word, as those do that only look whether somebody listens.
    #[error("the client said nothing")]
    Silent,
    /// The client was slow.
    #[error("the TLS handshake took longer than {0:?}")]
    TimedOut(Duration),
    /// Anything else: the client has left, wants what is not spoken here, or does not believe the certificate.
    #[error("the TLS handshake failed")]
    Failed(#[source] io::Error),
}

impl Acceptor {
    /// Shows what `settings` have; nothing without them.
    ///
    /// # Errors
    ///
    /// When the machine has no randomness for the keys of tickets.
    pub fn new(settings: Option<&tls::Tls>) -> io::Result<Self> {
        let acceptor = Self(Arc::new(Shared {
            config: ArcSwapOption::empty(),
            sessions: Mutex::new(None),
            failed: AtomicU64::new(0),
            shown: Mutex::default(),
        }));
        acceptor.replace(settings)?;
        Ok(acceptor)
    }

    /// Shows what `settings` have to all who connect from now on. Clients go on to resume their sessions, unless other
    /// roots check their certificates now.
    ///
    /// # Errors
    ///
    /// As [`Acceptor::new`]; then all is as before.
    pub fn replace(&self, settings: Option<&tls::Tls>) -> io::Result<()> {
        let config = settings.map(|settings| self.configured(settings));
        self.0.config.store(config.transpose()?.map(Arc::new));
        let certificates = settings.into_iter().flat_map(|tls| &tls.certificates);
        let shown = certificates.map(|certificate| Shown {
            names: certificate.names.clone(),
            until: certificate.until,
        });
        *lock(&self.0.shown) = shown.collect();
        Ok(())
    }

    fn configured(&self, settings: &tls::Tls) -> io::Result<ServerConfig> {
        let clients = settings.clients.as_ref();
        let sessions = self.sessions(clients.map(|clients| clients.digest))?;
        let verifier = clients.map_or_else(
            || Arc::new(NoClientAuth) as Arc<_>,
            |clients| Arc::clone(&clients.verifier),
        );
        let mut config = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Certificates::new(&settings.certificates)));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        config.ticketer = sessions.tickets;
        config.session_storage = sessions.store;
        Ok(config)
    }

    fn sessions(&self, checked_by: Option<[u8; 32]>) -> io::Result<Sessions> {
        let mut kept = lock(&self.0.sessions);
        let of_same = kept.as_ref().filter(|kept| kept.checked_by == checked_by);
        let sessions = match of_same {
            Some(sessions) => sessions.clone(),
            None => Sessions {
                checked_by,
                tickets: Ticketer::new().map_err(io::Error::other)?,
                store: ServerSessionMemoryCache::new(SESSIONS),
            },
        };
        *kept = Some(sessions.clone());
        Ok(sessions)
    }

    /// The certificates that clients are shown.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        lock(&self.0.shown).clone()
    }

    /// Handshakes that came to nothing since the process began.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Ordering::Relaxed)
    }

    /// Shakes hands with a client within `limit`. When dropped, the connection is closed.
    ///
    /// # Errors
    ///
    /// See [`HandshakeError`].
    pub async fn accept(&self, stream: Stream, limit: Duration) -> Result<Socket, HandshakeError> {
        let accepted = super::within(limit, self.try_accept(stream)).await;
        let accepted = accepted.unwrap_or(Err(HandshakeError::TimedOut(limit)));
        match accepted {
            Ok(_) | Err(HandshakeError::Silent) => {}
            Err(
                HandshakeError::NotTls | HandshakeError::TimedOut(_) | HandshakeError::Failed(_),
            ) => {
                self.0.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        accepted
    }

    async fn try_accept(&self, stream: Stream) -> Result<Socket, HandshakeError> {
        let config = self.0.config.load_full();
        let config = config.ok_or_else(|| {
            HandshakeError::Failed(io::Error::other("there are no certificates any more"))
        })?;
        let transport = TokioIo::new(FirstByte::new(stream));
        let accepting = TlsAcceptor::from(config).accept(transport).into_fallible();
        match accepting.await {
            Ok(stream) => Ok(Socket::secured(stream)),
            Err((_, transport)) if transport.inner().is_silent() => Err(HandshakeError::Silent),
            Err((_, transport)) if transport.inner().is_http() => {
                let mut stream = TokioIo::new(transport.into_inner().into_stream());
                let told = async {
                    stream.write_all(NOT_TLS.as_bytes()).await?;
                    stream.shutdown().await
                };
                drop(told.await); // who is gone by now need not know
                Err(HandshakeError::NotTls)
            }
            Err((error, _)) => Err(HandshakeError::Failed(error)),
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

/// Shakes hands with a backend. Has no deadline of its own. When dropped, the connection is closed.
///
/// # Errors
///
/// When the backend's certificate is not believed, or anything else comes to nothing: with [`rustls::Error`] as what is
/// inside where TLS itself says so.
pub async fn connect(stream: Stream, settings: &backend::Tls) -> io::Result<Socket> {
    let transport = TokioIo::new(FirstByte::new(stream));
    let connector = TlsConnector::from(settings.config());
    let stream = connector
        .connect(settings.name().clone(), transport)
        .await?;
    Ok(Socket::secured(stream))
}
