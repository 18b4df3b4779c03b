//! Origins of web pages: `server.allowed_origins` and `cors.origins`.
//!
//! A browser says in `Origin` which page a request comes from (RFC 6454, section 7; Fetch, "Origin header"):
//! scheme, host and port in lower case, the port left out where it is the scheme's own.

use std::{fmt, net::Ipv4Addr, net::Ipv6Addr, str::FromStr};

use super::section::Section;

/// A list of origins: each by its name, or several by what they have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins(Vec<Pattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    /// `*`.
    Any,
    /// `loopback`: pages of this machine.
    Loopback,
    /// `null`: what browsers say of pages that have no origin, such as sandboxed frames and files.
    Null,
    /// `scheme://host[:port]`.
    Named {
        scheme: Box<str>,
        host: Box<str>,
        /// Written `*.host`: all hosts below it, without itself.
        below: bool,
        port: Port,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    /// The scheme's own, which browsers leave out.
    Default,
    Number(u16),
    /// `:*`.
    Any,
}

/// Why a text names no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write scheme and host, and the port if it is not the scheme's own, without a path: \"https://app.example.com\", \
     \"http://localhost:5173\"; \"https://*.example.com\" is every host below, \"http://localhost:*\" every port; \
     or \"loopback\", \"null\" or \"*\""
)]
pub struct InvalidOrigin;

impl Origins {
    /// Every page.
    #[must_use]
    pub fn any() -> Self {
        Self(vec![Pattern::Any])
    }

    /// Pages of this machine: `localhost`, names below it, 127.0.0.0/8 and `[::1]`, at any port.
    #[must_use]
    pub fn loopback() -> Self {
        Self(vec![Pattern::Loopback])
    }

    /// Whether every page is meant.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.contains(&Pattern::Any)
    }

    /// Whether the origin that a browser sent is meant.
    #[must_use]
    pub fn contains(&self, origin: &[u8]) -> bool {
        let text = std::str::from_utf8(origin).ok();
        let parts = text.and_then(split);
        self.0.iter().any(|pattern| match pattern {
            Pattern::Any => true,
            Pattern::Null => origin == b"null",
            Pattern::Loopback => parts.is_some_and(is_loopback),
            Pattern::Named {
                scheme,
                host,
                below,
                port,
            } => parts.is_some_and(|sent| {
                sent.scheme == &**scheme
                    && (if *below {
                        is_below(sent.host, host)
                    } else {
                        sent.host == &**host
                    })
                    && match port {
                        Port::Default => sent.port.is_none(),
                        Port::Number(port) => sent.port == Some(*port),
                        Port::Any => true,
                    }
            }),
        })
    }

    /// Takes those of `others` in as well.
    pub(super) fn extend(&mut self, others: &Self) {
        for pattern in &others.0 {
            if !self.0.contains(pattern) {
                self.0.push(pattern.clone());
            }
        }
    }
}

/// Reads a list; `None` where it is absent or empty.
pub(super) fn read(section: &Section<'_>, key: &'static str) -> Option<Origins> {
    let list = section.strings(key).filter(|list| !list.value.is_empty())?;
    let mut patterns = Vec::new();
    for found in list.value {
        match found.value.parse() {
            Ok(pattern) => patterns.push(pattern),
            Err(InvalidOrigin) => {
                let fault = found.spot.fault(InvalidOrigin.to_string());
                section.report().push(fault);
            }
        }
    }
    Some(Origins(patterns))
}

/// The parts of an origin that has any.
#[derive(Debug, Clone, Copy)]
struct Parts<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

fn split(origin: &str) -> Option<Parts<'_>> {
    let (scheme, authority) = origin.split_once("://")?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        Some(_) | None => (authority, None),
    };
    let of_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = match literal {
        Some(literal) => literal.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(of_host),
    };
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(of_scheme);
    (is_scheme && is_host).then_some(Parts { scheme, host, port })
}

/// No name server is asked for these, so that nobody else can make one of them his own (RFC 6761, section 6.3).
fn is_loopback(Parts { scheme, host, .. }: Parts<'_>) -> bool {
    let is_local = host == "localhost"
        || is_below(host, "localhost")
        || host == "[::1]"
        || host
            .parse()
            .is_ok_and(|address: Ipv4Addr| address.is_loopback());
    matches!(scheme, "http" | "https") && is_local
}

fn is_below(host: &str, parent: &str) -> bool {
    let name = host
        .strip_suffix(parent)
        .and_then(|rest| rest.strip_suffix('.'));
    name.is_some_and(|name| !name.is_empty())
}

