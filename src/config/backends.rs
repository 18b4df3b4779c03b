//! Backends: their keys, names that are unique over all pools, and host names that are several replicas.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
};

use super::{
    Listen,
    check::World,
    fault::{Place, Spot},
    file::Report,
    overrides::Given,
    section::Section,
    tls::Upstream,
};
use crate::backend::{Admission, Backend, Endpoint, Host, Name, Scheme, Url, Weight};

/// The entries of `section`'s `backends`; `None` where there is no such key.
pub(super) fn tables<'a>(section: &Section<'a>) -> Option<Vec<Section<'a>>> {
    section.tables("backends", "{ url = \"http://…\" }")
}

/// Reads backends, and remembers what was read before: names and hosts are compared over all pools.
pub(super) struct Backends<'a> {
    report: &'a Report<'a>,
    world: &'a dyn World,
    listen: &'a [Listen],
    names: HashMap<Name, Spot>,
    resolved: HashMap<Box<str>, BTreeSet<IpAddr>>,
}

impl<'a> Backends<'a> {
    /// `listen` is where pinring itself will listen.
    pub(super) fn new(report: &'a Report<'a>, world: &'a dyn World, listen: &'a [Listen]) -> Self {
        Self {
            report,
            world,
            listen,
            names: HashMap::new(),
            resolved: HashMap::new(),
        }
    }

    /// Reads entries; `header` is how the file begins one, `tls` how `https://` is spoken with them.
    pub(super) fn read(
        &mut self,
        sections: Vec<Section<'_>>,
        header: &str,
        tls: &Upstream<'_>,
    ) -> Vec<Backend> {
        let entries = sections.into_iter();
        let backends = entries.map(|section| self.entry(section, header, tls));
        backends.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    /// Reads URLs from outside the file, each with a name before it or not: `NAME=URL`.
    pub(super) fn given(&mut self, given: &[Given], tls: &Upstream<'_>) -> Vec<Backend> {
        let mut backends = Vec::new();
        for given in given {
            let paste = |address: &Endpoint| match given.label.strip_prefix("--") {
                Some(_) => format!("{} {}", given.label, address.url()),
                None => address.url(),
            };
            let (written, url) = match given.value.split_once('=') {
                Some((name, url)) if !name.contains("://") => (Some(name), url),
                Some(_) | None => (None, given.value.as_str()),
            };
            let endpoint = self.endpoint(url, &given.spot(), tls, &paste);
            let by_default = endpoint.as_ref().map(Endpoint::to_string);
            let name = written
                .or(by_default.as_deref())
                .and_then(|name| self.name(name, &given.spot()));
            if let (Some(name), Some(endpoint)) = (name, endpoint) {
                backends.push(Backend {
                    name,
                    endpoint,
                    weight: Weight::default(),
                    admission: Admission::default(),
                });
            }
        }
        backends
    }

    /// There is not one backend anywhere.
    pub(super) fn refuse_none(&self) {
        let spot = Spot {
            place: Place::File,
            key: "backends".to_owned(),
            value: None,
        };
        self.report.push(spot.fault(
            "there are none; give --backend http://127.0.0.1:9001, or write\n    [[backends]]\n    name = \"a\"\n    url = \"http://127.0.0.1:9001\"",
        ));
    }

    fn entry(&mut self, section: Section<'_>, header: &str, tls: &Upstream<'_>) -> Option<Backend> {
        let name = section.string("name");
        let url = section.string("url");
        let weight = section.integer("weight", 1..=u32::from(u16::MAX));
        let draining = section.bool("draining").unwrap_or(false);
        if url.is_none() && !section.has("url") {
            section.missing("url", "is missing; write url = \"http://HOST:PORT\"");
        }
        let named = section.has("name");
        section.finish();
        let paste = |address: &Endpoint| format!("{header}\n    url = \"{}\"", address.url());
        let endpoint = url
            .as_ref()
            .and_then(|url| self.endpoint(url.value, &url.spot, tls, &paste));
        // A bad URL hides nothing about the name, nor the other way round.
        let name = match (name, &url, &endpoint) {
            (Some(name), _, _) => self.name(name.value, &name.spot),
            (None, Some(url), Some(endpoint)) if !named => {
                self.name(&endpoint.to_string(), &url.spot)
            }
            (None, _, _) => None,
        };
        let (name, endpoint) = (name?, endpoint?);
        let weight = weight
            .and_then(|weight| u16::try_from(weight).ok())
            .and_then(NonZeroU16::new);
        Some(Backend {
            name,
            endpoint,
            weight: weight.map_or_else(Weight::default, Weight),
            admission: if draining {
                Admission::Draining
            } else {
                Admission::Open
            },
        })
    }

    /// The name as written, or by default that of the endpoint.
    fn name(&mut self, text: &str, spot: &Spot) -> Option<Name> {
        let name = match Name::try_new(text) {
            Ok(name) => name,
            Err(error) => {
                self.report.push(spot.clone().fault(error.to_string()));
                return None;
            }
        };
        if let Some(first) = self.names.get(&name) {
            let message = format!(
                "the name \"{name}\" is taken by {}; names are unique over all pools, give one of the two another name",
                first.reference()
            );
            self.report.push(spot.clone().fault(message));
            return None;
        }
        self.names.insert(name.clone(), spot.clone());
        Some(name)
    }

    /// Reads a URL; refuses a host that is several replicas, and pinring's own address. `paste` writes
    /// the entry of one address.
    fn endpoint(
        &mut self,
        url: &str,
        spot: &Spot,
        tls: &Upstream<'_>,
        paste: &dyn Fn(&Endpoint) -> String,
    ) -> Option<Endpoint> {
        let Url {
            scheme,
            mut endpoint,
        } = match url.parse() {
            Ok(url) => url,
            Err(error) => {
                self.report.push(spot.clone().fault(format!("{error}")));
                return None;
            }
        };
        endpoint.http2 = tls.http2();
        if scheme == Scheme::Https {
            endpoint.tls = tls.to(&endpoint.host, spot);
            if endpoint.tls.is_none() {
                let message = "no certificate can be for this host; write server_name = \"…\" under tls of its pool";
                self.report.push(spot.clone().fault(message));
                return None;
            }
        }
        let addresses = match &endpoint.host {
            Host::Ip(address) => BTreeSet::from([*address]),
            Host::Dns(host) => self.resolve(host, spot),
        };
        if let Host::Dns(host) = &endpoint.host
            && let Some(replicas) = replicas(&addresses)
        {
            let message = several(&endpoint, host, &replicas, paste);
            self.report.push(spot.clone().fault(message));
        }
        let own = self.listen.iter().map(|own| own.address).find(|own| {
            let reached = |address: &IpAddr| is_reached_at(*own, *address);
            own.port() == endpoint.port.get() && addresses.iter().any(reached)
        });
        if let Some(own) = own {
            self.report.push(spot.clone().fault(format!(
                "this is where pinring itself listens ({own}): each request would come back to it without end; \
                 write the address of the MCP server, or let pinring listen elsewhere with server.listen or --listen"
            )));
        }
        Some(endpoint)
    }

    /// The addresses of a host name. None is no fault: the name is resolved again at each connect.
    fn resolve(&mut self, host: &str, spot: &Spot) -> BTreeSet<IpAddr> {
        if let Some(known) = self.resolved.get(host) {
            return known.clone();
        }
        let mut addresses = BTreeSet::from_iter(self.world.resolve(host).unwrap_or_default());
        if addresses.is_empty() && host == "localhost" {
            addresses.extend([
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
            ]);
        }
        if addresses.is_empty() {
            self.report.note(format!(
                "{}: the host name {host} does not resolve now; until it does, the backend cannot be reached",
                spot.reference()
            ));
        }
        self.resolved.insert(host.into(), addresses.clone());
        addresses
    }
}

/// The addresses of a host that has several of one family. One of each is one dual-stack replica.
fn replicas(addresses: &BTreeSet<IpAddr>) -> Option<Vec<IpAddr>> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|address| address.is_ipv4());
    [v4, v6].into_iter().find(|family| family.len() > 1)
}

