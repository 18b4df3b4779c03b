//! Unix sockets: for whoever administrates this process on its own machine.
//!
//! A socket is made under a name of its own, closed to others, and then put in its place by a rename: at no
//! moment is there a socket that anybody may connect to, or none at all where there was one.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use socket2::{Domain, SockAddr, Socket, Type};

/// A connection, as hyper reads and writes it.
pub type Stream = TokioIo<tokio::net::UnixStream>;

/// For its owner alone.
const MODE: u32 = 0o600;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// A connection for who has no runtime yet.
pub type Blocking = std::os::unix::net::UnixStream;

/// Connects to the socket at `path`, for reads and writes that block for `limit` at most.
///
/// # Errors
///
/// As the kernel says: `NotFound` and `ConnectionRefused` where nobody listens.
pub fn connect_blocking(path: &Path, limit: Duration) -> io::Result<Blocking> {
    let stream = Blocking::connect(path)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    Ok(stream)
}

/// Connects to the socket at `path`. Cancel safe.
///
/// # Errors
///
/// As the kernel says: `NotFound` and `ConnectionRefused` where nobody listens.
pub async fn connect(path: &Path) -> io::Result<Stream> {
    tokio::net::UnixStream::connect(path)
        .await
        .map(TokioIo::new)
}

/// A bound socket that listens and is not accepting yet. Made outside of any runtime.
#[derive(Debug)]
pub struct Bound {
    socket: Socket,
    file: File,
}

impl Bound {
    /// Makes a socket that is to stand at `path`, and puts it beside it: nobody knows it before
    /// [`Bound::publish`].
    ///
    /// # Errors
    ///
    /// As the kernel says.
    pub fn beside(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let mut hidden = path.file_name().map(OsString::from).unwrap_or_default();
        hidden.push(format!(".{}", std::process::id()));
        let hidden = path.with_file_name(hidden);
        remove_socket(&hidden)?; // of a process that had the same number
        socket.bind(&SockAddr::unix(&hidden)?)?;
        let file = File::of(hidden)?;
        fs::set_permissions(&file.path, fs::Permissions::from_mode(MODE))?;
        socket.listen(BACKLOG)?; // only now can anybody connect
        socket.set_nonblocking(true)?;
        Ok(Self { socket, file })
    }

    /// Puts the socket at `path`, in place of the one that is there, unless it stands there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` where something stands that is no socket; else as the kernel says.
    pub fn publish(&mut self, path: &Path) -> io::Result<()> {
        if self.file.path == path {
            return Ok(());
        }
        if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::rename(&self.file.path, path)?;
        self.file.path = path.to_owned();
        Ok(())
    }

    /// Registers the socket with the current runtime. Its file stands as long as the other half is kept.
    ///
    /// # Errors
    ///
    /// When the runtime's poller refuses it.
    pub fn into_listener(self) -> io::Result<(Listener, File)> {
        let listener = tokio::net::UnixListener::from_std(self.socket.into())?;
        Ok((Listener(listener), self.file))
    }
}

/// Whether a process answers at `path`.
///
/// # Errors
///
/// `PermissionDenied` where that cannot be found out.
pub fn is_served(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?; // else it would wait for room in a full queue
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        // Its queue is full, so there is one.
        Err(error) => Ok(error.kind() == io::ErrorKind::WouldBlock),
    }
}

/// The file of a socket, which is removed at the end if it is still this one.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl File {
    fn of(path: PathBuf) -> io::Result<Self> {
        let found = fs::symlink_metadata(&path)?;
        Ok(Self {
            path,
            device: found.dev(),
            inode: found.ino(),
        })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode)) {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

fn remove_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path),
        Ok(_) | Err(_) => Ok(()), // what else is there, or goes wrong, is told by the bind
    }
}

/// A listening socket of the current runtime.
#[derive(Debug)]
pub struct Listener(tokio::net::UnixListener);

impl Listener {
    /// The next connection. Cancel safe: none is lost.
    ///
    /// # Errors
    ///
    /// As the kernel says; most pass when descriptors are freed.
    pub async fn accept(&self) -> io::Result<Stream> {
        let (stream, _) = self.0.accept().await?;
        Ok(TokioIo::new(stream))
    }
}

/// The number of the user at the other end, where the kernel knows it.
#[must_use]
pub fn peer_user(stream: &Stream) -> Option<u32> {
    let peer = stream.inner().peer_cred().ok()?;
    Some(peer.uid())
}
