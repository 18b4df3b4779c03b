//! `[discovery]`: whom to ask for the addresses of DNS names that stand for backends, and how often.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    check::{DAY, SECOND},
    section::Section,
};

/// `[discovery]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// The DNS servers; empty: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// The least time between two questions for one name, however soon an answer expires.
    pub min_interval: Duration,
    /// The longest, however late it does.
    pub max_interval: Duration,
    /// For an answer.
    pub timeout: Duration,
}

/// Soon enough for answers that are good for no time at all, and no burden to a DNS server.
const DEFAULT_MIN_INTERVAL: Duration = SECOND;
/// Who has records that are good for longer may still add a replica.
const DEFAULT_MAX_INTERVAL: Duration = Duration::from_secs(60);
/// As resolv.conf's own default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

const DNS_PORT: u16 = 53;

pub(super) fn read(section: Section<'_>) -> Discovery {
    let interval = |key, default| {
        let found = section.duration(key, Duration::from_millis(100)..=DAY);
        found.unwrap_or(default)
    };
    let min_interval = interval("min_interval", DEFAULT_MIN_INTERVAL);
    let max_interval = interval("max_interval", DEFAULT_MAX_INTERVAL.max(min_interval));
    if max_interval < min_interval {
        let message = "is less than min_interval; write more, or a smaller min_interval";
        section.refuse("max_interval", message);
    }
    let timeout = section.duration(
        "timeout",
        Duration::from_millis(100)..=Duration::from_secs(60),
    );
    let discovery = Discovery {
        servers: servers(&section),
        min_interval,
        max_interval,
        timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
    };
    section.finish();
    discovery
}

fn servers(section: &Section<'_>) -> Vec<SocketAddr> {
    let list = section.strings("servers").map(|found| found.value);
    let servers = list.unwrap_or_default().into_iter().filter_map(|found| {
        let with_port = found.value.parse::<SocketAddr>();
        let parsed = with_port.or_else(|_| {
            let address = found.value.parse::<IpAddr>();
            address.map(|address| SocketAddr::new(address, DNS_PORT))
        });
        if parsed.is_err() {
            let message = "write the IP address of a DNS server, with a port or without, as \"10.96.0.10\" or \"127.0.0.1:5353\"";
            section.report().push(found.spot.fault(message));
        }
        parsed.ok()
    });
    servers.collect()
}
