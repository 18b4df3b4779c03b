//! Backends: their keys, names that are unique over all pools, and host names that are several replicas.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    num::NonZeroU16,
};

use super::{
    check::World,
    fault::{Place, Spot},
    file::Report,
    overrides::Given,
    section::Section,
};
use crate::backend::{Admission, Backend, Endpoint, Host, Name, Weight};

/// The entries of `section`'s `backends`; `None` where there is no such key.
pub(super) fn tables<'a>(section: &Section<'a>) -> Option<Vec<Section<'a>>> {
    section.tables("backends", "{ url = \"http://…\" }")
}

/// Reads backends, and remembers what was read before: names and hosts are compared over all pools.
pub(super) struct Backends<'a> {
    report: &'a Report<'a>,
    world: &'a dyn World,
    names: HashMap<Name, Spot>,
    resolved: HashMap<Box<str>, BTreeSet<IpAddr>>,
}

impl<'a> Backends<'a> {
    pub(super) fn new(report: &'a Report<'a>, world: &'a dyn World) -> Self {
        Self {
            report,
            world,
            names: HashMap::new(),
            resolved: HashMap::new(),
        }
    }

    /// Reads entries; `header` is how the file begins one.
    pub(super) fn read(&mut self, sections: Vec<Section<'_>>, header: &str) -> Vec<Backend> {
        let entries = sections.into_iter();
        let backends = entries.map(|section| self.entry(section, header));
        backends.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    /// Reads URLs from outside the file, each with a name before it or not: `NAME=URL`.
    pub(super) fn given(&mut self, given: &[Given]) -> Vec<Backend> {
        let mut backends = Vec::new();
        for given in given {
            let paste = |address: &Endpoint| match given.label.strip_prefix("--") {
                Some(_) => format!("{} http://{address}", given.label),
                None => format!("http://{address}"),
            };
            let (written, url) = match given.value.split_once('=') {
                Some((name, url)) if !name.contains("://") => (Some(name), url),
                Some(_) | None => (None, given.value.as_str()),
            };
            let Some(endpoint) = self.endpoint(url, &given.spot(), &paste) else {
                continue;
            };
            if let Some(name) = self.name(written, &endpoint, &given.spot()) {
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

    fn entry(&mut self, section: Section<'_>, header: &str) -> Option<Backend> {
        let name = section.string("name");
        let url = section.string("url");
        let weight = section.integer("weight", 1..=u32::from(u16::MAX));
        let draining = section.bool("draining").unwrap_or(false);
        if url.is_none() && !section.has("url") {
            section.missing("url", "is missing; write url = \"http://HOST:PORT\"");
        }
        let named = section.has("name");
        section.finish();
        let url = url?;
        let paste = |address: &Endpoint| format!("{header}\n    url = \"http://{address}\"");
        let endpoint = self.endpoint(url.value, &url.spot, &paste)?;
        let name = match name {
            Some(name) => self.name(Some(name.value), &endpoint, &name.spot)?,
            None if named => return None,
            None => self.name(None, &endpoint, &url.spot)?,
        };
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
    fn name(&mut self, written: Option<&str>, endpoint: &Endpoint, spot: &Spot) -> Option<Name> {
        let text = written.map_or_else(|| endpoint.to_string(), str::to_owned);
        let name = match Name::try_new(&text) {
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

    /// Reads a URL, and refuses a host that is several replicas. `paste` writes the entry of one address.
    fn endpoint(
        &mut self,
        url: &str,
        spot: &Spot,
        paste: &dyn Fn(&Endpoint) -> String,
    ) -> Option<Endpoint> {
        let endpoint: Endpoint = match url.parse() {
            Ok(endpoint) => endpoint,
            Err(error) => {
                self.report.push(spot.clone().fault(format!("{error}")));
                return None;
            }
        };
        if let Host::Dns(host) = &endpoint.host
            && let Some(replicas) = self.replicas(host)
        {
            let message = several(&endpoint, host, &replicas, paste);
            self.report.push(spot.clone().fault(message));
        }
        Some(endpoint)
    }

    /// The addresses of a host that has several of one family. One of each is one dual-stack replica.
    fn replicas(&mut self, host: &str) -> Option<Vec<IpAddr>> {
        let world = self.world;
        let addresses = self.resolved.entry(host.into()).or_insert_with(|| {
            // No answer is no fault: the name is resolved again at each connect.
            world
                .resolve(host)
                .unwrap_or_default()
                .into_iter()
                .collect()
        });
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) =
            addresses.iter().partition(|address| address.is_ipv4());
        [v4, v6].into_iter().find(|family| family.len() > 1)
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
        "{host} resolves to {} addresses: {}; a backend is one replica. Discovery, url = \"dns+http://{endpoint}\", is not yet supported by this version; write one entry for each address:",
        replicas.len(),
        list.join(", "),
    );
    for address in replicas {
        let address = Endpoint {
            host: Host::Ip(*address),
            port: endpoint.port,
        };
        message.push_str(&format!("\n    {}", paste(&address)));
    }
    message
}
