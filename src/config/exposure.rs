//! What of a running process nothing protects: said at the start in one line, and whenever somebody asks.

use std::net::SocketAddr;

use super::{Admin, AdminPlace, Config, Listen};
use crate::backend::Scheme;

/// Each in a few words; empty where there is nothing to say. `listen` and `admin` are where it really listens.
#[must_use]
pub fn unprotected(config: &Config, listen: &[Listen], admin: &[AdminPlace]) -> Vec<String> {
    let mut found = Vec::new();
    if config.keys.accept_zero() {
        found.push("pins without a secret".to_owned());
    }
    let clear = |listen: &&Listen| listen.scheme == Scheme::Http && is_public(&listen.address);
    for listen in listen.iter().filter(clear) {
        found.push(format!("cleartext at {}", listen.address));
    }
    if config.server.allowed_origins.is_any() {
        found.push("web pages of every origin".to_owned());
    }
    for place in admin {
        match place {
            AdminPlace::Tcp(address) if is_public(address) => {
                found.push(format!("whoever reaches {address} reads the status"));
            }
            AdminPlace::Tcp(_) | AdminPlace::Unix(_) => {}
        }
    }
    found
}

/// Where others than this machine can connect.
pub(super) fn is_public(address: &SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

/// A note about an admin listener that is for more than this machine.
pub(super) fn of_admin(admin: &Admin) -> Option<String> {
    let address = admin.tcp.filter(is_public)?;
    Some(format!(
        "whoever can connect to {address} can read how pinring stands, the names and addresses of all backends among it: \
         let nobody else reach server.admin, or write \"127.0.0.1:{}\"",
        address.port()
    ))
}
