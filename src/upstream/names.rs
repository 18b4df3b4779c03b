//! Where host names lead: looked up at each connect, and remembered.
//!
//! A resolver that is silent or says no tells nothing about a backend, whose address seldom changes: what was
//! found last is used until a newer answer comes. One memory serves all threads, so that probes know what requests
//! have found out. Endpoints with IP literals never come here.

use std::{
    fmt, io,
    net::IpAddr,
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lru::LruCache;
use tokio::sync::watch;

use super::connect::ConnectError;
use crate::net::{self, Instant};

/// Names that are remembered; beyond it, those are forgotten that were not asked for the longest.
const MOST: NonZeroUsize = NonZeroUsize::new(4096).expect("it is not zero");

type Answering = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
type Resolver = dyn Fn(Box<str>) -> Answering + Send + Sync;
type Found = Result<Vec<IpAddr>, Arc<io::Error>>;

/// The host names of one process. Cheap to clone: all clones are one memory.
#[derive(Clone)]
pub struct Names {
    resolver: Arc<Resolver>,
    // Never across an await, and next to a lookup, which takes a thread, it costs nothing.
    known: Arc<Mutex<LruCache<Box<str>, Known>>>,
}

/// What is known of one name.
#[derive(Default)]
struct Known {
    /// The one address of the host, or one of each family.
    last: Option<Vec<IpAddr>>,
    lookup: Option<Lookup>,
}

/// A question to the resolver, for all who ask the same meanwhile.
#[derive(Clone)]
struct Lookup {
    began: Instant,
    found: watch::Receiver<Option<Found>>,
}

impl Names {
    /// None yet; they will be looked up by `resolve`.
    pub(crate) fn new<F>(resolve: impl Fn(Box<str>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        Self {
            resolver: Arc::new(move |host| Box::pin(resolve(host))),
            known: Arc::new(Mutex::new(LruCache::new(MOST))),
        }
    }

    /// The one address of the host, or one of each family: as the resolver says, or if it does not say so within
    /// `limit`, as it did last. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Unresolved`] and [`ConnectError::SeveralAddresses`].
    pub(super) async fn addresses(
        &self,
        host: &str,
        limit: Duration,
    ) -> Result<Vec<IpAddr>, ConnectError> {
        let lookup = self.lookup(host);
        // Only the first of those who ask a silent resolver waits.
        let left = (lookup.began + limit).saturating_duration_since(net::now());
        let source = match net::within(left, lookup.found()).await {
            Some(Ok(addresses)) if is_one_host(&addresses) => return Ok(addresses),
            Some(Ok(addresses)) => {
                return Err(ConnectError::SeveralAddresses {
                    host: host.into(),
                    addresses,
                });
            }
            Some(Err(error)) => error,
            None => Arc::new(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the resolver did not answer within {limit:?}"),
            )),
        };
        let last = self.known().get(host).and_then(|known| known.last.clone());
        let last = last.ok_or_else(|| ConnectError::Unresolved {
            host: host.into(),
            source: Arc::clone(&source),
        })?;
        tracing::debug!(host, error = %source, "uses the address that was found last");
        Ok(last)
    }

    /// The lookup of `host` that is under way, or a new one. It cannot be called off, for the system's resolver keeps
    /// its thread until it has given up: a second one would only take a second thread.
    fn lookup(&self, host: &str) -> Lookup {
        let mut names = self.known();
        let known = names.get_or_insert_mut(host.into(), Known::default);
        if let Some(lookup) = known.lookup.as_ref().filter(|lookup| lookup.is_under_way()) {
            return lookup.clone();
        }
        let (sender, found) = watch::channel(None);
        let lookup = Lookup {
            began: net::now(),
            found,
        };
        known.lookup = Some(lookup.clone());
        tokio::spawn(self.clone().resolve(host.into(), sender));
        lookup
    }

    async fn resolve(self, host: Box<str>, sender: watch::Sender<Option<Found>>) {
        let found = match (self.resolver)(host.clone()).await {
            Ok(addresses) if addresses.is_empty() => {
                Err(Arc::new(io::Error::other("the name has no address")))
            }
            found => found.map_err(Arc::new),
        };
        if let Ok(addresses) = &found
            && is_one_host(addresses)
        {
            let mut names = self.known();
            names.get_or_insert_mut(host, Known::default).last = Some(addresses.clone());
        }
        sender.send_replace(Some(found));
    }

    fn known(&self) -> MutexGuard<'_, LruCache<Box<str>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lookup {
    fn is_under_way(&self) -> bool {
        // The sender is gone where the thread has ended that looked up.
        self.found.borrow().is_none() && self.found.has_changed().is_ok()
    }

    async fn found(mut self) -> Found {
        match self.found.wait_for(Option::is_some).await {
            Ok(found) => found.clone().expect("it was waited for"),
            Err(ended) => Err(Arc::new(io::Error::other(ended))),
        }
    }
}

/// Several addresses of one family are several replicas.
fn is_one_host(addresses: &[IpAddr]) -> bool {
    let of_v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
    of_v4 <= 1 && addresses.len() - of_v4 <= 1
}

impl Default for Names {
    /// None yet; they will be looked up by the system's resolver.
    fn default() -> Self {
        Self::new(|host| async move { net::resolve(&host).await })
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
