//! The admin listener's socket: made beside its place, and put there when the process serves.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{admin::Admin, net};

/// The admin listener's socket, and where it belongs.
#[derive(Debug)]
pub(super) struct AdminSocket {
    socket: net::unix::Bound,
    path: PathBuf,
}

impl AdminSocket {
    /// Makes the socket. That another process serves at `path` is a fault, unless this one is to take its place.
    pub(super) fn bind(path: &Path, takes_over: bool) -> io::Result<Self> {
        if !takes_over && net::unix::is_served(path)? {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let mut socket = net::unix::Bound::beside(path)?;
        if !takes_over {
            socket.publish(path)?;
        }
        Ok(Self {
            socket,
            path: path.to_owned(),
        })
    }

    /// Puts it in its place, if it is not there yet, and serves.
    pub(super) fn serve(mut self, admin: Admin) -> io::Result<net::unix::File> {
        if let Err(error) = self.socket.publish(&self.path) {
            // The process before leaves already: without this socket is better than not at all.
            tracing::error!(%error, path = %self.path.display(), "cannot put the admin socket in its place");
        }
        let (listener, file) = self.socket.into_listener()?;
        tokio::spawn(admin.serve(listener));
        Ok(file)
    }
}
