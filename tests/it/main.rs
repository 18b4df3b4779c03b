//! The real binary, driven over real sockets: every promise about bytes on the wire.
//!
//! One binary for all of them links faster than ten. Real SDK servers and clients are in `tests/sdk`.

#![allow(
    clippy::unwrap_used,
    reason = "what the tests are built from panics too where something is not as it must be"
)]

mod activation;
mod admin;
mod bodies;
mod body_memory;
mod carriers;
mod commands;
mod desync;
mod discovery;
mod drain;
mod edge;
mod endpoint;
mod failures;
mod forgotten;
mod forwarding;
mod health;
mod http2;
mod http2_upstream;
mod identity;
mod knowing;
mod limits;
mod listen;
mod log_levels;
mod logs;
mod long_answers;
mod message_ids;
mod metrics;
mod misuse;
mod names;
mod pages;
mod partitions;
mod placement;
mod pools;
mod probes;
mod proxies;
mod reinitialize;
mod reload;
mod sessions;
mod shutdown;
mod soak;
mod stateless;
mod status;
mod streams;
mod support;
mod takeover;
mod tasks;
mod threads;
mod tls;
mod tracing;
