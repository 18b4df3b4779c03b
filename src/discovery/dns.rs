//! Asks DNS servers: over UDP, and over TCP where an answer is too long for that. Whom, `resolv.conf` says, or the
//! configuration.
//!
//! Nothing is cached here: when an answer expires is heeded by who asks. The sockets are the resolver's own, and no test
//! with a simulated network ever comes here.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType, rdata::SRV},
    },
    system_conf::parse_resolv_conf,
};

use super::{
    Answering, Resolver,
    list::{Answer, Failure},
    search::Search,
};
use crate::{
    backend::{Family, Question, Records},
    config::Discovery,
};

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Questions to one server before another, or nobody, is asked: each has the same share of the time.
const ATTEMPTS: u32 = 2;

/// The DNS of this machine.
#[derive(Debug, Default)]
pub struct Dns {
    // Looked at once for each question, never across an await.
    made: Mutex<Option<(MadeOf, Client)>>,
}

/// What a client was made of: it is made anew when that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MadeOf {
    options: Discovery,
    resolv_conf: Vec<u8>,
}

#[derive(Clone)]
struct Client {
    resolver: Arc<TokioResolver>,
    search: Arc<Search>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.search.fmt(f)
    }
}

impl Resolver for Dns {
    fn ask(&self, question: &Question, options: &Discovery) -> Answering {
        let (client, question) = (self.client(options), question.clone());
        Box::pin(async move { client?.ask(&question).await })
    }
}

impl Dns {
    /// The client for these options, and for what `resolv.conf` says now.
    fn client(&self, options: &Discovery) -> Result<Client, Failure> {
        let resolv_conf = if options.servers.is_empty() {
            let read = std::fs::read(RESOLV_CONF);
            read.map_err(|error| Failure::Unasked(format!("{RESOLV_CONF}: {error}")))?
        } else {
            Vec::new()
        };
        let made_of = MadeOf {
            options: options.clone(),
            resolv_conf,
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((earlier, client)) = &*made
            && *earlier == made_of
        {
            return Ok(client.clone());
        }
        let client = Client::new(&made_of).map_err(|error| Failure::Unasked(error.to_string()))?;
        *made = Some((made_of, client.clone()));
        Ok(client)
    }
}

/// Addresses of one name, of which family they are, and how long they are good for.
struct Found {
    addresses: Vec<IpAddr>,
    family: Family,
    ttl: Duration,
}

impl Client {
    fn new(made_of: &MadeOf) -> Result<Self, NetError> {
        let MadeOf {
            options,
            resolv_conf,
        } = made_of;
        let (config, mut settings) = if options.servers.is_empty() {
            parse_resolv_conf(resolv_conf)?
        } else {
            let servers = options.servers.iter().copied().map(server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            (config, ResolverOpts::default())
        };
        let domains = config.search().iter().map(|domain| {
            let domain = domain.to_ascii();
            domain.trim_end_matches('.').to_owned()
        });
        let search = Search {
            domains: domains.collect(),
            ndots: settings.ndots,
        };
        settings.attempts = ATTEMPTS as usize - 1; // how often a question is repeated
        settings.timeout = options.timeout / ATTEMPTS;
        settings.cache_size = 0;
        settings.use_hosts_file = ResolveHosts::Never; // a name there is one machine
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        Ok(Self {
            resolver: Arc::new(builder.with_options(settings).build()?),
            search: Arc::new(search),
        })
    }

    /// Asks for what the name may mean, one after the other, until there is an answer. As the system's resolver does, it
    /// passes over servers that say that they cannot answer; nobody's answer ends it.
    async fn ask(&self, question: &Question) -> Result<Answer, Failure> {
        let mut failure = Failure::NoSuchName;
        for name in self.search.names(&question.name) {
            match self.ask_for(&name, question).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::NoSuchName) => {}
                Err(Failure::Empty) if failure == Failure::NoSuchName => failure = Failure::Empty,
                Err(Failure::Empty) => {}
                Err(later @ Failure::Server(_)) => failure = later,
                Err(last @ (Failure::Silent | Failure::Unasked(_))) => return Err(last),
            }
        }
        Err(failure)
    }

