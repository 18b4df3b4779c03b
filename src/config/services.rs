//! DNS names that stand for backends: how each of those is called and spoken with, and what a configuration is with those
//! that were found.
//!
//! Pure. Who asks the DNS, and when, is the business of `discovery`.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use super::{Config, Pool, backends::is_reached_at};
use crate::backend::{Admission, Backend, Endpoint, Host, Name, Question, ServiceUrl, Tls, Weight};

/// What stands for an address in the name of an entry.
pub(super) const PLACE: &str = "{address}";

/// An entry whose URL is a DNS name that stands for several backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its URL.
    pub url: ServiceUrl,
    /// How its backends are called.
    pub naming: Naming,
    /// How `https://` is spoken with each.
    pub tls: Option<Tls>,
    /// Whether HTTP/2 is spoken with each, and nothing else.
    pub http2: bool,
    /// The weight of each.
    pub weight: Weight,
    /// Whether they take new work.
    pub admission: Admission,
}

/// How the backends of a service are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// By address and port.
    ByAddress,
    /// By those, within the text that the file gives.
    Within {
        /// What stands before.
        before: String,
        /// What stands behind.
        behind: String,
    },
}

/// What is known of a service.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// The addresses of its backends.
    pub addresses: &'a [SocketAddr],
    /// How long others may hold an older answer for true.
    pub ttl: Duration,
    /// Whether they are those that were there at the start of the process: other proxies know them.
    pub at_start: bool,
}

/// An address that is no backend, though its name stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// What was asked.
    pub question: Question,
    /// The address.
    pub address: SocketAddr,
    /// Why it is none.
    pub why: WhyUnusable,
}

/// Why an address is no backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WhyUnusable {
    /// In each pod or machine it is another backend.
    #[error(
        "a loopback address is another backend on each machine, and cannot be its name; where there is one machine alone, \
         as in development, write name = \"dev-{{address}}\" beside the url"
    )]
    Loopback,
    /// It is nobody's.
    #[error("it is the address of nobody")]
    Unspecified,
    /// Requests would come back.
    #[error("this is where pinring itself listens")]
    Own,
    /// Another backend has its name.
    #[error("its name is taken by another backend: two entries stand for one address")]
    Taken,
}

impl Naming {
    fn name(&self, address: SocketAddr) -> Result<Name, WhyUnusable> {
        let text = match self {
            Self::ByAddress if address.ip().is_loopback() => return Err(WhyUnusable::Loopback),
            Self::ByAddress => address.to_string(),
            Self::Within { before, behind } => format!("{before}{address}{behind}"),
        };
        Ok(Name::try_new(&text).expect("the check has tried it with the longest address"))
    }

    /// As the file has it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::ByAddress => PLACE.to_owned(),
            Self::Within { before, behind } => format!("{before}{PLACE}{behind}"),
        }
    }
}

impl Service {
    /// The backend at one of its addresses.
    fn backend(&self, address: SocketAddr, join_delay: Duration) -> Result<Backend, WhyUnusable> {
        if address.ip().is_unspecified() {
            return Err(WhyUnusable::Unspecified);
        }
        let port = NonZeroU16::new(address.port()).ok_or(WhyUnusable::Unspecified)?;
        Ok(Backend {
            name: self.naming.name(address)?,
            endpoint: Endpoint {
                host: Host::Ip(address.ip()),
                port,
                tls: self.tls.clone(),
                http2: self.http2,
                service: Some(format!("{}:{port}", self.url.question.host()).into()),
            },
            weight: self.weight,
            admission: self.admission,
            join_delay: Some(join_delay),
        })
    }
}

impl Config {
    /// Everything that is to be asked of the DNS.
    pub fn questions(&self) -> impl Iterator<Item = &Question> {
        let services = self.pools.iter().flat_map(|pool| &pool.services);
        services.map(|service| &service.url.question)
    }

    /// The configuration with those backends for which its names stand, `found` being what is known of each; and
    /// the addresses that are none.
    pub fn with_found<'a>(
        &self,
        found: impl Fn(&Question) -> Option<Found<'a>>,
    ) -> (Self, Vec<Unusable>) {
        let mut config = self.clone();
        let (mut taken, mut unusable) = (HashSet::new(), Vec::new());
        let listed = self.pools.iter().flat_map(|pool| &pool.backends);
        taken.extend(listed.map(|backend| backend.name.clone()));
        let is_own = |address: SocketAddr| {
            let mut listen = self.server.listen.iter().map(|listen| listen.address);
            listen.any(|own| own.port() == address.port() && is_reached_at(own, address.ip()))
        };
        for pool in &mut config.pools {
            let mut missing = false;
            for service in &pool.services {
                let question = &service.url.question;
                let Some(found) = found(question) else {
                    missing = true;
                    continue;
                };
                let join_delay = join_delay(pool, found);
                for address in found.addresses.iter().copied() {
                    let why = match service.backend(address, join_delay) {
                        Ok(_) if is_own(address) => WhyUnusable::Own,
                        Ok(backend) if taken.insert(backend.name.clone()) => {
                            pool.backends.push(backend);
                            continue;
                        }
                        // Those that exist, and those that are ready: two names for one address are no fault.
                        Ok(other) if pool.backends.iter().any(|first| same(first, &other)) => {
                            continue;
                        }
                        Ok(_) => WhyUnusable::Taken,
                        Err(why) => why,
                    };
                    let question = question.clone();
                    unusable.push(Unusable {
                        question,
                        address,
                        why,
                    });
                }
            }
            pool.undiscovered = missing;
        }
        (config, unusable)
    }
}

/// Whether both are one, found by two names.
fn same(one: &Backend, other: &Backend) -> bool {
    let place = |backend: &Backend| (backend.endpoint.host.clone(), backend.endpoint.port);
    one.name == other.name && place(one) == place(other)
}

/// How long one that is new gets no new work: until other proxies, whose resolvers may hold an answer for as long as it
/// says, know it too.
fn join_delay(pool: &Pool, found: Found<'_>) -> Duration {
    if found.at_start {
        Duration::ZERO
    } else {
        pool.join_delay.max(found.ttl.saturating_mul(2))
    }
}

/// Whether a host is another backend on each machine.
pub(super) fn is_everywhere(host: &Host) -> bool {
    match host {
        Host::Ip(address) => is_loopback_or_none(address.to_canonical()),
        Host::Dns(name) => &**name == "localhost",
    }
}

fn is_loopback_or_none(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}
