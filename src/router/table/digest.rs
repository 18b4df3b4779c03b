//! Digests by which operators see whether all proxies agree: about the backends, and about the keys.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::{Pool, Standing};
use crate::pin::Keys;

/// Bytes that are shown: by chance two configurations are taken for one once in four thousand million times.
const SHOWN: usize = 4;

pub(super) fn of_ring(pools: &[Pool]) -> String {
    let mut names: Vec<(&str, &str)> = Vec::new();
    for pool in pools {
        let listed = pool.entries().iter();
        let listed = listed.filter(|entry| entry.standing != Standing::Departed);
        let of_pool = |name| (pool.options.name.as_str(), name);
        names.extend(listed.map(|entry| of_pool(entry.backend.name.as_str())));
    }
    names.sort_unstable();
    let mut hash = Sha256::new();
    for (pool, name) in names {
        for text in [pool, name] {
            hash.update(text);
            hash.update([0]); // in no name
        }
    }
    shown(&hash.finalize())
}

pub(super) fn of_keys(keys: &Keys) -> String {
    let mut hash = Sha256::new();
    for mark in keys.marks() {
        hash.update(mark);
    }
    shown(&hash.finalize())
}

fn shown(digest: &[u8]) -> String {
    digest
        .iter()
        .take(SHOWN)
        .fold(String::new(), |mut text, byte| {
            let _ok = write!(text, "{byte:02x}"); // writing to a string cannot fail
            text
        })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::router::{membership::Membership, table::RoutingTable, testing::pool_of};

    fn table(names: &[&str], more: &str) -> RoutingTable {
        let config = pool_of(names, more);
        let mut membership = Membership::new();
        membership.update(&config, None, Instant::now());
        membership.table(&config)
    }

    #[test]
    fn the_order_of_backends_does_not_count_and_their_names_do() {
        let digest = |names: &[&str]| table(names, "").ring_digest();
        assert_eq!(digest(&["a", "b"]), digest(&["b", "a"]));
        assert_ne!(digest(&["a", "b"]), digest(&["a", "c"]));
        assert_ne!(digest(&["a", "b"]), digest(&["a"]));
        assert_eq!(digest(&["a"]).len(), 8);
    }

    #[test]
    fn keys_and_their_order_count() {
        let digest = |list: &str| {
            let more = format!("[affinity]\nsecrets = [{list}]");
            table(&["a"], &more).keys_digest()
        };
        let all = [
            digest(""),
            digest("\"env:SECRET\""),
            digest("\"env:SECRET\", \"none\""),
            digest("\"none\", \"env:SECRET\""),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(
                all.iter().skip(index + 1).all(|other| one != other),
                "{all:?}"
            );
        }
    }
}
