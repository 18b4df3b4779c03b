//! From text to [`Config`]: reads every section with its defaults and ranges, and collects all faults.
//!
//! Pure: files, the environment, name resolution and the number of cores come in through [`World`].
//! A key of a later version is refused with "not yet", never silently accepted. `pools` and
//! `secrets` have the parts with rules of their own; how values are read is the business of `file`.

use std::{
    net::{IpAddr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use toml::de::DeTable;

pub use super::world::World;
use super::{
    Config, ConfigErrors, Limits, Listen, Origins, Overrides, PrincipalLimit, Server, Token,
    admin::{self, Admin},
    bind::{self, Identities},
    connections::{self, Fitting},
    cors, discovery, exposure,
    fault::Spot,
    file::{self, Report},
    log, notes, origins, pools, probes, secrets,
    section::Section,
    store, timeouts, tls, traces,
    units::format_size,
    world::Remembering,
};
use crate::{
    backend::Scheme,
    identity::{self, trusted::Trusted},
    pin::Keys,
};

/// Checks a whole configuration: the text of the file, empty if there is none, and what stands beside it.
///
/// # Errors
///
/// Every fault at once; where the text is no TOML, only that.
pub fn check(text: &str, overrides: &Overrides, world: &dyn World) -> Result<Config, ConfigErrors> {
    let table = file::parse(text).map_err(ConfigErrors::new)?;
    let report = Report::new(text);
    let config = read(report.root(&table), overrides, world);
    let faults = report.faults();
    if faults.is_empty() {
        Ok(config)
    } else {
        Err(ConfigErrors::new(faults))
    }
}

/// The keys of the secret that stands beside the file, where there is no file: the zero key without one.
///
/// # Errors
///
/// If the secret is too weak.
pub fn keys(overrides: &Overrides, world: &dyn World) -> Result<Keys, ConfigErrors> {
    let (report, nothing) = (Report::new(""), DeTable::new());
    let affinity = report.root(&nothing).table("affinity");
    let keys = secrets::read(&affinity, overrides.secret.as_ref(), world).keys;
    let faults = report.faults();
    if faults.is_empty() {
        Ok(keys)
    } else {
        Err(ConfigErrors::new(faults))
    }
}

/// `server.admin` alone, whatever else the text says.
///
/// # Errors
///
/// If the text is no TOML, or that key names no listener.
pub fn admin(text: &str) -> Result<Admin, ConfigErrors> {
    of_server(text, admin::read)
}

/// `server.admin_token` alone, whatever else the text says.
///
/// # Errors
///
/// If the text is no TOML, or the token cannot be read or used.
pub fn admin_token(text: &str, world: &dyn World) -> Result<Option<Token>, ConfigErrors> {
    of_server(text, |server| admin::token(server, world))
}

/// Where a process is asked whether it is ready, and by which path, whatever else the text says: see
/// [`Source::probed`](super::source::Source::probed).
///
/// # Errors
///
/// If the text is no TOML, or one of those keys is wrong.
pub fn probed(
    text: &str,
    overrides: &Overrides,
) -> Result<Option<(SocketAddr, String)>, ConfigErrors> {
    of_server(text, |server| {
        let probes = probes::read(server);
        if let Some(address) = probes.address {
            return Some((address, "/readyz".to_owned()));
        }
        let has_admin = admin::read(server).places().next().is_some();
        let path = probes.health_path.filter(|_| !has_admin)?;
        let mut listen = listen(server, overrides).into_iter();
        let clear = listen.find(|listen| listen.scheme == Scheme::Http)?;
        Some((clear.address, path.as_str().to_owned()))
    })
}

fn of_server<T>(text: &str, read: impl FnOnce(&Section<'_>) -> T) -> Result<T, ConfigErrors> {
    let table = file::parse(text).map_err(ConfigErrors::new)?;
    let report = Report::new(text);
    let found = read(&report.root(&table).table("server"));
    let faults = report.faults();
    if faults.is_empty() {
        Ok(found)
    } else {
        Err(ConfigErrors::new(faults))
    }
}

/// Reads everything. Where there was a fault, a default stands in, so that the reading can go on.
pub(super) fn read(root: Section<'_>, overrides: &Overrides, world: &dyn World) -> Config {
    let world = &Remembering::new(world);
    let affinity = root.table("affinity");
    let secrets = secrets::read(&affinity, overrides.secret.as_ref(), world);
    let mut server = server(root.table("server"), overrides, world);
    let cors = cors::read(root.table("cors"), &server.allowed_origins);
    if let Some(cors) = &cors {
        server.allowed_origins.extend(&cors.origins); // who may read what is answered may ask
    }
    let tls = tls::read(root.table("tls"), &server.listen, world);
    let limits_section = root.table("limits");
    let principal = principal(&limits_section, &server.trusted_proxies);
    let identities = Identities {
        principal: principal.as_ref(),
        trusted: &server.trusted_proxies,
        secrets: &secrets,
    };
    let pools = pools::read(
        &root,
        &affinity,
        &overrides.backends,
        &server.listen,
        identities,
        world,
    );
    let fitting = overrides
        .open_files
        .map(|open_files| Fitting::with(open_files, server.threads, &pools));
    let limits = limits(limits_section, principal.as_ref(), fitting);
    let mut notes = root.report().notes();
    notes.extend(notes::of_principal(principal.as_ref(), &limits, &pools));
    notes.extend(notes::of(&pools, &secrets.keys));
    notes.extend(notes::of_trust(&server.trusted_proxies));
    notes.extend(exposure::of_admin(&server.admin));
    notes.extend(probes::note(&server.probes, &pools));
    let config = Config {
        server,
        tls,
        timeouts: timeouts::read(root.table("timeouts")),
        limits,
        log: log::read(root.table("log")),
        tracing: traces::read(root.table("tracing"), world),
        store: store::read(root.table("store")),
        discovery: discovery::read(root.table("discovery")),
        cors: cors.map(Arc::new),
        pools,
        keys: secrets.keys,
        secrets: secrets.list,
        files: world.files(),
        chains: world.chains(),
        notes,
    };
    affinity.finish();
    root.finish();
    config
}

/// Loopback only: a proxy without a secret is not for every network.
const DEFAULT_LISTEN: Listen = Listen {
    address: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080),
    scheme: Scheme::Http,
};

/// More threads than this need to be asked for: in a pod, the cores of the whole machine are seen where
/// no limit is set.
const MOST_DEFAULT_THREADS: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not zero");

fn server(section: Section<'_>, overrides: &Overrides, world: &dyn World) -> Server {
    let listen = listen(&section, overrides);
    let threads = section
        .integer("threads", 1..=256)
        .and_then(|threads| NonZeroUsize::new(threads as usize));
    let (trusted_proxies, proxy_protocol) = bind::trusted_proxies(&section);
    let allowed_origins = origins::read(&section, "allowed_origins");
    let server = Server {
        allowed_origins: allowed_origins
            .unwrap_or_else(|| default_origins(section.report(), &listen)),
        listen,
        admin: admin::read(&section),
        admin_token: admin::token(&section, world),
        probes: probes::read(&section),
        threads: threads.unwrap_or_else(|| world.cores().min(MOST_DEFAULT_THREADS)),
        watch: section.bool("watch").unwrap_or(true),
        trusted_proxies,
        proxy_protocol,
    };
    section.finish();
    server
}

/// Where only this machine can connect, a page of another host can only be one that had its name lead here (DNS
/// rebinding). Elsewhere nothing tells it from those that are to ask.
fn default_origins(report: &Report<'_>, listen: &[Listen]) -> Origins {
    let is_loopback = |listen: &&Listen| listen.address.ip().to_canonical().is_loopback();
    let Some(address) = listen.iter().find(|address| !is_loopback(address)) else {
        return Origins::loopback();
    };
    report.note(format!(
        "pages of every origin may ask, since others than this machine can connect to {address}: only the servers' own \
         checks are left against DNS rebinding; see server.allowed_origins"
    ));
    Origins::any()
}

/// The listening addresses: those given outside the file, else the file's, else the default.
fn listen(section: &Section<'_>, overrides: &Overrides) -> Vec<Listen> {
    let report = section.report();
    let parse = |addresses: Vec<(&str, Spot)>| {
        let mut parsed: Vec<Listen> = Vec::new();
        for (text, spot) in addresses {
            match text.parse::<Listen>() {
                // Port 0 asks the kernel for a free one, so two of them do not collide.
                Ok(Listen { address, .. })
                    if address.port() != 0
                        && parsed.iter().any(|known| known.address == address) =>
                {
                    report.push(spot.fault("the address is in the list twice; remove one"));
                }
                Ok(listen) => parsed.push(listen),
                Err(_) => report.push(spot.fault(
                    "no address; write IP and port, such as \"127.0.0.1:8080\", or \"[::]:8080\" for all, with https:// before it for TLS",
                )),
            }
        }
        parsed
    };
    let file = section.one_or_more("listen").map(|list| {
        if list.value.is_empty() {
            report.push(list.spot.fault("write at least one address"));
        }
        parse(
            list.value
                .into_iter()
                .map(|found| (found.value, found.spot))
                .collect(),
        )
    });
    let given = &overrides.listen;
    if given.is_empty() {
        return file.unwrap_or_else(|| vec![DEFAULT_LISTEN]);
    }
    parse(
        given
            .iter()
            .map(|given| (given.value.as_str(), given.spot()))
            .collect(),
    )
}

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// The bounds of a delay that may be none at all.
pub(super) const UP_TO_A_DAY: RangeInclusive<Duration> = Duration::ZERO..=DAY;
/// The bounds of a time in which something must happen.
pub(super) const DEADLINE: RangeInclusive<Duration> = MILLISECOND..=WEEK;
/// Longer than this is a slip, or "for ever" where that can be said.
pub(super) const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// Room for large tokens and cookies; node's servers accept 16 KiB, nginx 4 × 8 KiB.
const DEFAULT_HEADER_BYTES: usize = 64 * 1024;
/// hyper panics with a read buffer of less than 8 KiB.
const HEADER_BYTES: RangeInclusive<usize> = 8 * 1024..=1024 * 1024;
/// A browser behind a few proxies sends 40. Up to the 100 that hyper has room for by itself, there is a clear answer.
const DEFAULT_HEADERS: usize = 80;
/// More than OAuth's redirects need (nginx: 8 KiB, HAProxy: 16 KiB with all else).
const DEFAULT_TARGET_BYTES: usize = 16 * 1024;
/// hyper takes no more than 65,534 bytes.
const TARGET_BYTES: RangeInclusive<usize> = 1024..=63 * 1024;
/// What RFC 9113, section 6.5.2, has for the least that does not hinder clients, and what most assume before they are told.
const DEFAULT_HTTP2_STREAMS: u32 = 100;
const HTTP2_STREAMS: RangeInclusive<u32> = 1..=10_000;
/// Most calls are below 10 KiB; what a tool is given as a file may be a few hundred.
const DEFAULT_REPLAY_BYTES: usize = 256 * 1024;
const REPLAY_BYTES: RangeInclusive<usize> = 1024..=16 * 1024 * 1024;
/// Four times what SDK servers accept (TypeScript, Ruby: 4 MiB), for those who raised it.
const DEFAULT_BODY_BYTES: usize = 16 * 1024 * 1024;
const BODY_BYTES: RangeInclusive<usize> = 1024..=1024 * 1024 * 1024;
/// Sixteen of the longest; ordinary calls are not counted.
const DEFAULT_BODY_BYTES_TOTAL: usize = 256 * 1024 * 1024;
const BODY_BYTES_TOTAL: RangeInclusive<usize> = 1024..=1024 * 1024 * 1024 * 1024;

/// The limits. `principal` is what makes a principal, be they counted or not; `fitting` connections can be had with the
/// descriptors of this process; `None`: any number.
fn limits(
    section: Section<'_>,
    principal: Option<&identity::Source>,
    fitting: Option<Fitting>,
) -> Limits {
    let count = |key, range, default| {
        let found = section.integer(key, range);
        found.map_or(default, |count| count as usize)
    };
    let body_bytes = section.size("body_bytes", BODY_BYTES);
    let body_bytes = body_bytes.unwrap_or(DEFAULT_BODY_BYTES);
    let limits = Limits {
        header_bytes: section
            .size("header_bytes", HEADER_BYTES)
            .unwrap_or(DEFAULT_HEADER_BYTES),
        headers: count("headers", 1..=1000, DEFAULT_HEADERS),
        target_bytes: section
            .size("target_bytes", TARGET_BYTES)
            .unwrap_or(DEFAULT_TARGET_BYTES),
        connections: connections::read(&section, fitting),
        connections_per_address: section
            .integer("connections_per_address", 0..=1_000_000)
            .and_then(|most| NonZeroUsize::new(most as usize)),
        http2_streams: section
            .integer("http2_streams", HTTP2_STREAMS)
            .unwrap_or(DEFAULT_HTTP2_STREAMS),
        sessions_per_backend: sessions(&section, "sessions_per_backend"),
        sessions_per_principal: per_principal(&section, principal.cloned()),
        replay_bytes: section
            .size("replay_bytes", REPLAY_BYTES)
            .unwrap_or(DEFAULT_REPLAY_BYTES),
        body_bytes,
        body_bytes_total: body_bytes_total(&section, body_bytes),
    };
    section.finish();
    limits
}

/// What all bodies together may have: at least as much as one.
fn body_bytes_total(section: &Section<'_>, of_one: usize) -> usize {
    const KEY: &str = "body_bytes_total";
    let default = DEFAULT_BODY_BYTES_TOTAL.max(of_one);
    let total = section.size(KEY, BODY_BYTES_TOTAL).unwrap_or(default);
    if total < of_one {
        let of_one = format_size(of_one);
        let message = format!(
            "is less than one request's body may have; write \"{of_one}\" or more, or a smaller limits.body_bytes"
        );
        section.refuse(KEY, &message);
    }
    total
}

/// A number of sessions, of which 0 is no limit.
fn sessions(section: &Section<'_>, key: &'static str) -> Option<NonZeroU32> {
    section.integer(key, 0..=u32::MAX).and_then(NonZeroU32::new)
}

/// What makes a principal, if the file says so.
fn principal(section: &Section<'_>, trusted: &Trusted) -> Option<identity::Source> {
    let found = section.string("principal")?;
    let refuse = |message: String| section.report().push(found.spot.clone().fault(message));
    Some(match found.value.parse::<identity::Source>() {
        Ok(source) => {
            if let Some(message) = bind::untrusted(&source, trusted) {
                refuse(message.to_owned());
            }
            source
        }
        Err(error) => {
            refuse(error.to_string());
            identity::Source::Address
        }
    })
}

fn per_principal(section: &Section<'_>, by: Option<identity::Source>) -> Option<PrincipalLimit> {
    const KEY: &str = "sessions_per_principal";
    let most = sessions(section, KEY)?;
    if !section.has("principal") {
        let message = "counts whose sessions? Write principal = \"jwt:sub\" beside it (or another claim of the \
                       client's token), or principal = \"address\"";
        section.refuse(KEY, message);
    }
    by.map(|by| PrincipalLimit { most, by })
}