    /// Asks for a whole name.
    async fn ask_for(&self, name: &str, question: &Question) -> Result<Answer, Failure> {
        let (addresses, ttl, family) = match question.records {
            Records::Addresses { port } => {
                let found = self.addresses(name, question.family).await?;
                let at_port = |address: IpAddr| SocketAddr::new(address, port.get());
                let addresses = found.addresses.into_iter().map(at_port).collect();
                (addresses, found.ttl, found.family)
            }
            Records::Services => self.services(name, question.family).await?,
        };
        let asked = Question {
            name: name.into(),
            family,
            ..question.clone()
        };
        Answer::new(addresses, ttl, asked)
    }

    async fn addresses(&self, name: &str, family: Family) -> Result<Found, Failure> {
        match family {
            Family::V4 => self.of_family(name, RecordType::A).await,
            Family::V6 => self.of_family(name, RecordType::AAAA).await,
            Family::Auto => match self.of_family(name, RecordType::A).await {
                Err(Failure::Empty) => self.of_family(name, RecordType::AAAA).await,
                found => found,
            },
            Family::Both => {
                let v4 = self.of_family(name, RecordType::A);
                let v6 = self.of_family(name, RecordType::AAAA);
                match tokio::join!(v4, v6) {
                    (Ok(v4), Ok(v6)) => Ok(Found {
                        addresses: [v4.addresses, v6.addresses].concat(),
                        family,
                        ttl: v4.ttl.min(v6.ttl),
                    }),
                    (Ok(one), Err(Failure::Empty)) | (Err(Failure::Empty), Ok(one)) => {
                        Ok(Found { family, ..one })
                    }
                    (Err(failure), _) | (_, Err(failure)) => Err(failure),
                }
            }
        }
    }

    async fn of_family(&self, name: &str, kind: RecordType) -> Result<Found, Failure> {
        let (found, ttl) = self.records(name, kind).await?;
        let address = |data: &RData| match data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0).to_canonical()),
            _ => None, // what an alias leads over
        };
        let addresses: Vec<IpAddr> = found.iter().filter_map(address).collect();
        if addresses.is_empty() {
            return Err(Failure::Empty);
        }
        let family = if kind == RecordType::A {
            Family::V4
        } else {
            Family::V6
        };
        Ok(Found {
            addresses,
            family,
            ttl,
        })
    }

    /// The places of a service: of those that come first, for the others are for when these are away (RFC 2782).
    async fn services(
        &self,
        name: &str,
        family: Family,
    ) -> Result<(Vec<SocketAddr>, Duration, Family), Failure> {
        let (found, mut ttl) = self.records(name, RecordType::SRV).await?;
        let service = |data: &RData| match data {
            RData::SRV(service) => Some(service.clone()),
            _ => None,
        };
        let mut services: Vec<SRV> = found.iter().filter_map(service).collect();
        services.retain(|service| !service.target.is_root() && service.port != 0); // "." is: there is none
        let first = services.iter().map(|service| service.priority).min();
        services.retain(|service| Some(service.priority) == first);
        let mut of_v4 = family;
        let mut addresses = Vec::new();
        for service in services {
            let mut target = service.target.clone();
            target.set_fqdn(true);
            match self.addresses(&target.to_ascii(), of_v4).await {
                Ok(found) => {
                    ttl = ttl.min(found.ttl);
                    of_v4 = found.family; // all of one family
                    let ports = found.addresses.into_iter();
                    addresses.extend(ports.map(|ip| SocketAddr::new(ip, service.port)));
                }
                // It has just gone, and its record with it; the record that names it is older.
                Err(Failure::NoSuchName | Failure::Empty) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok((addresses, ttl, of_v4))
    }

    /// The records of one kind, and how long they are good for.
    async fn records(
        &self,
        name: &str,
        kind: RecordType,
    ) -> Result<(Vec<RData>, Duration), Failure> {
        let name = Name::from_ascii(name).map_err(|error| Failure::Unasked(error.to_string()))?;
        let found = self.resolver.lookup(name, kind).await.map_err(failure)?;
        let records = found.answers();
        let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
        let data = records.iter().map(|record| record.data.clone()).collect();
        Ok((data, Duration::from_secs(ttl.into())))
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port);
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn failure(error: NetError) -> Failure {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => Failure::NoSuchName,
            ResponseCode::NoError => Failure::Empty,
            code => Failure::Server(code.to_string()),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => Failure::Server(code.to_string()),
        NetError::Timeout => Failure::Silent,
        error => Failure::Unasked(error.to_string()),
    }
}
