//! TCP as the kernel has it.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use listenfd::ListenFd;
use rlimit::Resource;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncReadExt as _, ReadBuf};

use super::{Instant, Liveness};

/// Connections that the kernel may hold for us before they are accepted; the kernel caps it at `somaxconn`.
const BACKLOG: i32 = 4096;

/// Probes that go unanswered before TCP keep-alive gives a connection up.
const KEEP_ALIVE_PROBES: u32 = 3;

/// Bytes that the kernel takes from us beyond those that it has sent. Without a bound it takes megabytes for a client
/// that does not read; what is on its way to one that does is not bounded by it.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 * 1024;

/// Most bytes that are read at once: hyper doubles its buffers as long as reads fill them, and a client that does not
/// read holds three of those. Just below 32 KiB, so that they stay at that.
const MOST_READ: u64 = 31 * 1024;

/// Raises the soft limit of open files to the hard one, and gives what it is then. Most systems start services with
/// 1,024, and a stream needs two.
///
/// # Errors
///
/// When the limit cannot be read.
pub fn raise_open_files() -> io::Result<u64> {
    let (soft, hard) = Resource::NOFILE.get()?;
    // No limit at all may be more than the kernel gives to anybody.
    let raised = Resource::NOFILE.set(hard, hard);
    Ok(if raised.is_ok() { hard } else { soft })
}

impl Liveness {
    /// Between two probes: the last of them goes out shortly before the end is given up.
    fn probe_interval(&self, idle: Duration) -> Duration {
        let all = self.user_timeout.unwrap_or(2 * idle);
        let seconds = all.saturating_sub(idle).as_secs_f32() / KEEP_ALIVE_PROBES as f32;
        Duration::from_secs(seconds.ceil().max(1.0) as u64)
    }

    fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?; // small messages and SSE events leave at once
        if cfg!(target_os = "linux") && self.user_timeout.is_some() {
            socket.set_tcp_user_timeout(self.user_timeout)?;
        }
        if let Some(idle) = self.keep_alive {
            let probes = TcpKeepalive::new()
                .with_time(idle.max(Duration::from_secs(1)))
                .with_interval(self.probe_interval(idle))
                .with_retries(KEEP_ALIVE_PROBES);
            socket.set_tcp_keepalive(&probes)?;
        }
        #[cfg(target_os = "linux")]
        socket.set_tcp_notsent_lowat(UNSENT)?; // the last: see `is_marked`
        Ok(())
    }
}

/// Whether all options are set: nobody else sets the last one of them.
fn is_marked(socket: &SockRef<'_>) -> bool {
    #[cfg(target_os = "linux")]
    return socket
        .tcp_notsent_lowat()
        .is_ok_and(|unsent| unsent == UNSENT);
    #[cfg(not(target_os = "linux"))]
    return false;
}

/// A bound TCP socket that is not accepting yet. Made outside of any runtime.
#[derive(Debug)]
pub struct Bound(pub(super) Socket);

impl Bound {
    /// Binds and listens on `address`.
    ///
    /// # Errors
    ///
    /// As the kernel says, `AddrInUse` above all: the port is not shared with another process.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?; // a restart must not wait for old connections in TIME_WAIT
        if address.is_ipv6() {
            // "[::]" means IPv4 too, whatever the machine's sysctl says.
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// The listening TCP sockets that this process was started with: systemd's socket activation
    /// (`sd_listen_fds(3)`: `LISTEN_FDS`, `LISTEN_PID`). None where there is no such thing.
    ///
    /// # Errors
    ///
    /// When what was passed is no TCP socket.
    pub fn inherited() -> io::Result<Vec<Self>> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            if let Some(socket) = passed.take_tcp_listener(index)? {
                sockets.push(Self::listening(Socket::from(socket))?);
            }
        }
        Ok(sockets)
    }

    /// Takes a socket that another process has made.
    pub(super) fn listening(socket: Socket) -> io::Result<Self> {
        if !socket.is_listener()? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a socket that does not listen",
            ));
        }
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// The address that it really has, also where port 0 was asked for.
    ///
    /// # Errors
    ///
    /// As the kernel says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("not an IP socket"))
    }

    /// Another handle of the same socket and queue, for another thread.
    ///
    /// # Errors
    ///
    /// When file descriptors have run out.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Registers the socket with the current runtime.
    ///
    /// # Errors
    ///
    /// When the runtime's poller refuses it.
    pub fn into_listener(self) -> io::Result<Listener> {
        Ok(Listener {
            is_new: !is_marked(&SockRef::from(&self.0)),
            socket: tokio::net::TcpListener::from_std(self.0.into())?,
            handed_down: Cell::new(None),
        })
    }
}

/// A listening socket of the current runtime.
#[derive(Debug)]
pub struct Listener {
    socket: tokio::net::TcpListener,
    /// Nobody had set its options before.
    is_new: bool,
    /// What the sockets that it accepts have of it: they take over its options, which saves seven system calls for each.
    handed_down: Cell<Option<HandedDown>>,
}

/// The options of a listening socket.
#[derive(Debug, Clone, Copy)]
struct HandedDown {
    liveness: Liveness,
    since: Instant,
    /// They are its first: whoever has the last of them has them all.
    are_first: bool,
}

/// Connections that wait to be accepted may be older than the options of their listener by so much.
const MAY_WAIT: Duration = Duration::from_secs(10);

