//! Why the process cannot start, and what its operator can do about it.

use std::{io, net::SocketAddr};

use crate::{config::AdminPlace, takeover::TakeOverError};

/// Why the process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listening address cannot be had.
    #[error("cannot listen on {address}{}", hint(.source))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The admin listener's socket cannot be had.
    #[error("cannot listen on {place}, the admin listener{}", admin_hint(place, .source))]
    Admin {
        /// Where it was to be.
        place: AdminPlace,
        /// What the kernel said.
        source: io::Error,
    },
    /// The address for probes cannot be had.
    #[error("cannot listen on {address}, for probes{}", probes_hint(.source))]
    Probes {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is nowhere to ask for the place of another process.
    #[error(
        "--take-over asks at the admin socket of the process that runs, and there is none: add `admin = \"unix:/run/pinring/admin.sock\"` to [server], restart once, and take over from then on"
    )]
    NoAdmin,
    /// The process that runs goes on.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// What the process was started with are no sockets to listen on.
    #[error("the sockets passed by LISTEN_FDS cannot be used: each must be a listening TCP socket")]
    Inherited(#[source] io::Error),
    /// A thread, a runtime or a signal handler cannot be had.
    #[error("cannot start")]
    System(#[from] io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            ": another process listens there; stop it, or choose another address with --listen or server.listen"
        }
        io::ErrorKind::PermissionDenied => {
            ": ports below 1024 need the capability CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => ": no interface of this machine has that address",
        _ => "",
    }
}

fn probes_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            ": another process listens there; stop it, or choose another address with server.probes"
        }
        _ => hint(error),
    }
}

fn admin_hint(place: &AdminPlace, error: &io::Error) -> &'static str {
    match (place, error.kind()) {
        (AdminPlace::Tcp(_), io::ErrorKind::AddrInUse) => {
            ": another process listens there; stop it, or choose another address with server.admin"
        }
        (AdminPlace::Tcp(_), _) => hint(error),
        (AdminPlace::Unix(_), kind) => socket_hint(kind),
    }
}

fn socket_hint(error: io::ErrorKind) -> &'static str {
    match error {
        io::ErrorKind::AddrInUse => {
            ": another process answers there; stop it, or choose another path with server.admin"
        }
        io::ErrorKind::AlreadyExists => {
            ": what stands there is no socket; remove it, or choose another path with server.admin"
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ": its folder does not exist; create it, or choose another path with server.admin"
        }
        io::ErrorKind::PermissionDenied => {
            ": its folder, or the socket there, is not for this user; change that, or choose another path with server.admin"
        }
        _ => "",
    }
}
