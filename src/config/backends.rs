//! Backends: their keys, names that are unique over all pools, DNS names that stand for several, and host names that do
//! so without saying it.

mod hosts;

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
};

pub(super) use self::hosts::is_reached_at;
use self::hosts::{replicas, several};
use super::{
    Listen,
    check::World,
    fault::{Place, Spot},
    file::Report,
    overrides::Given,
    section::Section,
    services::{self, Naming, Service},
    tls::Upstream,
};
use crate::backend::{
    Address, Admission, Backend, Endpoint, Family, Host, InvalidUrl, Name, Records, Scheme,
    ServiceUrl, Tls, Url, Weight,
};

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
    services: HashMap<(Box<str>, Records), Spot>,
    resolved: HashMap<Box<str>, BTreeSet<IpAddr>>,
}

/// What the entries of one pool name.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) backends: Vec<Backend>,
    pub(super) services: Vec<Service>,
    /// Backends that are called by a loopback address, for they were given no name.
    nameless: Vec<Spot>,
}

/// What an entry says beside its URL.
struct Entry<'e> {
    name: Option<(&'e str, Spot)>,
    /// The name is there and unusable.
    misnamed: bool,
    family: Family,
    weight: Weight,
    admission: Admission,
}

impl<'a> Backends<'a> {
    /// `listen` is where pinring itself will listen.
    pub(super) fn new(report: &'a Report<'a>, world: &'a dyn World, listen: &'a [Listen]) -> Self {
        Self {
            report,
            world,
            listen,
            names: HashMap::new(),
            services: HashMap::new(),
            resolved: HashMap::new(),
        }
    }

    /// Reads entries; `header` is how the file begins one, `tls` how `https://` is spoken with them.
    pub(super) fn read(
        &mut self,
        sections: Vec<Section<'_>>,
        header: &str,
        tls: &Upstream<'_>,
    ) -> Listed {
        let mut listed = Listed::default();
        for section in sections {
            self.section(section, header, tls, &mut listed);
        }
        self.refuse_nameless(&listed);
        listed
    }

    /// Reads URLs from outside the file, each with a name before it or not: `NAME=URL`.
    pub(super) fn given(&mut self, given: &[Given], tls: &Upstream<'_>) -> Listed {
        let mut listed = Listed::default();
        for given in given {
            let paste = |url: &str| match given.label.strip_prefix("--") {
                Some(_) => format!("{} {url}", given.label),
                None => url.to_owned(),
            };
            let (name, url) = match given.value.split_once('=') {
                Some((name, url)) if !name.contains("://") => (Some(name), url),
                Some(_) | None => (None, given.value.as_str()),
            };
            let entry = Entry {
                name: name.map(|name| (name, given.spot())),
                misnamed: false,
                family: Family::default(),
                weight: Weight::default(),
                admission: Admission::default(),
            };
            match self.parse(url, &given.spot()) {
                Some(address) => {
                    self.entry(address, &given.spot(), entry, tls, &paste, &mut listed)
                }
                None => self.check_name(entry),
            }
        }
        self.refuse_nameless(&listed);
        listed
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

    fn section(
        &mut self,
        section: Section<'_>,
        header: &str,
        tls: &Upstream<'_>,
        listed: &mut Listed,
    ) {
        let name = section.string("name");
        let url = section.string("url");
        let family = section.choice("family", &Family::WORDS);
        let weight = section.integer("weight", 1..=u32::from(u16::MAX));
        let weight = weight.and_then(|weight| u16::try_from(weight).ok());
        let draining = section.bool("draining").unwrap_or(false);
        if url.is_none() && !section.has("url") {
            section.missing("url", "is missing; write url = \"http://HOST:PORT\"");
        }
        let address = url
            .as_ref()
            .and_then(|url| self.parse(url.value, &url.spot));
        if matches!(address, Some(Address::One(_))) && section.has("family") {
            let message = "is for URLs with dns+ or srv+, whose name may have addresses of both families; leave it out";
            section.refuse("family", message);
        }
        let entry = Entry {
            misnamed: section.has("name") && name.is_none(),
            name: name.map(|name| (name.value, name.spot)),
            family: family.unwrap_or_default(),
            weight: weight
                .and_then(NonZeroU16::new)
                .map_or_else(Weight::default, Weight),
            admission: if draining {
                Admission::Draining
            } else {
                Admission::Open
            },
        };
        section.finish();
        let paste = |url: &str| format!("{header}\n    url = \"{url}\"");
        match (address, url) {
            (Some(address), Some(url)) => {
                self.entry(address, &url.spot, entry, tls, &paste, listed);
            }
            _ => self.check_name(entry),
        }
    }

    fn parse(&self, url: &str, spot: &Spot) -> Option<Address> {
        let parsed = url.parse();
        if let Err(error) = &parsed {
            let error: &InvalidUrl = error;
            self.report.push(spot.clone().fault(error.to_string()));
        }
        parsed.ok()
    }

    /// A bad URL hides nothing about the name, nor the other way round. What a name may hold depends on the URL.
    fn check_name(&mut self, entry: Entry<'_>) {
        if let Some((name, spot)) = entry
            .name
            .filter(|(name, _)| !name.contains(services::PLACE))
        {
            self.name(name, &spot);
        }
    }

    /// One entry, whose URL stands at `spot`. `paste` writes the entry of one URL.
    fn entry(
        &mut self,
        address: Address,
        spot: &Spot,
        entry: Entry<'_>,
        tls: &Upstream<'_>,
        paste: &dyn Fn(&str) -> String,
        listed: &mut Listed,
    ) {
        match address {
            Address::One(url) => {
                let endpoint = self.endpoint(url, spot, tls, paste);
                let name = match (&entry.name, &endpoint) {
                    (Some((name, spot)), _) => self.name(name, spot),
                    (None, Some(endpoint)) if !entry.misnamed => {
                        if services::is_everywhere(&endpoint.host) {
                            listed.nameless.push(spot.clone());
                        }
                        self.name(&endpoint.to_string(), spot)
                    }
                    (None, _) => None,
                };
                let backend = name.zip(endpoint).map(|(name, endpoint)| Backend {
                    name,
                    endpoint,
                    weight: entry.weight,
                    admission: entry.admission,
                    join_delay: None,
                });
                listed.backends.extend(backend);
            }
            Address::Several(url) => listed.services.extend(self.service(url, spot, entry, tls)),
        }
    }

    fn service(
        &mut self,
        mut url: ServiceUrl,
        spot: &Spot,
        entry: Entry<'_>,
        tls: &Upstream<'_>,
    ) -> Option<Service> {
        let key = (url.question.name.clone(), url.question.records);
        if let Some(first) = self.services.get(&key) {
            let message = format!(
                "{} stands for the same backends; remove one of the two",
                first.reference()
            );
            self.report.push(spot.clone().fault(message));
            return None;
        }
        self.services.insert(key, spot.clone());
        url.question.family = entry.family;
        let http2 = tls.http2();
        let tls = match url.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(self.tls(&Host::Dns(url.question.host().into()), spot, tls)?),
        };
        let naming = match entry.name {
            None if entry.misnamed => return None,
            None => Naming::ByAddress,
            Some((name, spot)) => self.naming(name, &spot)?,
        };
        Some(Service {
            url,
            naming,
            http2,
            tls,
            weight: entry.weight,
            admission: entry.admission,
        })
    }

