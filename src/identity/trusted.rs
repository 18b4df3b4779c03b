//! Where a client is: the address of its connection, or what trusted proxies on the way report of it.
//!
//! A proxy appends to `X-Forwarded-For` (or `Forwarded`, RFC 7239) who has connected to it. What stands left of that was
//! sent by whoever has connected, and may be made up. So the list is read from its right end, and the first address
//! that is no trusted proxy's is the client's.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies that are believed what they say of their clients: addresses and networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trusted(Vec<IpNet>);

impl Trusted {
    /// Trusts those in any of the networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// The networks.
    #[must_use]
    pub fn networks(&self) -> &[IpNet] {
        &self.0
    }

    /// Whether a proxy at this address is trusted.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        // A dual-stack socket shows IPv4 as ::ffff:a.b.c.d.
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client of a request with these headers, over a connection from `peer`.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        if !self.contains(peer) {
            return Client::direct(peer);
        }
        // nginx, Envoy and HAProxy mean the older header, and pass the newer one on as their clients sent it: where both
        // are there, the older one counts.
        let address = if headers.contains_key(FORWARDED_FOR) {
            self.nearest_untrusted(peer, from_the_right(headers, &FORWARDED_FOR, address))
        } else {
            self.nearest_untrusted(
                peer,
                from_the_right(headers, &header::FORWARDED, forwarded_for),
            )
        };
        Client {
            address,
            by_trusted: true,
        }
    }

    /// Follows the way from `peer` outwards, to the first that is not trusted, or as far as the reports go.
    fn nearest_untrusted(
        &self,
        peer: IpAddr,
        reports: impl Iterator<Item = Option<IpAddr>>,
    ) -> IpAddr {
        let mut reached = peer;
        for reported in reports {
            // "unknown", a name, or garbage: whoever is behind, the last proxy on the way stands for it.
            let Some(address) = reported else { break };
            reached = address;
            if !self.contains(address) {
                break;
            }
        }
        reached
    }
}

/// Who makes a request, by its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Where it is.
    pub address: IpAddr,
    /// Whether the request comes over a connection from a trusted proxy, whose headers are believed.
    pub by_trusted: bool,
}

impl Client {
    /// Whoever is at the other end of the connection.
    #[must_use]
    pub fn direct(address: IpAddr) -> Self {
        Self {
            address,
            by_trusted: false,
        }
    }
}

/// Whether an address is of the kind that proxies in the same network have: no client of the internet's.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            let is_shared = a == 100 && b & 0xc0 == 64; // 100.64.0.0/10, RFC 6598: between a provider's own
            address.is_private() || address.is_loopback() || address.is_link_local() || is_shared
        }
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

/// The elements of a list header, the last first, each as `read` understands it.
fn from_the_right(
    headers: &HeaderMap,
    name: &HeaderName,
    read: fn(&[u8]) -> Option<IpAddr>,
) -> impl Iterator<Item = Option<IpAddr>> {
    let lines = headers.get_all(name).into_iter().rev();
    // Commas in quotes count too: nothing that a proxy reports of itself has any, and what clients send before
    // that could open a quotation and never close it.
    let elements = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    elements
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
        .map(read)
}

/// A parameter of the element that the last proxy has added to `Forwarded`, without its quotes.
#[must_use]
pub fn last_forwarded<'a>(headers: &'a HeaderMap, parameter: &str) -> Option<&'a [u8]> {
    let line = headers.get_all(header::FORWARDED).into_iter().next_back()?;
    let last = line.as_bytes().rsplit(|byte| *byte == b',').next()?;
    parameter_of(last, parameter)
}

fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    address(parameter_of(element, "for")?)
}

fn parameter_of<'a>(element: &'a [u8], name: &str) -> Option<&'a [u8]> {
    element.split(|byte| *byte == b';').find_map(|pair| {
        let (key, value) = pair.split_at(pair.iter().position(|byte| *byte == b'=')?);
        let value = value.strip_prefix(b"=")?.trim_ascii();
        let quoted = value
            .strip_prefix(b"\"")
            .and_then(|value| value.strip_suffix(b"\""));
        let is_it = key.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
        is_it.then(|| quoted.unwrap_or(value))
    })
}

