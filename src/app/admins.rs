//! The sockets of the admin listener and of the one for probes: bound at the start, served when the process serves.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tokio::task::AbortHandle;

use super::StartError;
use crate::{
    admin::Admin,
    config::{self, AdminPlace},
    net,
    takeover::Predecessor,
};

/// Where operators and probes ask.
#[derive(Debug)]
pub(super) struct AdminSockets {
    unix: Option<UnixSocket>,
    tcp: Option<net::Bound>,
    probes: Option<net::Bound>,
}

impl AdminSockets {
    /// Makes the sockets, unless `before` has them. The default address is done without where another process has it:
    /// several may run side by side, and nobody has asked for it.
    ///
    /// # Errors
    ///
    /// When one that is configured cannot be had.
    pub(super) fn bind(
        config::Server {
            admin: wanted,
            probes,
            ..
        }: &config::Server,
        mut before: Option<&mut Predecessor>,
    ) -> Result<Self, StartError> {
        let takes_over = before.is_some();
        let unix = wanted.unix.as_ref().map(|path| {
            let failed = |source| StartError::Admin {
                place: AdminPlace::Unix(path.clone()),
                source,
            };
            UnixSocket::bind(path, takes_over).map_err(failed)
        });
        let unix = unix.transpose()?;
        let mut passed = |address| before.as_mut().and_then(|before| before.take(address));
        let tcp = wanted.tcp.map(|address| match passed(address) {
            Some(bound) => Ok(Some(bound)),
            None => bind(address, wanted.is_named),
        });
        let tcp = tcp.transpose()?.flatten();
        let probes = probes.address.map(|address| match passed(address) {
            Some(bound) => Ok(bound),
            None => {
                net::Bound::bind(address).map_err(|source| StartError::Probes { address, source })
            }
        });
        let probes = probes.transpose()?;
        Ok(Self { unix, tcp, probes })
    }

    /// Where they are, also where port 0 was asked for.
    pub(super) fn places(&self) -> Vec<AdminPlace> {
        let unix = self.unix.iter();
        let unix = unix.map(|socket| AdminPlace::Unix(socket.path.clone()));
        let tcp = self.tcp.iter().filter_map(|bound| bound.address().ok());
        unix.chain(tcp.map(AdminPlace::Tcp)).collect()
    }

    /// Where probes ask.
    pub(super) fn probes(&self) -> Option<SocketAddr> {
        self.probes.as_ref()?.address().ok()
    }

    /// Further handles of the sockets that another process can be passed. The Unix socket is none: that one puts its own
    /// in the place.
    pub(super) fn try_clone(&self) -> io::Result<Vec<net::Bound>> {
        let network = self.tcp.iter().chain(&self.probes);
        network.map(net::Bound::try_clone).collect()
    }

    /// Puts them in their place, if they are not there yet, and serves. Runs within a local task set.
    pub(super) fn serve(self, admin: &Admin) -> io::Result<Serving> {
        let file = self.unix.map(|socket| socket.serve(admin.clone()));
        let mut network = Vec::new();
        if let Some(bound) = self.tcp {
            let served = admin.clone().serve_network(bound.into_listener()?);
            network.push(tokio::task::spawn_local(served).abort_handle());
        }
        if let Some(bound) = self.probes {
            let served = admin.clone().serve_probes(bound.into_listener()?);
            network.push(tokio::task::spawn_local(served).abort_handle());
        }
        Ok(Serving {
            _file: file.transpose()?,
            network,
        })
    }
}

/// The listeners that accept. The file of the Unix socket is removed with this.
#[derive(Debug)]
pub(super) struct Serving {
    _file: Option<net::unix::File>,
    network: Vec<AbortHandle>,
}

impl Serving {
    /// Accepts no more on the sockets that another process has now too: it is to be asked.
    pub(super) fn leave_to_successor(&self) {
        for listener in &self.network {
            listener.abort();
        }
    }
}

fn bind(address: SocketAddr, is_named: bool) -> Result<Option<net::Bound>, StartError> {
    match net::Bound::bind(address) {
        Ok(bound) => Ok(Some(bound)),
        Err(error) if !is_named => {
            tracing::warn!(
                %error,
                "no admin listener: its default address {address} cannot be had; name another with server.admin, or \"\" \
                 for none"
            );
            Ok(None)
        }
        Err(source) => {
            let place = AdminPlace::Tcp(address);
            Err(StartError::Admin { place, source })
        }
    }
}

/// The Unix socket, and where it belongs.
#[derive(Debug)]
struct UnixSocket {
    socket: net::unix::Bound,
    path: PathBuf,
}

impl UnixSocket {
    /// Makes the socket. That another process serves at `path` is a fault, unless this one is to take its place.
    fn bind(path: &Path, takes_over: bool) -> io::Result<Self> {
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
    fn serve(mut self, admin: Admin) -> io::Result<net::unix::File> {
        if let Err(error) = self.socket.publish(&self.path) {
            // The process before leaves already: without this socket is better than not at all.
            tracing::error!(%error, path = %self.path.display(), "cannot put the admin socket in its place");
        }
        let (listener, file) = self.socket.into_listener()?;
        tokio::task::spawn_local(admin.serve_owner(listener));
        Ok(file)
    }
}
