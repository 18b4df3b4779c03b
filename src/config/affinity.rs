//! `stateless_affinity`: what of a request without a session decides where it goes.

use std::fmt;

use http::HeaderName;

use super::section::Section;
use crate::identity::Source;

/// The headers that clients mirror the parameters of a call in whose schema says `x-mcp-header` (2026-07-28,
/// Streamable HTTP, "Custom Headers from Tool Parameters").
const PARAM: &str = "mcp-param-";

const WORDS: &str = "write \"param:NAME\", \"header:NAME\", \"principal\" or \"client-ip\"";

/// A part of a request by which it is placed, if it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AffinityKey {
    /// A header.
    Header(HeaderName),
    /// Who asks, as `limits.principal` has it.
    Principal(Source),
    /// The address that the request comes from.
    ClientIp,
}

impl fmt::Display for AffinityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => match name.as_str().strip_prefix(PARAM) {
                Some(param) => write!(f, "param:{param}"),
                None => write!(f, "header:{name}"),
            },
            Self::Principal(source) => write!(f, "principal ({source})"),
            Self::ClientIp => f.write_str("client-ip"),
        }
    }
}

/// Reads the list. `principal` is what the file says of principals elsewhere.
pub(super) fn read(section: &Section<'_>, principal: Option<&Source>) -> Vec<AffinityKey> {
    let listed = section.strings("stateless_affinity");
    let found = listed.into_iter().flat_map(|list| list.value);
    found
        .filter_map(|found| match key(found.value, principal) {
            Ok(key) => Some(key),
            Err(message) => {
                section.report().push(found.spot.fault(message));
                None
            }
        })
        .collect()
}

fn key(text: &str, principal: Option<&Source>) -> Result<AffinityKey, &'static str> {
    let header = |name: String| HeaderName::try_from(name).map(AffinityKey::Header);
    match text.split_once(':') {
        None if text == "client-ip" => Ok(AffinityKey::ClientIp),
        None if text == "principal" => principal.cloned().map(AffinityKey::Principal).ok_or(
            "who is one principal? Write principal = \"jwt:sub\" under [limits], or another claim of the client's token",
        ),
        Some(("param", name)) if !name.is_empty() => {
            header(format!("{PARAM}{name}")).map_err(|_| "no part of a header's name; write the name that `x-mcp-header` gives")
        }
        Some(("header", name)) => header(name.to_owned()).map_err(|_| "no header has such a name"),
        Some(_) | None => Err(WORDS),
    }
}
