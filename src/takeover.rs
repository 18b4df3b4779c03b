//! A new process takes the place of a running one, and nobody is refused meanwhile.
//!
//! Over the admin socket: the new one asks with `POST /take-over` and an `Upgrade`, and is passed the listening
//! sockets. Both serve. Only when the new one says that it does, the old one begins to drain; whatever goes wrong
//! before, it goes on as if nothing had happened.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::OwnedSemaphorePermit,
};

use crate::net::{
    self, Bound, passing,
    unix::{Blocking, Stream, connect_blocking},
};

/// Where to ask for it.
pub const TARGET: &str = "/take-over";

/// The word for `Upgrade`.
pub const PROTOCOL: &str = "pinring-take-over";

/// What the new process says when it serves, and the old one when it leaves.
const SERVING: &[u8; 8] = b"serving\n";
const LEAVING: &[u8; 8] = b"leaving\n";

/// For each answer of the old process, which has nothing to wait for.
const ANSWER: Duration = Duration::from_secs(10);

/// For the new process to start.
const START: Duration = Duration::from_secs(60);

/// More than the head of an answer has.
const LONGEST_HEAD: usize = 16 * 1024;

/// Why the sockets of the running process cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// The connection to its admin socket, or what came over it.
    #[error(
        "cannot take over from the process at unix:{}, which goes on: is it a pinring of this version, and not just stopping?",
        path.display()
    )]
    Broken {
        /// The admin socket.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// It says no.
    #[error(
        "the process at unix:{} does not let itself be taken over (status {status}): {}",
        path.display(),
        advice(*status)
    )]
    Refused {
        /// The admin socket.
        path: PathBuf,
        /// What it answered.
        status: u16,
    },
}

fn advice(status: u16) -> &'static str {
    match status {
        409 => "another process is taking over; wait for it",
        503 => "it is stopping; start again when it has ended",
        _ => "it may be of another version; stop it first",
    }
}

/// The running process, whose sockets are here.
#[derive(Debug)]
pub struct Predecessor {
    stream: Blocking,
    sockets: Vec<Bound>,
}

impl Predecessor {
    /// Asks at the admin socket `path` for the listening sockets; `None` where nobody is there. Blocks.
    ///
    /// # Errors
    ///
    /// When somebody is there, and they cannot be had.
    pub fn find(path: &Path) -> Result<Option<Self>, TakeOverError> {
        let broken = |source| TakeOverError::Broken {
            path: path.to_owned(),
            source,
        };
        let stream = match connect_blocking(path, ANSWER) {
            Ok(stream) => stream,
            Err(error) if is_nobody(&error) => return Ok(None),
            Err(error) => return Err(broken(error)),
        };
        match ask(&stream).map_err(broken)? {
            101 => {}
            status => {
                let path = path.to_owned();
                return Err(TakeOverError::Refused { path, status });
            }
        }
        let sockets = passing::receive(&stream).map_err(broken)?;
        Ok(Some(Self { stream, sockets }))
    }

    /// Takes the socket that listens on `wanted`, or, for port 0, on any port of that address.
    pub fn take(&mut self, wanted: SocketAddr) -> Option<Bound> {
        let fits = |socket: &Bound| {
            socket.address().is_ok_and(|address| {
                address == wanted || (wanted.port() == 0 && address.ip() == wanted.ip())
            })
        };
        let found = self.sockets.iter().position(fits)?;
        Some(self.sockets.remove(found)) // the others keep their order: those for clients come first
    }

    /// Tells the running process that this one serves: from then on it leaves. Blocks for a moment.
    ///
    /// # Errors
    ///
    /// When it does not say that it leaves: it may have ended, or be leaving, or go on beside this one.
    pub fn leave(self) -> io::Result<()> {
        let mut stream = &self.stream;
        stream.write_all(SERVING)?;
        let mut said = [0; LEAVING.len()];
        stream.read_exact(&mut said)?;
        if said != *LEAVING {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Sends the request and reads the head of its answer, no byte more. Gives the status.
fn ask(mut stream: &Blocking) -> io::Result<u16> {
    let head = format!(
        "POST {TARGET} HTTP/1.1\r\nhost: pinring\r\nconnection: upgrade\r\nupgrade: {PROTOCOL}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
        if head.len() > LONGEST_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let head = String::from_utf8_lossy(&head);
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A process that wants to take over. There is one at a time.
#[derive(Debug)]
pub struct Claim {
    /// What it asked over.
    pub stream: Stream,
    /// Keeps others away.
    pub alone: OwnedSemaphorePermit,
}

/// Passes `sockets` on, and waits until the other process serves. From then on this one is to leave.
///
/// # Errors
///
/// When the other process has gone, or does not begin to serve in time: this one is to go on.
pub async fn hand_over(claim: Claim, sockets: Vec<Bound>) -> io::Result<()> {
    let Claim { stream, alone } = claim;
    passing::send(&stream, &sockets).await?;
    drop(sockets);
    let user = net::unix::peer_user(&stream);
    let mut stream = TokioIo::into_inner(stream);
    let mut said = [0; SERVING.len()];
    let heard = net::within(START, stream.read_exact(&mut said)).await;
    heard.ok_or(io::ErrorKind::TimedOut)??;
    if said != *SERVING {
        return Err(io::ErrorKind::InvalidData.into());
    }
    tracing::info!(target: "pinring::audit", action = "take-over", user, "changed through the admin listener");
    // From here on both serve, and this one leaves whether or not that is still heard: the other does not go back.
    if let Some(Err(error)) = net::within(ANSWER, stream.write_all(LEAVING)).await {
        tracing::warn!(%error, "the process that took over does not hear that this one leaves");
    }
    drop(alone);
    Ok(())
}
