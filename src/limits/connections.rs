//! How many connections of clients there may be: of the process, and of one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::{Limit, network::Network};

/// Connections beyond the limits that are told so, at one time; the others are closed without a word.
const TOLD: usize = 32;

/// The room for connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Of the process.
    pub all: usize,
    /// Of one IPv4 address or one /64 of IPv6; `None`: any number.
    pub of_address: Option<NonZeroUsize>,
}

/// Why there is no room for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The process has as many as it may.
    All,
    /// Its address has.
    OfAddress,
}

impl Full {
    /// The limit that was reached.
    #[must_use]
    pub fn limit(self) -> Limit {
        match self {
            Self::All => Limit::Connections,
            Self::OfAddress => Limit::ConnectionsPerAddress,
        }
    }
}

/// Connections of the whole process, over all threads and listeners. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    all: AtomicUsize,
    told: AtomicUsize,
    /// Locked for one look and one change; empty where addresses have no limit.
    by_address: Mutex<HashMap<Network, usize>>,
    too_few_descriptors: AtomicBool,
}

impl Connections {
    /// How many there are now, without those beyond the limits.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.all.load(Ordering::Relaxed)
    }

    /// Takes room for a connection from `address`, until what is given is dropped.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn enter(&self, room: Room, address: IpAddr) -> Result<Connected, Full> {
        // The guard comes before the look, so that it gives back what was taken in vain.
        let before = self.0.all.fetch_add(1, Ordering::Relaxed);
        let mut connected = Connected {
            connections: self.clone(),
            of_address: None,
        };
        if before >= room.all {
            return Err(Full::All);
        }
        connected.of_address = self.enter_of(room, address)?;
        Ok(connected)
    }

    /// Takes room for a connection from `address`, beside that of the process, until what is given is dropped. `None`
    /// where addresses have no limit.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn enter_of(&self, room: Room, address: IpAddr) -> Result<Option<OfAddress>, Full> {
        let Some(most) = room.of_address else {
            return Ok(None);
        };
        let network = Network::from(address);
        let mut by_address = self.by_address();
        let count = by_address.entry(network).or_default();
        if *count >= most.get() {
            return Err(Full::OfAddress);
        }
        *count += 1;
        Ok(Some(OfAddress {
            connections: self.clone(),
            network,
        }))
    }

    /// Takes room for telling a connection that there is none for it.
    #[must_use]
    pub fn tell(&self) -> Option<Told> {
        let before = self.0.told.fetch_add(1, Ordering::Relaxed);
        let told = Told(self.clone());
        (before < TOLD).then_some(told)
    }

    /// Notes whether descriptors are too few to accept with. Gives whether that is news.
    #[must_use]
    pub fn lacks_descriptors(&self, too_few: bool) -> bool {
        let Counted {
            too_few_descriptors,
            ..
        } = &*self.0;
        // Mostly nothing has changed, and then nothing is written.
        too_few_descriptors.load(Ordering::Relaxed) != too_few
            && too_few_descriptors.swap(too_few, Ordering::Relaxed) != too_few
    }

    fn by_address(&self) -> MutexGuard<'_, HashMap<Network, usize>> {
        let Counted { by_address, .. } = &*self.0;
        by_address.lock().unwrap_or_else(PoisonError::into_inner) // its counts hold after every step
    }
}

/// A connection that has room.
#[derive(Debug)]
pub struct Connected {
    connections: Connections,
    of_address: Option<OfAddress>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.connections.0.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that is counted at its address.
#[derive(Debug)]
pub struct OfAddress {
    connections: Connections,
    network: Network,
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut by_address = self.connections.by_address();
        if let Some(count) = by_address.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.network);
            }
        }
    }
}

/// A connection that is told that there is no room for it.
#[derive(Debug)]
pub struct Told(Connections);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.0.told.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room {
        all: 3,
        of_address: NonZeroUsize::new(2),
    };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_process_and_each_address_have_their_room_and_get_it_back() {
        let connections = Connections::default();
        let enter = |from| connections.enter(ROOM, address(from));
        let ours = [(); 2].map(|()| enter("192.0.2.1").unwrap());
        assert_eq!(enter("192.0.2.1").unwrap_err(), Full::OfAddress);
        assert_eq!(enter("::ffff:192.0.2.1").unwrap_err(), Full::OfAddress);
        let other = enter("192.0.2.2").unwrap();
        assert_eq!(enter("192.0.2.3").unwrap_err(), Full::All);
        assert_eq!(connections.count(), 3);
        drop((ours, other));
        assert_eq!(connections.count(), 0);
        assert!(connections.by_address().is_empty());
        assert!(enter("192.0.2.1").is_ok());
    }

    #[test]
    fn one_customer_s_ipv6_addresses_share_their_room() {
        let connections = Connections::default();
        let enter = |from| connections.enter(ROOM, address(from));
        let _ours = [enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap()];
        assert_eq!(enter("2001:db8::3").unwrap_err(), Full::OfAddress);
        assert!(enter("2001:db8:0:1::1").is_ok());
    }

    #[test]
    fn a_limit_that_comes_and_goes_counts_rightly() {
        let connections = Connections::default();
        let without = Room {
            of_address: None,
            ..ROOM
        };
        let before = connections.enter(without, address("192.0.2.1")).unwrap();
        let after = connections.enter(ROOM, address("192.0.2.1")).unwrap();
        drop(before);
        assert_eq!(connections.by_address().len(), 1);
        drop(after);
        assert!(connections.by_address().is_empty());
    }

    #[test]
    fn a_lack_of_descriptors_is_news_once() {
        let connections = Connections::default();
        let news = [false, true, true, false, false, true]
            .map(|too_few| connections.lacks_descriptors(too_few));
        assert_eq!(news, [false, true, false, true, false, true]);
    }
}
