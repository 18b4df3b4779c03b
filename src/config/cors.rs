//! `[cors]`: which pages of other origins a browser lets read answers, and what they may send.

use std::{collections::BTreeSet, time::Duration};

use http::{HeaderName, HeaderValue, Method};

use super::{
    Origins,
    check::{DAY, SECOND},
    origins,
    section::Section,
};

/// What clients of any revision ask with: calls and OAuth's forms, streams, the end of a session.
const METHODS: &str = "GET, POST, DELETE";

/// What they send: the headers of every revision, and what HTTP needs. `Mcp-Param-*` (2026-07-28, Streamable HTTP,
/// "Custom Headers from Tool Parameters") has no end, so these are allowed as they are asked for.
const HEADERS: &str = "Accept, Authorization, Content-Type, Last-Event-ID, Mcp-Method, Mcp-Name, MCP-Protocol-Version, \
                       Mcp-Session-Id";

/// What a page is to read of an answer's head: its session, where to log in, when to come again, and what became of
/// its session. A browser shows it little else (Fetch, "CORS-safelisted response-header name").
const EXPOSED: &str =
    "Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, Retry-After, Pinring-Session";

/// As long as Chromium remembers at most (Firefox: a day), for a change reaches nobody sooner.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(2 * 3600);

/// What pinring says for its backends about pages of other origins. Header values are complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Whose pages may read answers.
    pub origins: Origins,
    /// `Access-Control-Allow-Methods`.
    pub methods: HeaderValue,
    /// `Access-Control-Allow-Headers`, but for `Mcp-Param-*`.
    pub headers: HeaderValue,
    /// `Access-Control-Expose-Headers`.
    pub exposed: HeaderValue,
    /// `Access-Control-Max-Age`: how long a browser need not ask again, in seconds.
    pub max_age: HeaderValue,
    /// Whether cookies may come along, and answers to them be read.
    pub credentials: bool,
    /// Whether pages of the public Internet may ask where pinring is in a private network.
    pub private_network: bool,
}

/// Reads the section; `None` where there is none. `allowed` are the origins that may ask at all.
pub(super) fn read(section: Section<'_>, allowed: &Origins) -> Option<Cors> {
    let by_default = || {
        if allowed.is_any() {
            Origins::loopback()
        } else {
            allowed.clone()
        }
    };
    let max_age = section.duration_or_zero("max_age", SECOND..=DAY, "to be asked each time");
    let max_age = max_age.map_or(DEFAULT_MAX_AGE, Option::unwrap_or_default);
    let cors = Cors {
        origins: origins::read(&section, "origins").unwrap_or_else(by_default),
        methods: names(
            &section,
            "methods",
            METHODS,
            "a method, such as \"PUT\"",
            |text| {
                let is_upper = !text.bytes().any(|byte| byte.is_ascii_lowercase());
                is_upper && Method::from_bytes(text.as_bytes()).is_ok()
            },
        ),
        headers: header_names(&section, "headers", HEADERS),
        exposed: header_names(&section, "exposed_headers", EXPOSED),
        max_age: max_age.as_secs().into(),
        credentials: section.bool("credentials").unwrap_or(false),
        private_network: section.bool("private_network").unwrap_or(false),
    };
    if cors.credentials && cors.origins.is_any() {
        let message = "with origins = [\"*\"] every page on the Internet could ask with its visitor's cookies; name the \
                       origins, or leave credentials out";
        section.refuse("credentials", message);
    }
    let exists = section.exists();
    section.finish();
    exists.then_some(cors)
}

fn header_names(section: &Section<'_>, key: &'static str, known: &str) -> HeaderValue {
    names(
        section,
        key,
        known,
        "a header's name, such as \"X-Tenant\"",
        |text| HeaderName::from_bytes(text.as_bytes()).is_ok(),
    )
}

/// The names that are always there, and those that the file adds.
fn names(
    section: &Section<'_>,
    key: &'static str,
    known: &str,
    right: &str,
    is_name: impl Fn(&str) -> bool,
) -> HeaderValue {
    let mut seen: BTreeSet<String> = known.split(", ").map(str::to_ascii_lowercase).collect();
    let mut all = known.to_owned();
    for found in section.strings(key).into_iter().flat_map(|list| list.value) {
        if !is_name(found.value) {
            section
                .report()
                .push(found.spot.fault(format!("write {right}")));
        } else if seen.insert(found.value.to_ascii_lowercase()) {
            all.push_str(", ");
            all.push_str(found.value);
        }
    }
    HeaderValue::try_from(all).expect("names of methods and headers are visible ASCII")
}
