//! What is no fault of a configuration, and what an operator should know all the same.

use std::collections::HashMap;

use super::{AffinityKey, Limits, Pool};
use crate::{
    identity::{Source, trusted::Trusted},
    pin::Keys,
};

/// The notes about a whole configuration.
pub(super) fn of(pools: &[Pool], keys: &Keys) -> Vec<String> {
    let mut notes: Vec<String> = pools.iter().flat_map(of_pool).collect();
    notes.extend(pools.iter().filter_map(of_local));
    notes.extend(pools.iter().filter_map(of_binding));
    if keys.accept_zero() {
        notes.push(
            "pins without a secret are accepted: anybody who reaches pinring, also through a proxy before it, can \
             make a pin for any backend; see affinity.secrets"
                .to_owned(),
        );
    }
    notes
}

/// A note about trust that leaves nobody to distrust: then the client is whoever the leftmost address says, which
/// clients make up.
pub(super) fn of_trust(trusted: &Trusted) -> Option<String> {
    let all = trusted
        .networks()
        .iter()
        .any(|network| network.prefix_len() == 0);
    all.then(|| {
        "server.trusted_proxies has a network of all addresses: clients can make up where they come from, and what \
         header:NAME says of them; list your proxies alone"
            .to_owned()
    })
}

/// A note about a principal that is there for nothing.
pub(super) fn of_principal(
    principal: Option<&Source>,
    limits: &Limits,
    pools: &[Pool],
) -> Option<String> {
    let mut keys = pools.iter().flat_map(|pool| &pool.stateless_affinity);
    let is_used = limits.sessions_per_principal.is_some()
        || keys.any(|key| matches!(key, AffinityKey::Principal(_)));
    (principal.is_some() && !is_used).then(|| {
        "limits.principal is there without limits.sessions_per_principal: nothing is counted by it".to_owned()
    })
}

/// The time of switching binding on has an end.
fn of_binding(pool: &Pool) -> Option<String> {
    let name = &pool.name;
    (pool.bind.is_some() && pool.accept_unbound).then(|| {
        format!(
            "accept_unbound is on in pool {name}: whoever steals an id that was issued before bind can use it; remove \
             accept_unbound when those sessions have ended, after session_idle"
        )
    })
}

/// It may be there later, and until then all goes elsewhere.
fn of_local(pool: &Pool) -> Option<String> {
    let local = pool.local.as_ref()?;
    // Among those that a name stands for it may be found later.
    let found = !pool.services.is_empty() || pool.backends.iter().any(|backend| local.is(backend));
    let text = local.as_str();
    (!found).then(|| {
        format!("no backend of pool {} has the name or the host of `local`, which is \"{text}\": none is local", pool.name)
    })
}

/// One address under several names works, but is placed on as if it were several replicas.
fn of_pool(pool: &Pool) -> Vec<String> {
    let mut first: HashMap<String, &str> = HashMap::new();
    let mut notes = Vec::new();
    for backend in &pool.backends {
        let name = backend.name.as_str();
        let address = backend.endpoint.to_string();
        match first.get(&address) {
            Some(earlier) => notes.push(format!(
                "backends \"{earlier}\" and \"{name}\" of pool {} have one address, {}: it gets the new work of both",
                pool.name, address
            )),
            None => {
                first.insert(address, name);
            }
        }
    }
    notes
}
