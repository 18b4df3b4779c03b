//! Where clients come in, and what is spoken there.

use std::io;

use crate::{backend::Scheme, config::Listen, net};

/// A socket for clients, and what is spoken there.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) bound: net::Bound,
    pub(super) scheme: Scheme,
}

impl Socket {
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let bound = self.bound.try_clone()?;
        let scheme = self.scheme;
        Ok(Self { bound, scheme })
    }

    /// One that the process was started with: what is spoken there says the address in `listen` with its port, for
    /// who holds the socket may have bound it to another one of the same machine.
    pub(super) fn inherited(bound: net::Bound, listen: &[Listen]) -> io::Result<Self> {
        let port = bound.address()?.port();
        let same = listen.iter().find(|listen| listen.address.port() == port);
        let is_secure = listen.iter().all(|listen| listen.scheme == Scheme::Https);
        let scheme = match same {
            Some(listen) => listen.scheme,
            None if is_secure => Scheme::Https,
            None => Scheme::Http,
        };
        Ok(Self { bound, scheme })
    }

    /// Where it really is, also where port 0 was asked for.
    pub(super) fn listen(&self) -> io::Result<Listen> {
        let (address, scheme) = (self.bound.address()?, self.scheme);
        Ok(Listen { address, scheme })
    }
}
