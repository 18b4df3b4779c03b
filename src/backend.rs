//! One replica of an MCP server: its name, its address, its weight and whether it takes new work; and the URLs that
//! stand for several.
//!
//! The name is the identity: every pin and every point on the ring derives from it alone, so two
//! proxies agree about a backend when they agree about its name. Where it listens may change under
//! one name. Health is not kept here.

mod service;
mod tls;

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU16,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

pub use self::{
    service::{Address, Family, Question, Records, ServiceUrl},
    tls::Tls,
};

/// What identifies a backend on the wire: 1–255 visible ASCII characters (0x21–0x7E), unique over all pools.
///
/// Cheap to clone. Contract: every pin that clients hold was computed from this name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a string cannot be a backend's [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a backend's name is 1 to 255 visible ASCII characters, without spaces")]
pub struct InvalidName;

impl Name {
    /// Checks and takes a name.
    ///
    /// # Errors
    ///
    /// If it is empty, longer than 255 bytes, or holds anything but 0x21–0x7E.
    pub fn try_new(name: &str) -> Result<Self, InvalidName> {
        let fits = (1..=255).contains(&name.len());
        if fits && name.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidName)
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Names one address of one backend for the life of this process: what connections are kept by.
///
/// It survives reloads that leave name and address alone, and is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub u64);

/// The host of a backend's address: an IP literal, or a DNS name that is resolved at each connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An IP literal.
    Ip(IpAddr),
    /// A DNS name in lower case, without the trailing dot.
    Dns(Box<str>),
}

/// Where a backend listens, and how it is spoken to. `Display` gives `host:port` in the form that is a backend's default
/// name: lower case, no trailing dot, the port always written, RFC 5952 for IPv6, in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The host part.
    pub host: Host,
    /// The TCP port, never 0.
    pub port: NonZeroU16,
    /// How `https://` is spoken; `None` is `http://`.
    pub tls: Option<Tls>,
    /// Whether HTTP/2 is spoken, and nothing else.
    pub http2: bool,
    /// Host and port of the URL, where a name stands for several backends.
    pub service: Option<Arc<str>>,
}

impl Endpoint {
    /// What the backend is told in `Host`: host and port of its URL.
    #[must_use]
    pub fn authority(&self) -> Cow<'_, str> {
        match &self.service {
            Some(service) => Cow::Borrowed(service),
            None => Cow::Owned(self.to_string()),
        }
    }

    /// The URL, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = match self.tls {
            None => "http",
            Some(_) => "https",
        };
        format!("{scheme}://{self}")
    }
}

/// A backend's URL as it is written. How its TLS is to be spoken stands elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// What is spoken.
    pub scheme: Scheme,
    /// Where, as yet without TLS.
    pub endpoint: Endpoint,
}

/// What is spoken at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// HTTP over TCP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// As URLs have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn port(self) -> NonZeroU16 {
        match self {
            Self::Http => HTTP_PORT,
            Self::Https => HTTPS_PORT,
        }
    }
}

/// Why a backend's URL cannot be used. Each says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// No `http://` or `https://` in front.
    #[error("a backend's URL begins with http:// or https://, as in \"http://127.0.0.1:9001\"")]
    Scheme,
    /// An address that is asked for as a name.
    #[error("an IP address is one backend; write http:// or https:// before it")]
    ServiceOfAddress,
    /// A port where the records have it.
    #[error(
        "SRV records have the ports: leave it out, or write dns+http:// where all listen at this one"
    )]
    ServicePort,
    /// A path, query, fragment or user name.
    #[error(
        "a backend's URL is only scheme, host and port; paths are passed on as the client sent them"
    )]
    MoreThanAuthority,
    /// A host that is neither an IP address nor a DNS name.
    #[error("the host is neither an IP address nor a DNS name")]
    Host,
    /// A port that is no number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

const HTTP_PORT: NonZeroU16 = NonZeroU16::new(80).expect("80 is not zero");
const HTTPS_PORT: NonZeroU16 = NonZeroU16::new(443).expect("443 is not zero");

impl FromStr for Url {
    type Err = InvalidUrl;

