//! Pools: the options of `[pool]`, `[[pools]]` and `[affinity]`, what each pool matches, and the rules
//! that hold over all pools. Their backends are the business of `backends`.

use std::{collections::HashMap, time::Duration};

use super::{
    HostHeader, Listen, Match, OnLoss, PathPrefix, Pool, Unpinned, affinity,
    backends::{self, Backends, Listed},
    bind::{self, Identities},
    check::{SECOND, UP_TO_A_DAY, WEEK, World},
    fault::Spot,
    file::Report,
    listen, local,
    overrides::Given,
    section::Section,
    tls::{SystemRoots, Upstream},
};
use crate::{
    backend::{Host, Url},
    health::{InvalidStatuses, Patience, Statuses},
    identity::Source,
};

/// The fault of a file that has both.
const RING_AND_BIND: &str = "unpinned = \"ring\" would be a way around bind: who cuts the pin off a stolen id has an id \
                             without one. Leave unpinned out, or write \"reject\"";

/// The name of the one pool of a simple set-up.
const DEFAULT_POOL: &str = "default";

/// Other proxies learn of a new backend in this time, by DNS or a mounted file; until then they would
/// answer 404 to its pins.
const DEFAULT_JOIN_DELAY: Duration = Duration::from_secs(10);
/// As long as a rolling update may let an old pod finish.
const DEFAULT_DEPARTED: Duration = Duration::from_secs(15 * 60);
/// As long as another proxy may be ahead of this one: the kubelet brings a ConfigMap within a minute.
const DEFAULT_UNKNOWN_GRACE: Duration = Duration::from_secs(60);

/// Clients that are closed often send no DELETE; an hour is longer than most people pause.
const DEFAULT_SESSION_IDLE: Duration = Duration::from_secs(3600);

/// The options that may stand in `[affinity]` and in a pool; the pool's win.
#[derive(Debug, Clone)]
struct Affinity {
    /// The inner `None` is said.
    bind: Option<Option<Source>>,
    accept_unbound: Option<bool>,
    unpinned: Option<Unpinned>,
    on_loss: Option<OnLoss>,
    loss_after: Option<Duration>,
    unreachable_after: Option<Duration>,
    join_delay: Option<Duration>,
    departed: Option<Duration>,
    unknown_grace: Option<Duration>,
    session_idle: Option<Duration>,
}

impl Affinity {
    fn read(section: &Section<'_>, identities: Identities<'_>) -> Self {
        Self {
            bind: bind::read(section, identities),
            accept_unbound: section.bool("accept_unbound"),
            unpinned: section.choice("unpinned", &Unpinned::WORDS),
            on_loss: section.choice("on_loss", &OnLoss::WORDS),
            loss_after: section.duration("loss_after", UP_TO_A_DAY),
            unreachable_after: section.duration("unreachable_after", UP_TO_A_DAY),
            join_delay: section.duration("join_delay", UP_TO_A_DAY),
            departed: section.duration("departed", Duration::ZERO..=WEEK),
            unknown_grace: section.duration("unknown_grace", UP_TO_A_DAY),
            session_idle: section.duration("session_idle", SECOND..=WEEK),
        }
    }

    /// Whether ids without a pin would be a way around the binding: what stands before a stolen one is such an id.
    fn is_open(&self) -> bool {
        matches!(self.bind, Some(Some(_))) && self.unpinned == Some(Unpinned::Ring)
    }

    fn over(self, below: Self) -> Self {
        Self {
            bind: self.bind.or(below.bind),
            accept_unbound: self.accept_unbound.or(below.accept_unbound),
            unpinned: self.unpinned.or(below.unpinned),
            on_loss: self.on_loss.or(below.on_loss),
            loss_after: self.loss_after.or(below.loss_after),
            unreachable_after: self.unreachable_after.or(below.unreachable_after),
            join_delay: self.join_delay.or(below.join_delay),
            departed: self.departed.or(below.departed),
            unknown_grace: self.unknown_grace.or(below.unknown_grace),
            session_idle: self.session_idle.or(below.session_idle),
        }
    }
}

/// Reads all pools. `given` are the backends from outside the file, and `listen` is where pinring itself will be.
pub(super) fn read(
    root: &Section<'_>,
    affinity: &Section<'_>,
    given: &[Given],
    listen: &[Listen],
    identities: Identities<'_>,
    world: &dyn World,
) -> Vec<Pool> {
    let system = SystemRoots::new(world);
    let mut reader = Reader {
        report: root.report(),
        world,
        system: &system,
        defaults: Affinity::read(affinity, identities),
        identities,
        names: HashMap::new(),
        matches: Vec::new(),
    };
    if reader.defaults.is_open() {
        affinity.refuse("unpinned", RING_AND_BIND);
    }
    let single = root.table("pool");
    let listed = backends::tables(root);
    let pools = root.tables("pools", "{ name = \"…\", … }");
    let mut backends = Backends::new(root.report(), world, listen);
    refuse_mixtures(root, &single, given);
    if !root.has("pools") {
        if given.is_empty() && root.lacks("backends") {
            backends.refuse_none();
        }
        return vec![reader.one(single, listed, given, &mut backends)];
    }
    if given.is_empty() && root.lacks("pools") {
        backends.refuse_none();
    }
    let pools = pools.unwrap_or_default().into_iter();
    pools
        .map(|section| reader.several(section, &mut backends))
        .collect()
}

