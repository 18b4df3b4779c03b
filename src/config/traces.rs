//! `[tracing]`: which requests become spans, and where those go.
//!
//! What OpenTelemetry's variables say stands in for what the file does not, as in any of its SDKs.

use std::fmt;

use http::{HeaderName, HeaderValue, Uri, uri::PathAndQuery};

use super::{
    check::World,
    fault::{Place, Spot},
    section::{Found, Section},
    tls::{SystemRoots, Upstream},
    word,
};
use crate::backend::{Endpoint, Scheme, Url};

/// What the spans are told to be of, where nobody says otherwise.
const DEFAULT_SERVICE: &str = "pinring";

/// Where spans are taken below a collector's address (OTLP specification, "OTLP/HTTP Request").
const TRACES: &str = "/v1/traces";

const ENDPOINT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_VARIABLE: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const SERVICE_VARIABLE: &str = "OTEL_SERVICE_NAME";
const ATTRIBUTES_VARIABLE: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// `[tracing]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// Which requests become spans.
    pub sampling: Sampling,
    /// Where spans go; `None`: contexts are passed on, and nothing is recorded.
    pub export: Option<Export>,
}

/// Which requests become spans.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// The share of those that begin a trace: 0 to 1.
    pub share: f32,
    /// Whose traces are gone on with.
    pub trust: TraceTrust,
}

/// Whose traces are gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceTrust {
    /// Everybody's.
    Anyone,
    /// Those of the proxies in front; others' requests begin traces.
    TrustedProxies,
}

impl TraceTrust {
    const WORDS: [(&'static str, Self); 2] = [
        ("anyone", Self::Anyone),
        ("trusted-proxies", Self::TrustedProxies),
    ];
}

impl fmt::Display for TraceTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(&Self::WORDS, self))
    }
}

/// Where spans go, and what is said beside them. `Debug` hides the headers: they may hold a token.
#[derive(Clone, PartialEq)]
pub struct Export {
    /// The collector.
    pub endpoint: Endpoint,
    /// Its whole URL.
    pub url: Uri,
    /// Sent along.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What the spans are of; `None`: the environment says it.
    pub service: Option<String>,
    /// What more is said of the process.
    pub attributes: Vec<(String, String)>,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Export").field(&self.url).finish()
    }
}

/// Reads the section; `None` where there is none, and the environment names no collector either.
pub(super) fn read(section: Section<'_>, world: &dyn World) -> Option<Tracing> {
    let variable = |name: &str| {
        let value = world.env(name)?.into_string().ok()?;
        Some(value).filter(|value| !value.is_empty())
    };
    let written = section
        .string("otlp")
        .filter(|found| !found.value.is_empty());
    let collector = match written {
        Some(Found { value, spot }) => collector(value, TRACES, &spot, &section, world),
        None if section.has("otlp") || is_switched_off(variable) => None,
        None => [(TRACES_VARIABLE, ""), (ENDPOINT_VARIABLE, TRACES)]
            .into_iter()
            .find_map(|(name, path)| Some((name, path, variable(name)?)))
            .and_then(|(name, path, value)| {
                let spot = Spot {
                    place: Place::Outside,
                    key: name.to_owned(),
                    value: None,
                };
                collector(&value, path, &spot, &section, world)
            }),
    };
    let attributes = pairs(
        &section,
        "attributes",
        "deployment.environment.name=production",
    );
    let headers = headers(&section, world);
    let of_environment = variable(SERVICE_VARIABLE).is_some()
        || variable(ATTRIBUTES_VARIABLE).is_some_and(|list| list.contains("service.name="));
    let service = section
        .string("service")
        .map(|found| found.value.to_owned());
    let service = service.or((!of_environment).then(|| DEFAULT_SERVICE.to_owned()));
    let sampling = Sampling {
        share: section.share("sample").unwrap_or(1.0),
        trust: section
            .choice("trust", &TraceTrust::WORDS)
            .unwrap_or(TraceTrust::Anyone),
    };
    let is_wanted = section.exists() || collector.is_some();
    section.finish();
    let export = collector.map(|(endpoint, url)| Export {
        endpoint,
        url,
        headers,
        service,
        attributes,
    });
    is_wanted.then_some(Tracing { sampling, export })
}

/// Whether the environment wants no spans.
fn is_switched_off(variable: impl Fn(&str) -> Option<String>) -> bool {
    variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none")
}

/// Where the collector is: `text`, with `path` below it.
fn collector(
    text: &str,
    path: &str,
    spot: &Spot,
    section: &Section<'_>,
    world: &dyn World,
) -> Option<(Endpoint, Uri)> {
    let refuse = |problem: &str| {
        let message = format!(
            "{problem}; write the collector's address for OTLP over HTTP, such as \"http://127.0.0.1:4318\""
        );
        section.report().push(spot.clone().fault(message));
        None
    };
    let Ok(uri) = text.parse::<Uri>() else {
        return refuse("no URL");
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return refuse("no URL with scheme and host");
    };
    let Url {
        scheme,
        mut endpoint,
    } = match format!("{scheme}://{authority}").parse::<Url>() {
        Ok(url) => url,
        Err(error) => return refuse(&error.to_string()),
    };
    let is_bare = uri.port_u16().is_none();
    if is_bare {
        return refuse("no port");
    }
    if endpoint.port.get() == 4317 {
        return refuse("4317 is the port of OTLP over gRPC, which is not spoken here");
    }
    if scheme == Scheme::Https {
        let system = SystemRoots::new(world);
        let tls = Upstream::of_system(section.report(), &system, spot);
        endpoint.tls = tls.to(&endpoint.host, spot);
        if endpoint.tls.is_none() {
            return refuse("no certificate can be for this host");
        }
    }
    let base = uri.path().trim_end_matches('/');
    let target: PathAndQuery = format!("{base}{path}").parse().ok()?;
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(target);
    Some((endpoint, Uri::from_parts(parts).ok()?))
}

/// A list of `NAME=VALUE`.
fn pairs(section: &Section<'_>, key: &'static str, example: &str) -> Vec<(String, String)> {
    let list = section.strings(key).into_iter().flat_map(|list| list.value);
    list.filter_map(|found| match found.value.split_once('=') {
        Some((name, value)) if !name.is_empty() => Some((name.to_owned(), value.to_owned())),
        Some(_) | None => {
            let spot = Spot {
                value: None, // it may be a secret
                ..found.spot
            };
            let message = format!("write NAME=VALUE, such as \"{example}\"");
            section.report().push(spot.fault(message));
            None
        }
    })
    .collect()
}

/// The headers, whose values may stand in a variable.
fn headers(section: &Section<'_>, world: &dyn World) -> Vec<(HeaderName, HeaderValue)> {
    const KEY: &str = "headers";
    let mut headers = Vec::new();
    for (name, value) in pairs(section, KEY, "Authorization=env:OTLP_AUTHORIZATION") {
        let value = match value.trim().strip_prefix("env:") {
            Some(variable) => world
                .env(variable)
                .and_then(|value| value.into_string().ok()),
            None => Some(value),
        };
        let name = name.trim().parse::<HeaderName>().ok();
        let value = value.and_then(|value| HeaderValue::try_from(value.trim()).ok());
        match (name, value) {
            (Some(name), Some(mut value)) => {
                value.set_sensitive(true);
                headers.push((name, value));
            }
            (None, _) => {
                section.refuse(KEY, "holds what is no header's name before an equals sign")
            }
            (_, None) => section.refuse(
                KEY,
                "holds a value that no header can have, or names a variable that is not set",
            ),
        }
    }
    headers
}