    /// The name of all backends of a service, with a place for the address of each.
    fn naming(&self, text: &str, spot: &Spot) -> Option<Naming> {
        let Some((before, behind)) = text.split_once(services::PLACE) else {
            let message = "the url stands for several backends, which are named by their addresses; leave the name out, or \
                           write one with {address} in it, such as \"mcp-{address}\"";
            self.report.push(spot.clone().fault(message));
            return None;
        };
        let longest = SocketAddr::from((Ipv6Addr::from([0xff; 16]), u16::MAX));
        if let Err(error) = Name::try_new(&format!("{before}{longest}{behind}")) {
            self.report.push(spot.clone().fault(error.to_string()));
            return None;
        }
        Some(Naming::Within {
            before: before.to_owned(),
            behind: behind.to_owned(),
        })
    }

    /// Two sidecars, each beside a server of its own, would give both one identity.
    fn refuse_nameless(&self, listed: &Listed) {
        if listed.services.is_empty() {
            return;
        }
        for spot in &listed.nameless {
            let message = "beside backends that are discovered, a loopback address is no name: in each pod it is another backend; \
                           give it a name that no other has, or leave the entry out and write `local` for the pod's own";
            self.report.push(spot.clone().fault(message));
        }
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

    /// Refuses a host that is several replicas, and pinring's own address. `paste` writes the entry of one URL.
    fn endpoint(
        &mut self,
        url: Url,
        spot: &Spot,
        tls: &Upstream<'_>,
        paste: &dyn Fn(&str) -> String,
    ) -> Option<Endpoint> {
        let Url {
            scheme,
            mut endpoint,
        } = url;
        endpoint.http2 = tls.http2();
        if scheme == Scheme::Https {
            endpoint.tls = Some(self.tls(&endpoint.host, spot, tls)?);
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

    fn tls(&self, host: &Host, spot: &Spot, tls: &Upstream<'_>) -> Option<Tls> {
        let settings = tls.to(host, spot);
        if settings.is_none() {
            let message = "no certificate can be for this host; write server_name = \"…\" under tls of its pool";
            self.report.push(spot.clone().fault(message));
        }
        settings
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