/// An address with or without a port; IPv6 with or without brackets, with a port always in them.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || {
        let (host, port) = text.rsplit_once(':')?;
        port.parse::<u16>().ok()?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        match bare {
            Some(host) => host.parse().ok().map(IpAddr::V6),
            None => host.parse().ok().map(IpAddr::V4),
        }
    };
    let found: IpAddr = text
        .parse()
        .ok()
        .or_else(|| bracketed().map(IpAddr::V6))
        .or_else(with_port)?;
    Some(found.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trusted(networks: &[&str]) -> Trusted {
        Trusted::new(networks.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    /// The client's address by these lines, over a connection from 10.0.0.1.
    fn client(lines: &[(&'static str, &str)]) -> String {
        let trusted = trusted(&["10.0.0.0/8", "fd00::/8", "203.0.113.7/32"]);
        let peer = IpAddr::from([10, 0, 0, 1]);
        let client = trusted.client(peer, &headers(lines));
        assert!(client.by_trusted);
        client.address.to_string()
    }

    #[test]
    fn the_rightmost_address_that_is_not_trusted_is_the_client() {
        for (reported, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("198.51.100.9, 192.0.2.1", "192.0.2.1"), // the first was made up
            ("10.6.6.6, 192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, 10.0.0.2,10.0.0.3", "192.0.2.1"),
            ("192.0.2.1, 203.0.113.7", "192.0.2.1"),
            ("192.0.2.1, 203.0.113.8", "203.0.113.8"),
            ("10.0.0.9, 10.0.0.2", "10.0.0.9"), // a client of the network itself
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711, [fd00::2]:80", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, ::ffff:10.0.0.2", "192.0.2.1"),
            ("192.0.2.1,, 10.0.0.2, ", "192.0.2.1"),
            ("192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
            ("unknown", "10.0.0.1"),
            ("192.0.2.1, 192.0.2.300", "10.0.0.1"),
            ("192.0.2.1, [10.0.0.2]", "10.0.0.1"),
            ("2001:db8::1:99999", "10.0.0.1"),
            ("", "10.0.0.1"),
        ] {
            assert_eq!(
                client(&[("x-forwarded-for", reported)]),
                expected,
                "{reported}"
            );
        }
        assert_eq!(client(&[]), "10.0.0.1");
        let two = [
            ("x-forwarded-for", "198.51.100.9"),
            ("x-forwarded-for", "192.0.2.1, 10.0.0.2"),
        ];
        assert_eq!(client(&two), "192.0.2.1");
    }

    #[test]
    fn forwarded_is_read_where_the_older_header_is_not_there() {
        for (reported, expected) in [
            ("for=192.0.2.1", "192.0.2.1"),
            (
                "For=\"192.0.2.1:4711\";proto=https;by=10.0.0.1",
                "192.0.2.1",
            ),
            (
                "for=198.51.100.9, proto=https; for=\"[2001:db8::1]:4711\"",
                "2001:db8::1",
            ),
            ("for=192.0.2.1, for=\"[fd00::1]\"", "192.0.2.1"),
            ("for=\"x, for=192.0.2.1", "192.0.2.1"), // a quotation that somebody has opened and not closed
            ("for=192.0.2.1, for=_hidden", "10.0.0.1"),
            ("for=192.0.2.1, proto=https", "10.0.0.1"),
        ] {
            assert_eq!(client(&[("forwarded", reported)]), expected, "{reported}");
        }
        let both = [
            ("forwarded", "for=198.51.100.9"),
            ("x-forwarded-for", "192.0.2.1"),
        ];
        assert_eq!(client(&both), "192.0.2.1");
    }

    #[test]
    fn who_is_not_trusted_speaks_for_himself_alone() {
        let lines = headers(&[("x-forwarded-for", "192.0.2.1")]);
        let peer = IpAddr::from([198, 51, 100, 1]);
        for trusted in [trusted(&[]), trusted(&["10.0.0.0/8"])] {
            assert_eq!(trusted.client(peer, &lines), Client::direct(peer));
        }
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
        assert!(trusted(&["10.0.0.0/8"]).contains(mapped));
    }

    #[test]
    fn private_addresses_are_those_of_networks_behind_a_balancer() {
        for (address, expected) in [
            ("10.1.2.3", true),
            ("172.31.0.1", true),
            ("192.168.1.1", true),
            ("127.0.0.1", true),
            ("169.254.1.1", true),
            ("100.64.0.1", true),
            ("100.128.0.1", false),
            ("192.0.2.1", false),
            ("::1", true),
            ("fd12::1", true),
            ("fe80::1", true),
            ("2001:db8::1", false),
            ("::ffff:10.0.0.1", true),
        ] {
            assert_eq!(is_private(address.parse().unwrap()), expected, "{address}");
        }
    }

    proptest! {
        #[test]
        fn no_report_panics(line in prop::collection::vec(prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff], 0..60)) {
            let value = http::HeaderValue::from_bytes(&line).unwrap();
            for name in [FORWARDED_FOR, header::FORWARDED] {
                let lines: HeaderMap = [(name, value.clone())].into_iter().collect();
                let _client = trusted(&["0.0.0.0/0", "::/0"]).client(IpAddr::from([10, 0, 0, 1]), &lines);
                let _proto = last_forwarded(&lines, "proto");
            }
        }
    }
}
