//! URLs that stand for as many backends as a DNS name has addresses: `dns+http://`, `srv+http://` and the same with
//! `https`.

use std::{fmt, num::NonZeroU16, str::FromStr};

use super::{Host, InvalidUrl, Scheme, Url, parse_host, parse_port, split_port};

/// A URL of one backend, or of a name that stands for several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// One backend.
    One(Url),
    /// As many as the name has addresses.
    Several(ServiceUrl),
}

/// What is spoken with all backends that a name stands for, and how they are found. `Display` is the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUrl {
    /// What is spoken.
    pub scheme: Scheme,
    /// How they are found.
    pub question: Question,
}

/// What the DNS is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// The name in lower case. With a dot at its end it is whole, else the resolver's search list applies.
    pub name: Box<str>,
    /// Which records are looked for.
    pub records: Records,
    /// Which addresses.
    pub family: Family,
}

/// The records that backends are found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Records {
    /// A and AAAA: each address is a backend, all at one port.
    Addresses {
        /// That port.
        port: NonZeroU16,
    },
    /// SRV, which have the ports, and the names whose addresses are the backends.
    Services,
}

/// Which addresses of a name are backends. A replica with one of each family has two names otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Family {
    /// Those of IPv4, and where there is none at the first answer, those of IPv6.
    #[default]
    Auto,
    /// Those of IPv4.
    V4,
    /// Those of IPv6.
    V6,
    /// All: each is a backend.
    Both,
}

impl Family {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("auto", Self::Auto),
        ("ipv4", Self::V4),
        ("ipv6", Self::V6),
        ("both", Self::Both),
    ];
}

impl FromStr for Address {
    type Err = InvalidUrl;

    /// Reads `http://host[:port]`, `dns+http://name[:port]`, `srv+http://name`, and the same with `https`.
    fn from_str(url: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = url.split_once("://").ok_or(InvalidUrl::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        let Some((kind, scheme)) = scheme.split_once('+') else {
            return url.parse().map(Self::One);
        };
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(InvalidUrl::Scheme),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(InvalidUrl::MoreThanAuthority);
        }
        let (host, port) = split_port(authority)?;
        let name = service_name(host)?;
        let records = match (kind, port) {
            ("dns", None) => Records::Addresses {
                port: scheme.port(),
            },
            ("dns", Some(digits)) => Records::Addresses {
                port: parse_port(digits)?,
            },
            ("srv", None) => Records::Services,
            ("srv", Some(_)) => return Err(InvalidUrl::ServicePort),
            _ => return Err(InvalidUrl::Scheme),
        };
        let question = Question {
            name,
            records,
            family: Family::Auto,
        };
        Ok(Self::Several(ServiceUrl { scheme, question }))
    }
}

/// The name as it is asked for: a dot at its end means something there.
fn service_name(host: &str) -> Result<Box<str>, InvalidUrl> {
    match parse_host(host)? {
        Host::Ip(_) => Err(InvalidUrl::ServiceOfAddress),
        Host::Dns(name) if host.ends_with('.') => Ok(format!("{name}.").into()),
        Host::Dns(name) => Ok(name),
    }
}

impl Question {
    /// The name of the host: what certificates are for, and what backends are told in `Host`. Of an SRV name, that is what
    /// stands behind the labels of service and protocol (RFC 6125, section 6.2.1).
    #[must_use]
    pub fn host(&self) -> &str {
        let name = self.name.strip_suffix('.').unwrap_or(&self.name);
        match self.records {
            Records::Addresses { .. } => name,
            Records::Services => {
                let mut host = name;
                while let Some((label, rest)) = host.split_once('.')
                    && label.starts_with('_')
                {
                    host = rest;
                }
                host
            }
        }
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, name) = (self.scheme.as_str(), &self.question.name);
        match self.question.records {
            Records::Addresses { port } => write!(f, "dns+{scheme}://{name}:{port}"),
            Records::Services => write!(f, "srv+{scheme}://{name}"),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::WORDS.iter().find(|(_, family)| family == self);
        f.write_str(word.map_or("", |(word, _)| word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(url: &str) -> ServiceUrl {
        match url.parse() {
            Ok(Address::Several(service)) => service,
            other => panic!("{url}: {other:?}"),
        }
    }

    fn fault(url: &str) -> InvalidUrl {
        url.parse::<Address>().unwrap_err()
    }

    #[test]
    fn urls_of_services_are_written_in_one_way() {
        let written = |url: &str| service(url).to_string();
        assert_eq!(written("DNS+HTTP://Mcp:9001/"), "dns+http://mcp:9001");
        assert_eq!(written("dns+https://mcp.x."), "dns+https://mcp.x.:443");
        assert_eq!(written("srv+http://_mcp._tcp.x"), "srv+http://_mcp._tcp.x");
    }

    #[test]
    fn urls_of_one_backend_are_read_as_ever() {
        let one = "http://h:1".parse::<Url>().unwrap();
        assert_eq!("http://h:1".parse(), Ok(Address::One(one)));
    }

    #[test]
    fn the_host_of_a_service_has_no_labels_of_it() {
        assert_eq!(service("dns+http://a.b.:1").question.host(), "a.b");
        assert_eq!(service("srv+http://_mcp._tcp.a.b").question.host(), "a.b");
        assert_eq!(
            service("srv+http://mcp.consul").question.host(),
            "mcp.consul"
        );
    }

    #[test]
    fn urls_of_services_that_cannot_be_used_say_why() {
        assert_eq!(fault("dns+http://10.0.0.1:1"), InvalidUrl::ServiceOfAddress);
        assert_eq!(fault("dns+http://[::1]:1"), InvalidUrl::ServiceOfAddress);
        assert_eq!(fault("srv+http://_a._tcp.b:1"), InvalidUrl::ServicePort);
        assert_eq!(fault("dns+ftp://a"), InvalidUrl::Scheme);
        assert_eq!(fault("dnx+http://a"), InvalidUrl::Scheme);
        assert_eq!(fault("dns+http://a/mcp"), InvalidUrl::MoreThanAuthority);
        assert_eq!(fault("dns+http://a:0"), InvalidUrl::Port);
        assert_eq!(fault("dns+http://a..b"), InvalidUrl::Host);
    }
}
