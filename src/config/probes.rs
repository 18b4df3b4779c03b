//! Where probes ask how this process is: `server.probes`, `server.probes_drain` and `server.health_path`.

use std::net::SocketAddr;

use super::{Pool, path::PathPrefix, section::Section};

/// Where probes ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probes {
    /// The listener of their own.
    pub address: Option<SocketAddr>,
    /// Whether a server's container may have its own backend drained there. A reload can change it.
    pub drain: bool,
    /// The path on the traffic port that is this process's own. A reload can change it.
    pub health_path: Option<PathPrefix>,
}

pub(super) fn read(section: &Section<'_>) -> Probes {
    let given = |key| section.string(key).filter(|found| !found.value.is_empty());
    let address = given("probes").and_then(|found| {
        let address = found.value.parse().ok();
        if address.is_none() {
            let message = "write IP and port, such as \"0.0.0.0:9902\", or \"\" for none";
            section.report().push(found.spot.fault(message));
        }
        address
    });
    let drain = section.bool("probes_drain").unwrap_or(false);
    if drain && !section.has("probes") {
        section.refuse(
            "probes_drain",
            "where? Write probes = \"0.0.0.0:9902\" beside it",
        );
    }
    let health_path = given("health_path").and_then(|found| {
        let path = PathPrefix::try_new(found.value);
        let path = path.ok().filter(|path| *path != PathPrefix::root());
        if path.is_none() {
            let message = "write a whole path that no server behind has, such as \"/pinring-health\", or \"\" for none";
            section.report().push(found.spot.fault(message));
        }
        path
    });
    Probes {
        address,
        drain,
        health_path,
    }
}

/// A note about a drain that has nothing to drain.
pub(super) fn note(probes: &Probes, pools: &[Pool]) -> Option<String> {
    let none = pools.iter().all(|pool| pool.local.is_none());
    (probes.drain && none).then(|| {
        "server.probes_drain is on, and no pool says which backend is `local`: /drain has nothing to drain".to_owned()
    })
}
