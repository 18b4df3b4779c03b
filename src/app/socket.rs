//! Where clients come in, and what is spoken there.

use std::{io, net::SocketAddr};

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

    /// One that the process was started with.
    ///
    /// # Errors
    ///
    /// Where `listen` does not say what is to be spoken there.
    pub(super) fn inherited(bound: net::Bound, listen: &[Listen]) -> io::Result<Self> {
        let address = bound.address()?;
        let unclear = || {
            let message = format!(
                "nothing says whether TLS is spoken at {address}: write \"{address}\" into server.listen, or \
                 \"https://{address}\" for TLS"
            );
            io::Error::new(io::ErrorKind::InvalidInput, message)
        };
        let scheme = scheme_of(address, listen).ok_or_else(unclear)?;
        Ok(Self { bound, scheme })
    }

    /// Where it really is, also where port 0 was asked for.
    pub(super) fn listen(&self) -> io::Result<Listen> {
        let (address, scheme) = (self.bound.address()?, self.scheme);
        Ok(Listen { address, scheme })
    }
}

/// What is spoken at an address that is in `listen`. Who holds the socket may have bound it to another one of the same
/// machine: then what all say that have its port, or what all say.
fn scheme_of(address: SocketAddr, listen: &[Listen]) -> Option<Scheme> {
    let is_same = |listen: &&Listen| listen.address == address;
    let has_port = |listen: &&Listen| listen.address.port() == address.port();
    agreed(listen.iter().filter(is_same))
        .or_else(|| agreed(listen.iter().filter(has_port)))
        .or_else(|| agreed(listen.iter()))
}

fn agreed<'a>(mut listen: impl Iterator<Item = &'a Listen>) -> Option<Scheme> {
    let scheme = listen.next()?.scheme;
    listen.all(|other| other.scheme == scheme).then_some(scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(address: &str, listen: &[&str]) -> Option<Scheme> {
        let listen: Vec<Listen> = listen.iter().map(|text| text.parse().unwrap()).collect();
        scheme_of(address.parse().unwrap(), &listen)
    }

    #[test]
    fn the_whole_address_says_what_is_spoken_at_a_passed_socket() {
        let both = ["127.0.0.1:8443", "https://192.0.2.1:8443"];
        assert_eq!(scheme("127.0.0.1:8443", &both), Some(Scheme::Http));
        assert_eq!(scheme("192.0.2.1:8443", &both), Some(Scheme::Https));
        assert_eq!(scheme("0.0.0.0:8443", &both), None);
        let ports = ["127.0.0.1:8080", "https://192.0.2.1:8443"];
        assert_eq!(scheme("[::]:8443", &ports), Some(Scheme::Https));
        assert_eq!(scheme("[::]:8080", &ports), Some(Scheme::Http));
        assert_eq!(scheme("[::]:9000", &ports), None);
        assert_eq!(scheme("[::]:9000", &ports[1..]), Some(Scheme::Https));
        assert_eq!(scheme("[::]:9000", &ports[..1]), Some(Scheme::Http));
    }
}
