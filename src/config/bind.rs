//! `bind` and `accept_unbound`: whose sessions are whose, and what that needs; and `trusted_proxies`, whose word it
//! may rest on.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{secrets::Secrets, section::Section};
use crate::identity::{Source, trusted::Trusted};

const TRUST_WHOM: &str = "whose word is it? Write trusted_proxies = [\"10.0.0.0/8\"], or whatever addresses your proxies have, under [server]";

/// What the rest of the file says of who may be believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identities<'a> {
    /// `limits.principal`.
    pub(super) principal: Option<&'a Source>,
    pub(super) trusted: &'a Trusted,
    pub(super) secrets: &'a Secrets,
}

/// Reads `bind`. The inner `None` is "", which binds to nobody.
pub(super) fn read(section: &Section<'_>, identities: Identities<'_>) -> Option<Option<Source>> {
    let found = section.string("bind")?;
    if found.value.is_empty() {
        return Some(None);
    }
    let refuse = |message: &str| section.report().push(found.spot.clone().fault(message));
    match found.value.parse::<Source>() {
        Ok(source @ (Source::Jwt { .. } | Source::Header(_))) => {
            if let Some(message) = untrusted(&source, identities.trusted) {
                refuse(message);
            }
            if let Some(message) = identities.secrets.unfit_to_bind() {
                refuse(message);
            }
            Some(Some(source))
        }
        // An address is no identity: a laptop changes it, and a whole office shares it.
        Ok(Source::Address) | Err(_) => {
            refuse(
                "write \"jwt:CLAIM\", such as \"jwt:sub\", or \"header:NAME\", which a proxy sets; \"\" for none",
            );
            None
        }
    }
}

/// Why this source says nothing about anybody.
pub(super) fn untrusted(source: &Source, trusted: &Trusted) -> Option<&'static str> {
    match source {
        Source::Header(_) => trusted.networks().is_empty().then_some(TRUST_WHOM),
        Source::Jwt { .. } | Source::Address => None,
    }
}

/// Reads `trusted_proxies`, and `proxy_protocol`, which needs it.
pub(super) fn trusted_proxies(section: &Section<'_>) -> (Trusted, bool) {
    let listed = section.strings("trusted_proxies");
    let mut networks: Vec<IpNet> = Vec::new();
    for found in listed.into_iter().flat_map(|list| list.value) {
        match network(found.value) {
            Some(network) => networks.push(network),
            None => section.report().push(found.spot.fault(
                "write an address, such as \"192.0.2.1\", or a network, such as \"10.0.0.0/8\" or \"fd00::/8\"",
            )),
        }
    }
    let proxy_protocol = section.bool("proxy_protocol").unwrap_or(false);
    if proxy_protocol && section.lacks("trusted_proxies") {
        let message = "whose headers are believed? Write trusted_proxies = [\"10.0.0.0/8\"], or whatever addresses \
                       your balancers have, beside it";
        section.refuse("proxy_protocol", message);
    }
    (Trusted::new(networks), proxy_protocol)
}

/// A network, or the one of a single address.
fn network(text: &str) -> Option<IpNet> {
    let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let network = text.parse::<IpNet>().ok().or_else(one)?;
    Some(canonical(network).trunc())
}

/// IPv4 addresses written as `::ffff:a.b.c.d` are IPv4: so clients are looked at, too.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED: u8 = 96; // bits before the IPv4 address
    let (address, length) = (network.addr().to_canonical(), network.prefix_len());
    match (address, length.checked_sub(MAPPED)) {
        (IpAddr::V4(_), Some(of_ipv4)) if network.addr().is_ipv6() => {
            IpNet::new(address, of_ipv4).unwrap_or(network)
        }
        _ => network,
    }
}
