//! What a reload would change: which of it needs a restart, and the rest in words for the log.
//!
//! Pure. The order of pools and of backends means nothing and is no change.

mod text;

use std::collections::BTreeMap;

use super::{
    Config, Listen, Pool, Server, Store,
    listing::{Listing, description, of_process, options, service},
};
use crate::pin::KeyId;

/// The difference between two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Key paths that changed and that only a restart can change. Where there are any, the new
    /// configuration must not be taken.
    pub restart: Vec<&'static str>,
    /// Options that changed, pools' options among them.
    pub options: Vec<Change>,
    /// The keys before and after, where they changed.
    pub keys: Option<KeysChange>,
    /// Names of pools that are new.
    pub pools_added: Vec<String>,
    /// Names of pools that are gone.
    pub pools_removed: Vec<String>,
    /// Backends that are new, and URLs that stand for several.
    pub backends_added: Vec<String>,
    /// Backends and such URLs that are gone.
    pub backends_removed: Vec<String>,
    /// What changed about backends that stay, keys being `NAME.url` and the like.
    pub backends_changed: Vec<Change>,
}

/// One value before and after, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key path.
    pub key: String,
    /// The value before.
    pub old: String,
    /// The value after.
    pub new: String,
}

/// Ids of all keys before and after, the signing one first. Equal lists mean that a secret was
/// replaced by another of the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysChange {
    /// Before.
    pub old: Vec<KeyId>,
    /// After.
    pub new: Vec<KeyId>,
}

impl Diff {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Compares the configuration that runs with another.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Diff {
    let mut diff = Diff {
        restart: restart(old, new),
        keys: keys(old, new),
        ..Diff::default()
    };
    changes("", of_process(old), of_process(new), &mut diff.options);
    diff.options.extend(token(&old.server, &new.server));
    pools(old, new, &mut diff);
    backends(old, new, &mut diff);
    diff
}

/// Sockets, threads, the watcher, the form of the log and the store are made once, at the start.
fn restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let Server {
        listen,
        admin,
        threads,
        watch,
        probes,
        admin_token: _, // these need none
        allowed_origins: _,
        trusted_proxies: _,
        proxy_protocol: _,
    } = &old.server;
    let format = old.log.format;
    let Store { url, sessions } = &old.store;
    let export = |config: &Config| {
        config
            .tracing
            .as_ref()
            .and_then(|tracing| tracing.export.clone())
    };
    let sorted = |listen: &[Listen]| {
        let mut addresses = listen.to_vec();
        addresses.sort_unstable();
        addresses
    };
    [
        (
            "server.listen",
            sorted(listen) == sorted(&new.server.listen),
        ),
        ("server.admin", admin.places().eq(new.server.admin.places())),
        ("server.probes", probes.address == new.server.probes.address),
        ("server.threads", *threads == new.server.threads),
        ("server.watch", *watch == new.server.watch),
        ("log.format", format == new.log.format),
        ("tracing.otlp", export(old) == export(new)),
        ("store.url", *url == new.store.url),
        ("store.sessions", *sessions == new.store.sessions),
    ]
    .into_iter()
    .filter_map(|(key, same)| (!same).then_some(key))
    .collect()
}

fn keys(old: &Config, new: &Config) -> Option<KeysChange> {
    // No secret at all and "none" alone are the same zero key.
    let same = old.secrets == new.secrets
        || (old.secrets.len().max(new.secrets.len()) <= 1
            && old.keys.accept_zero()
            && new.keys.accept_zero());
    (!same).then(|| KeysChange {
        old: old.keys.ids().collect(),
        new: new.keys.ids().collect(),
    })
}

/// A token is not to be seen.
fn token(old: &Server, new: &Server) -> Option<Change> {
    let (old, new) = (&old.admin_token, &new.admin_token);
    let shown = |is_there| if is_there { "one" } else { "none" }.to_owned();
    (old != new).then(|| Change {
        key: "server.admin_token".to_owned(),
        old: shown(old.is_some()),
        new: match (old, new) {
            (Some(_), Some(_)) => "another".to_owned(),
            (_, new) => shown(new.is_some()),
        },
    })
}

/// Puts what differs between two listings of the same keys into `into`.
fn changes(
    prefix: &str,
    old: impl IntoIterator<Item = (&'static str, String)>,
    new: impl IntoIterator<Item = (&'static str, String)>,
    into: &mut Vec<Change>,
) {
    for ((key, old), (_, new)) in old.into_iter().zip(new) {
        if old != new {
            let key = format!("{prefix}{key}");
            into.push(Change { key, old, new });
        }
    }
}

fn pools(old: &Config, new: &Config, diff: &mut Diff) {
    let by_name = |config: &Config| -> BTreeMap<String, Pool> {
        let pools = config.pools.iter();
        pools
            .map(|pool| (pool.name.clone(), pool.clone()))
            .collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    for (name, before) in &old {
        match new.get(name) {
            Some(after) => {
                let prefix = format!("pools.{name}.");
                changes(&prefix, options(before), options(after), &mut diff.options);
            }
            None => diff.pools_removed.push(name.clone()),
        }
    }
    let added = new.into_keys().filter(|name| !old.contains_key(name));
    diff.pools_added.extend(added);
}

fn backends(old: &Config, new: &Config, diff: &mut Diff) {
    let by_name = |config: &Config| -> BTreeMap<String, Listing> {
        let of_pool = |pool: &Pool| {
            let backends = pool.backends.iter();
            let backends =
                backends.map(|backend| (backend.name.to_string(), description(pool, backend)));
            let services = pool.services.iter();
            let services = services.map(|entry| (entry.url.to_string(), service(pool, entry)));
            backends.chain(services).collect::<Vec<_>>()
        };
        config.pools.iter().flat_map(of_pool).collect()
    };
    let (mut old, new) = (by_name(old), by_name(new));
    for (name, after) in new {
        match old.remove(&name) {
            Some(before) => {
                changes(
                    &format!("{name}."),
                    before,
                    after,
                    &mut diff.backends_changed,
                );
            }
            None => diff.backends_added.push(name),
        }
    }
    diff.backends_removed.extend(old.into_keys());
}

#[cfg(test)]
mod tests;