impl FromStr for Pattern {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        match text {
            "*" => return Ok(Self::Any),
            "loopback" => return Ok(Self::Loopback),
            "null" => return Ok(Self::Null),
            _ => {}
        }
        let text = text.to_ascii_lowercase();
        let (origin, any_port) = match text.strip_suffix(":*") {
            Some(origin) => (origin, true),
            None => (&*text, false),
        };
        let (origin, below) = match origin.split_once("://*.") {
            Some((scheme, host)) => (format!("{scheme}://{host}"), true),
            None => (origin.to_owned(), false),
        };
        let Parts { scheme, host, port } = split(&origin).ok_or(InvalidOrigin)?;
        let port = match (any_port, port) {
            (true, Some(_)) => return Err(InvalidOrigin),
            (true, None) => Port::Any,
            (false, None) => Port::Default,
            (false, Some(port)) if default_port(scheme) == Some(port) => Port::Default,
            (false, Some(port)) => Port::Number(port),
        };
        Ok(Self::Named {
            scheme: scheme.into(),
            host: host.into(),
            below,
            port,
        })
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Loopback => f.write_str("loopback"),
            Self::Null => f.write_str("null"),
            Self::Named {
                scheme,
                host,
                below,
                port,
            } => {
                let below = if *below { "*." } else { "" };
                write!(f, "{scheme}://{below}{host}")?;
                match port {
                    Port::Default => Ok(()),
                    Port::Number(port) => write!(f, ":{port}"),
                    Port::Any => f.write_str(":*"),
                }
            }
        }
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<String> = self.0.iter().map(Pattern::to_string).collect();
        write!(f, "{list:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(list: &[&str]) -> Origins {
        Origins(list.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn an_origin_is_meant_by_scheme_host_and_port() {
        let list = ["https://App.Example.com", "http://h:5173", "https://h:443"];
        let list = origins(&list);
        for meant in ["https://app.example.com", "http://h:5173", "https://h"] {
            assert!(list.contains(meant.as_bytes()), "{meant}");
        }
        for other in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.example",
            "https://evil.example/https://app.example.com",
            "https://xapp.example.com",
            "https://a@app.example.com",
            "http://h",
            "http://h:51730",
            "null",
            "",
            "app.example.com",
            "https://app.example.com, https://app.example.com",
        ] {
            assert!(!list.contains(other.as_bytes()), "{other}");
        }
        assert!(!list.contains(b"https://\xff"));
    }

    #[test]
    fn a_star_stands_for_hosts_below_for_ports_or_for_all() {
        let list = origins(&[
            "https://*.example.com",
            "http://h:*",
            "vscode-webview://*.vscode",
        ]);
        for meant in [
            "https://a.example.com",
            "https://a.b.example.com",
            "http://h",
            "http://h:1",
            "vscode-webview://x1.vscode",
        ] {
            assert!(list.contains(meant.as_bytes()), "{meant}");
        }
        for other in [
            "https://example.com",
            "https://.example.com",
            "https://evilexample.com",
            "https://a.example.com:1",
            "https://h",
        ] {
            assert!(!list.contains(other.as_bytes()), "{other}");
        }
        let all = origins(&["https://a", "*"]);
        assert!(all.is_any() && all.contains(b"null") && all.contains(b"\xff"));
    }

    #[test]
    fn pages_of_this_machine_are_those_that_nobody_can_name_as_his() {
        let loopback = Origins::loopback();
        for meant in [
            "http://localhost",
            "https://localhost:6274",
            "http://app.localhost:1",
            "http://127.0.0.1:8080",
            "http://127.1.2.3",
            "http://[::1]:3000",
        ] {
            assert!(loopback.contains(meant.as_bytes()), "{meant}");
        }
        for other in [
            "http://localhost.evil.example",
            "http://evillocalhost",
            "http://127.0.0.1.evil.example",
            "http://[::2]",
            "http://10.0.0.1",
            "ftp://localhost",
            "null",
        ] {
            assert!(!loopback.contains(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_no_origin() {
        for bad in [
            "",
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/mcp",
            "https://",
            "://h",
            "https://h:*:1",
            "https://h:1:*",
            "https://h:x",
            "https://*",
            "https://a.*.b",
            "https://[::1",
            "https://ä.example.com",
            "Loopback",
        ] {
            assert_eq!(bad.parse::<Pattern>(), Err(InvalidOrigin), "{bad:?}");
        }
    }

    #[test]
    fn a_list_is_shown_as_it_is_written() {
        let list = [
            "https://*.example.com",
            "http://h:5173",
            "http://h:*",
            "loopback",
            "null",
            "*",
        ];
        assert_eq!(origins(&list).to_string(), format!("{list:?}"));
    }
}