/// Two ways to say the same thing: whichever won, somebody would be surprised.
fn refuse_mixtures(root: &Section<'_>, single: &Section<'_>, given: &[Given]) {
    let (listed, pools) = (root.has("backends"), root.has("pools"));
    if pools && listed {
        let message = "stands beside [[pools]]; move each entry to [[pools.backends]] of its pool";
        root.refuse("backends", message);
    }
    if pools && single.exists() {
        let message = "stands beside [[pools]]; move its keys to the pools that they are for";
        root.refuse("pool", message);
    }
    if let (Some(first), true) = (given.first(), pools || listed) {
        let key = if pools { "pools" } else { "backends" };
        let message = format!("{} gives backends too; remove one of the two", first.label);
        root.refuse(key, &message);
    }
}

struct Reader<'a> {
    report: &'a Report<'a>,
    world: &'a dyn World,
    system: &'a SystemRoots<'a>,
    defaults: Affinity,
    identities: Identities<'a>,
    names: HashMap<String, Spot>,
    matches: Vec<(Match, Spot)>,
}

impl Reader<'_> {
    /// The one pool of the top-level `[[backends]]` or of the flags.
    fn one(
        &self,
        section: Section<'_>,
        listed: Option<Vec<Section<'_>>>,
        given: &[Given],
        backends: &mut Backends<'_>,
    ) -> Pool {
        let everything = Match {
            host: None,
            path: PathPrefix::root(),
        };
        let mut pool = self.options(&section, DEFAULT_POOL, everything);
        let tls = Upstream::read(section.table("tls"), self.world, self.system, pool.http2);
        section.finish();
        let (listed, given) = (
            backends.read(listed.unwrap_or_default(), "[[backends]]", &tls),
            backends.given(given, &tls),
        );
        pool.take(listed);
        pool.take(given);
        tls.finish();
        pool
    }

    /// One of `[[pools]]`.
    fn several(&mut self, section: Section<'_>, backends: &mut Backends<'_>) -> Pool {
        let name = self.name(&section);
        let matcher = self.matcher(section.table("match"));
        let mut pool = self.options(&section, &name, matcher);
        let listed = backends::tables(&section);
        if section.lacks("backends") {
            section.missing(
                "backends",
                "the pool has none; write [[pools.backends]] below it, with a url",
            );
        }
        let tls = Upstream::read(section.table("tls"), self.world, self.system, pool.http2);
        pool.take(backends.read(listed.unwrap_or_default(), "[[pools.backends]]", &tls));
        tls.finish();
        section.finish();
        pool
    }

    fn options(&self, section: &Section<'_>, name: &str, matcher: Match) -> Pool {
        let own = Affinity::read(section, self.identities);
        let (is_open, own_unpinned) = (own.is_open(), own.unpinned.is_some());
        let affinity = own.over(self.defaults.clone());
        if affinity.is_open() && (is_open || !self.defaults.is_open()) {
            let key = if own_unpinned { "unpinned" } else { "bind" };
            section.refuse(key, RING_AND_BIND);
        }
        let patience = Patience::default();
        let (placement, local) = local::read(section, self.world);
        let bind = affinity.bind.flatten();
        let by_keys = if self.identities.secrets.keys.accept_zero() && bind.is_none() {
            Unpinned::Ring
        } else {
            Unpinned::Reject // the ring would be a way around the tag
        };
        let read_bodies = section.bool("read_bodies").unwrap_or(true);
        Pool {
            name: name.to_owned(),
            strip_prefix: self.strip_prefix(section, &matcher.path),
            matcher,
            host: section
                .choice("host", &HostHeader::WORDS)
                .unwrap_or(HostHeader::Pass),
            http2: section.bool("http2").unwrap_or(false),
            unpinned: affinity.unpinned.unwrap_or(by_keys),
            bind,
            accept_unbound: affinity.accept_unbound.unwrap_or(false),
            join_delay: affinity.join_delay.unwrap_or(DEFAULT_JOIN_DELAY),
            departed: affinity.departed.unwrap_or(DEFAULT_DEPARTED),
            unknown_grace: affinity.unknown_grace.unwrap_or(DEFAULT_UNKNOWN_GRACE),
            patience: Patience {
                refused: affinity.loss_after.unwrap_or(patience.refused),
                unreachable: affinity.unreachable_after.unwrap_or(patience.unreachable),
            },
            on_loss: affinity.on_loss.unwrap_or(OnLoss::NotFound),
            session_idle: affinity.session_idle.unwrap_or(DEFAULT_SESSION_IDLE),
            normalize_lost_session: section.bool("normalize_lost_session").unwrap_or(false),
            stateless_affinity: affinity::read(section, self.identities.principal),
            read_bodies,
            listen_streams: listen::read(section, read_bodies),
            placement,
            local,
            probe_path: self.probe_path(section),
            probe_status: self.probe_status(section),
            backends: Vec::new(),
            services: Vec::new(),
            undiscovered: false,
        }
    }

    fn name(&mut self, section: &Section<'_>) -> String {
        let Some(found) = section.string("name") else {
            if !section.has("name") {
                section.missing("name", "is missing; write name = \"…\"");
            }
            return String::new();
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=255).contains(&found.value.len()) && found.value.bytes().all(allowed);
        if !fits {
            let message = "a pool's name is ASCII letters, digits, \".\", \"_\" and \"-\"";
            self.report.push(found.spot.fault(message));
        } else if let Some(first) = self.names.get(found.value) {
            let message = format!("the name is taken by {}; give another", first.reference());
            self.report.push(found.spot.fault(message));
        } else {
            self.names.insert(found.value.to_owned(), found.spot);
        }
        found.value.to_owned()
    }

    fn matcher(&mut self, section: Section<'_>) -> Match {
        let spot = section.spot().clone();
        let matcher = self.read_matcher(section);
        let same = self.matches.iter().find(|(known, _)| *known == matcher);
        if let Some((_, first)) = same {
            self.report.push(spot.fault(format!(
                "matches the same requests as {} ({matcher}); give one of them another host or path",
                first.reference()
            )));
        } else {
            self.matches.push((matcher.clone(), spot));
        }
        matcher
    }

    fn read_matcher(&self, section: Section<'_>) -> Match {
        let host = section.string("host").and_then(|found| {
            let host = canonical_host(found.value);
            if host.is_none() {
                let message = "write one host name or IP address, without scheme, port, path or \"*\"; leave it out for any host";
                self.report.push(found.spot.fault(message));
            }
            host
        });
        let path = self.path(&section, "path");
        section.finish();
        Match {
            host,
            path: path.map_or_else(PathPrefix::root, |(path, _)| path),
        }
    }

    fn strip_prefix(&self, section: &Section<'_>, matched: &PathPrefix) -> Option<PathPrefix> {
        let (strip, spot) = self.path(section, "strip_prefix")?;
        let applies = matched.strip(strip.as_str()).is_some();
        if !applies && strip.strip(matched.as_str()).is_none() {
            self.report.push(spot.fault(format!(
                "no path of this pool begins with it: they begin with \"{matched}\""
            )));
        }
        Some(strip)
    }

    /// What suspects are asked for: the target of a GET, with or without a query.
    fn probe_path(&self, section: &Section<'_>) -> Option<String> {
        let found = section
            .string("probe_path")
            .filter(|found| !found.value.is_empty())?;
        let target = found.value.parse::<http::uri::PathAndQuery>();
        if target.is_err() || !found.value.starts_with('/') {
            let message = "write the path of a GET that a healthy backend answers with probe_status, such as \"/healthz\"; not the MCP endpoint";
            self.report.push(found.spot.fault(message));
            return None;
        }
        Some(found.value.to_owned())
    }

    fn probe_status(&self, section: &Section<'_>) -> Statuses {
        let Some(found) = section.string("probe_status") else {
            return Statuses::default();
        };
        found
            .value
            .parse()
            .unwrap_or_else(|error: InvalidStatuses| {
                self.report.push(found.spot.fault(error.to_string()));
                Statuses::default()
            })
    }

    /// A path; an empty one is none.
    fn path(&self, section: &Section<'_>, key: &'static str) -> Option<(PathPrefix, Spot)> {
        let found = section
            .string(key)
            .filter(|found| !found.value.is_empty())?;
        match PathPrefix::try_new(found.value) {
            Ok(path) => Some((path, found.spot)),
            Err(error) => {
                self.report.push(found.spot.fault(error.to_string()));
                None
            }
        }
    }
}

impl Pool {
    fn take(&mut self, listed: Listed) {
        self.backends.extend(listed.backends);
        self.services.extend(listed.services);
        self.undiscovered = !self.services.is_empty();
    }
}

/// The host as requests are compared with it: lower case, no trailing dot, IPv6 in brackets.
fn canonical_host(host: &str) -> Option<String> {
    let bare_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.contains(['/', '*']) || (host.contains(':') && !bare_v6 && !bracketed) {
        return None;
    }
    let url = if bare_v6 {
        format!("http://[{host}]")
    } else {
        format!("http://{host}")
    };
    match url.parse::<Url>().ok()?.endpoint.host {
        Host::Dns(name) => Some(name.into()),
        Host::Ip(std::net::IpAddr::V4(address)) => Some(address.to_string()),
        Host::Ip(std::net::IpAddr::V6(address)) => Some(format!("[{address}]")),
    }
}