    /// Reads `http://host[:port]` or `https://host[:port]`, an optional `/` behind it. The port is 80 or 443 by
    /// default.
    fn from_str(url: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = url.split_once("://").ok_or(InvalidUrl::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(InvalidUrl::Scheme),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(InvalidUrl::MoreThanAuthority);
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            Some(digits) => parse_port(digits)?,
            None => scheme.port(),
        };
        let endpoint = Endpoint {
            host: parse_host(host)?,
            port,
            tls: None,
            http2: false,
            service: None,
        };
        Ok(Self { scheme, endpoint })
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), InvalidUrl> {
    if authority.starts_with('[') {
        let (host, rest) = authority.split_once(']').ok_or(InvalidUrl::Host)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(InvalidUrl::Host),
        };
    }
    Ok(match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    })
}

fn parse_port(digits: &str) -> Result<NonZeroU16, InvalidUrl> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidUrl::Port); // "+80" would parse
    }
    digits.parse().map_err(|_| InvalidUrl::Port)
}

fn parse_host(host: &str) -> Result<Host, InvalidUrl> {
    if let Some(v6) = host.strip_prefix('[') {
        let address: Ipv6Addr = v6.parse().map_err(|_| InvalidUrl::Host)?;
        return Ok(Host::Ip(address.into()));
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(Host::Ip(address));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if host.len() <= 253 && host.split('.').all(label) {
        Ok(Host::Dns(host.into()))
    } else {
        Err(InvalidUrl::Host)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            Host::Ip(IpAddr::V4(address)) => write!(f, "{address}:{}", self.port),
            Host::Dns(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// A backend's share of new work, relative to the others of its pool: 1–65535.
///
/// It never changes the number of virtual nodes, which would orphan pins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight(pub NonZeroU16);

impl Default for Weight {
    fn default() -> Self {
        Self(NonZeroU16::MIN)
    }
}

/// Whether a backend takes new work. Sessions that it holds are served either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Admission {
    /// Takes new work.
    #[default]
    Open,
    /// Takes none; what it holds goes on.
    Draining,
}

/// One replica as the configuration describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its identity on the wire.
    pub name: Name,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Its share of new work.
    pub weight: Weight,
    /// Whether it takes new work.
    pub admission: Admission,
    /// How long it gets no new work after it has joined; `None`: as long as its pool says.
    pub join_delay: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_names_are_written_in_one_way() {
        let name = |url: &str| url.parse::<Url>().map(|url| url.endpoint.to_string());
        assert_eq!(name("http://Example.COM."), Ok("example.com:80".into()));
        assert_eq!(name("HTTP://127.0.0.1:9001/"), Ok("127.0.0.1:9001".into()));
        assert_eq!(
            name("http://[2001:DB8:0:0::1]:80"),
            Ok("[2001:db8::1]:80".into())
        );
        assert_eq!(name("http://h:080"), Ok("h:80".into()));
        assert_eq!(name("https://h"), Ok("h:443".into()));
    }

    #[test]
    fn urls_that_cannot_be_used_say_why() {
        let fault = |url: &str| url.parse::<Url>().unwrap_err();
        assert_eq!(fault("127.0.0.1:80"), InvalidUrl::Scheme);
        assert_eq!(fault("ftp://h"), InvalidUrl::Scheme);
        assert_eq!(fault("dns+http://h:1"), InvalidUrl::Scheme, "it is not one");
        assert_eq!(fault("http://h/mcp"), InvalidUrl::MoreThanAuthority);
        assert_eq!(fault("http://u@h"), InvalidUrl::MoreThanAuthority);
        assert_eq!(fault("http://h:0"), InvalidUrl::Port);
        assert_eq!(fault("http://h:+80"), InvalidUrl::Port);
        assert_eq!(fault("http://h:65536"), InvalidUrl::Port);
        for host in [
            "http://",
            "http://a..b",
            "http://[::1",
            "http://[::1]x",
            "http://a b",
            "http://::1",
        ] {
            assert!(
                matches!(fault(host), InvalidUrl::Host | InvalidUrl::Port),
                "{host}"
            );
        }
    }

    #[test]
    fn a_name_is_visible_ascii() {
        assert!(Name::try_new("a").is_ok() && Name::try_new(&"~".repeat(255)).is_ok());
        for bad in ["", "a b", "ä", "a\u{7f}", &"a".repeat(256)] {
            assert_eq!(Name::try_new(bad), Err(InvalidName), "{bad:?}");
        }
    }
}
