//! A difference in words, for the log.

use std::fmt;

use super::{Change, Diff, KeysChange};
use crate::pin::KeyId;

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, old, new } = self;
        write!(f, "{key} {old} → {new}")
    }
}

impl fmt::Display for KeysChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &[KeyId]| {
            let ids: Vec<String> = ids.iter().map(KeyId::to_string).collect();
            ids.join(", ")
        };
        write!(f, "keys {} → {}", list(&self.old), list(&self.new))
    }
}

/// One line: `pools added: b; backends removed: a; timeouts.drain 20s → 30s`, or `nothing`.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let mut list = |what: &str, names: Vec<&str>| {
            if !names.is_empty() {
                parts.push(format!("{what}: {}", names.join(", ")));
            }
        };
        list("needs a restart", self.restart.clone());
        list(
            "pools added",
            self.pools_added.iter().map(String::as_str).collect(),
        );
        list(
            "pools removed",
            self.pools_removed.iter().map(String::as_str).collect(),
        );
        list(
            "backends added",
            self.backends_added.iter().map(String::as_str).collect(),
        );
        list(
            "backends removed",
            self.backends_removed.iter().map(String::as_str).collect(),
        );
        let changes = self.backends_changed.iter().chain(&self.options);
        parts.extend(changes.map(Change::to_string));
        parts.extend(self.keys.iter().map(KeysChange::to_string));
        if parts.is_empty() {
            return f.write_str("nothing");
        }
        f.write_str(&parts.join("; "))
    }
}
