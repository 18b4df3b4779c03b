//! `[store]`: where handshakes are kept for `on_loss = "reinitialize"`.

use redis::{ConnectionAddr, IntoConnectionInfo as _};

use super::{
    Store, StoreUrl,
    section::{Found, Section},
};

/// More sessions than one proxy of a large installation has at one time; 11 to 24 MiB when full.
const DEFAULT_SESSIONS: usize = 100_000;

const RIGHT: &str = "write \"memory\", or a URL such as \"redis://127.0.0.1:6379\"";

pub(super) fn read(section: Section<'_>) -> Store {
    let url = section.string("url").and_then(|found| match found.value {
        "memory" => Some(StoreUrl::Memory),
        _ => redis(&section, found).map(StoreUrl::Redis),
    });
    let sessions = section.integer("sessions", 1..=10_000_000);
    let store = Store {
        url: url.unwrap_or(StoreUrl::Memory),
        sessions: sessions.map_or(DEFAULT_SESSIONS, |sessions| sessions as usize),
    };
    section.finish();
    store
}

fn redis(section: &Section<'_>, found: Found<&str>) -> Option<String> {
    let problem = match found.value.split_once("://") {
        Some(("redis", _)) => match found.value.into_connection_info() {
            Ok(info) if matches!(info.addr(), ConnectionAddr::Tcp(..)) => {
                return Some(found.value.to_owned());
            }
            Ok(_) | Err(_) => "no address of a Redis server",
        },
        Some(("rediss", _)) => "TLS to the store is not yet supported by this version",
        Some(_) | None => "no store",
    };
    let message = format!("{problem}; {RIGHT}");
    section.report().push(found.spot.fault(message));
    None
}
