//! Backends that speak HTTP/2: what they see, and what clients are told of those that break.

mod broken;
mod closing;
mod frames;
mod parts;
mod pressure;
mod server;
mod settings;
mod streams;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use self::server::{Call, Server};
use crate::support::{
    Authority, Backend, Chunk, Client, ONE_THREAD, Pinring, Relay, eventually, request,
};

/// One pool of these addresses, named a, b, c …, that speak HTTP/2, with one thread and further keys.
fn pool(addresses: &[SocketAddr], more: &str) -> String {
    let entry = |(name, address): (char, &SocketAddr)| {
        format!("{{ name = \"{name}\", url = \"http://{address}\" }}")
    };
    let entries: Vec<String> = ('a'..).zip(addresses).map(entry).collect();
    let server = if more.contains("[server]") {
        ""
    } else {
        ONE_THREAD
    };
    let pool = if more.contains("[pool]") {
        more.replacen("[pool]", "[pool]\nhttp2 = true", 1)
    } else {
        format!("[pool]\nhttp2 = true\n{more}")
    };
    format!("backends = [{}]\n{server}\n{pool}", entries.join(", "))
}

fn before(addresses: &[SocketAddr], more: &str) -> Pinring {
    Pinring::start(&pool(addresses, more))
}