/// Whether who connects to `address` reaches a socket bound to `own`, their ports being the same.
///
/// Which other addresses this machine has is not known here: of an unspecified `own`, only loopback counts.
fn is_reached_at(own: SocketAddr, address: IpAddr) -> bool {
    let address = match address.to_canonical() {
        // The kernel connects "any address" to loopback.
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    match own.ip().to_canonical() {
        IpAddr::V4(any) if any.is_unspecified() => address.is_ipv4() && address.is_loopback(),
        // "[::]" is bound to IPv4 too.
        IpAddr::V6(any) if any.is_unspecified() => address.is_loopback(),
        own => own == address,
    }
}

fn several(
    endpoint: &Endpoint,
    host: &str,
    replicas: &[IpAddr],
    paste: &dyn Fn(&Endpoint) -> String,
) -> String {
    let list: Vec<String> = replicas.iter().map(IpAddr::to_string).collect();
    let mut message = format!(
        "{host} resolves to {} addresses: {}; a backend is one replica. Discovery, url = \"dns+{}\", is not yet supported by this version; write one entry for each address:",
        replicas.len(),
        list.join(", "),
        endpoint.url(),
    );
    for address in replicas {
        let address = Endpoint {
            host: Host::Ip(*address),
            port: endpoint.port,
            tls: endpoint.tls.clone(),
            http2: endpoint.http2,
        };
        message.push_str(&format!("\n    {}", paste(&address)));
    }
    message
}