impl Listener {
    pub(super) fn poll_accept(
        &self,
        cx: &mut Context<'_>,
        liveness: Liveness,
    ) -> Poll<io::Result<(Stream, SocketAddr)>> {
        let (stream, peer) = ready!(self.socket.poll_accept(cx))?;
        if !self.hands_down(liveness, &stream)? {
            liveness.apply(&SockRef::from(&stream))?;
        }
        Poll::Ready(Ok((Stream(TokioIo::new(stream)), peer)))
    }

    /// Whether `accepted` has `liveness` of itself (Linux alone promises that).
    fn hands_down(&self, liveness: Liveness, accepted: &tokio::net::TcpStream) -> io::Result<bool> {
        if !cfg!(target_os = "linux") {
            return Ok(false);
        }
        let before = self.handed_down.get();
        if let Some(now) = before.filter(|handed| handed.liveness == liveness) {
            let is_old = super::now().saturating_duration_since(now.since) >= MAY_WAIT;
            return Ok(is_old || now.are_first && is_marked(&SockRef::from(accepted)));
        }
        let socket = SockRef::from(&self.socket);
        liveness.apply(&socket)?;
        self.handed_down.set(Some(HandedDown {
            liveness,
            since: super::now(),
            are_first: self.is_new && before.is_none(),
        }));
        Ok(false)
    }
}

/// A connection that is of no runtime, on its way to another thread's.
#[derive(Debug)]
pub struct Moving(std::net::TcpStream);

impl Stream {
    /// Leaves the current runtime.
    ///
    /// # Errors
    ///
    /// When the runtime's poller does not know it.
    pub fn leave(self) -> io::Result<Moving> {
        self.0.into_inner().into_std().map(Moving)
    }
}

impl Moving {
    /// Registers the connection with the current runtime.
    ///
    /// # Errors
    ///
    /// When the runtime's poller refuses it.
    pub fn arrive(self) -> io::Result<Stream> {
        let stream = tokio::net::TcpStream::from_std(self.0)?;
        Ok(Stream(TokioIo::new(stream)))
    }
}

/// Connects to `address`. Cancel safe. Has no deadline of its own: see [`within`](super::within).
///
/// # Errors
///
/// As the kernel says.
pub async fn connect(address: SocketAddr, liveness: Liveness) -> io::Result<Stream> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    liveness.apply(&SockRef::from(&stream))?;
    Ok(Stream(TokioIo::new(stream)))
}

/// The addresses of a DNS name, as the system's resolver gives them, without duplicates. Cancel safe.
///
/// # Errors
///
/// When the name does not resolve.
pub async fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok(addresses(tokio::net::lookup_host((host, 0)).await?))
}

fn addresses(found: impl Iterator<Item = SocketAddr>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    addresses
}

/// A TCP connection, as hyper reads and writes it.
#[derive(Debug)]
pub struct Stream(TokioIo<tokio::net::TcpStream>);

impl Stream {
    /// Ready when there is something to read: bytes, the end, or a failure. Copies what there is to `begin`, as far as it
    /// goes, and gives how much; takes nothing.
    ///
    /// # Errors
    ///
    /// When reading would fail.
    pub fn poll_peek(&mut self, cx: &mut Context<'_>, begin: &mut [u8]) -> Poll<io::Result<usize>> {
        // What the runtime takes for readable may be empty: a new connection always.
        self.0.inner().poll_peek(cx, &mut ReadBuf::new(begin))
    }

    /// Makes closing this connection visible as a failure: a reset instead of an orderly end.
    ///
    /// # Errors
    ///
    /// When the connection is gone already.
    pub fn reset_on_close(&self) -> io::Result<()> {
        SockRef::from(self.0.inner()).set_linger(Some(Duration::ZERO))
    }

    /// Whether nothing has come that is not read yet: neither bytes, nor an end, nor a failure. The kernel is asked
    /// (0.3 µs), for the runtime hears of what came only when it next polls.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let peeked = SockRef::from(self.0.inner()).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let part = self.0.inner_mut().take(MOST_READ);
        pin!(TokioIo::new(part)).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        pin!(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        pin!(&mut self.0).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn clock(gone_after: u64, silence: u64) -> (Duration, Duration) {
        let idle = seconds(30);
        let liveness = Liveness::new(Some(idle), Some(seconds(gone_after)), seconds(silence));
        (
            liveness.user_timeout.unwrap(),
            liveness.probe_interval(idle),
        )
    }

    #[test]
    fn the_silence_before_counts_as_time_gone() {
        assert_eq!(clock(60, 25), (seconds(32), seconds(1)));
        assert_eq!(clock(60, 4), (seconds(53), seconds(8)));
        assert_eq!(clock(60, 0), (seconds(57), seconds(9)));
    }

    #[test]
    fn a_short_loss_ends_nothing_however_long_the_silence() {
        assert_eq!(clock(60, 50), (seconds(30), seconds(1)));
        assert_eq!(clock(60, 3600), (seconds(30), seconds(1)));
    }

    #[test]
    fn without_a_limit_the_probes_alone_count() {
        let liveness = Liveness::new(Some(seconds(30)), None, seconds(25));
        assert_eq!(liveness.user_timeout, None);
        assert_eq!(liveness.probe_interval(seconds(30)), seconds(10));
    }
}
