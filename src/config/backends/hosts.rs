//! Where host names lead: to several replicas, or back to pinring.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::backend::{Endpoint, Host};

/// The addresses of a host that has several of one family. One of each is one dual-stack replica.
pub(super) fn replicas(addresses: &BTreeSet<IpAddr>) -> Option<Vec<IpAddr>> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|address| address.is_ipv4());
    [v4, v6].into_iter().find(|family| family.len() > 1)
}

/// Whether who connects to `address` reaches a socket bound to `own`, their ports being the same.
///
/// Which other addresses this machine has is not known here: of an unspecified `own`, only loopback counts.
pub(in crate::config) fn is_reached_at(own: SocketAddr, address: IpAddr) -> bool {
    let address = match address.to_canonical() {
        // The kernel connects "any address" to loopback.
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    match own.ip().to_canonical() {
        IpAddr::V4(any) if any.is_unspecified() => address.is_ipv4() && address.is_loopback(),
        // "[::]" is bound to IPv4 too.
        IpAddr::V6(any) if any.is_unspecified() => address.is_loopback(),
        own => own == address,
    }
}

/// The fault of such a host. `paste` writes the entry of one URL.
pub(super) fn several(
    endpoint: &Endpoint,
    host: &str,
    replicas: &[IpAddr],
    paste: &dyn Fn(&str) -> String,
) -> String {
    let list: Vec<String> = replicas.iter().map(IpAddr::to_string).collect();
    let mut message = format!(
        "{host} resolves to {} addresses: {}; a backend is one replica. Let pinring find them, and follow the changes:\n    {}\n\
         or write one entry for each address:",
        replicas.len(),
        list.join(", "),
        paste(&format!("dns+{}", endpoint.url())),
    );
    for address in replicas {
        let address = Endpoint {
            host: Host::Ip(*address),
            ..endpoint.clone()
        };
        message.push_str(&format!("\n    {}", paste(&address.url())));
    }
    message
}
