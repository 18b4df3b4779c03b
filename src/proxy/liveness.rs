//! What connections to both sides are made with: their time-outs, and what the kernel watches for.

use std::time::Duration;

use crate::{net::Liveness, router::table::RoutingTable, upstream::Options};

/// What connections to backends are made with.
pub(super) fn options(table: &RoutingTable) -> Options {
    Options {
        connect: table.timeouts.connect,
        keep_alive: table.timeouts.upstream_keep_alive,
        // No silence but an idle connection's: a request is the only thing that is sent.
        liveness: liveness(table, table.timeouts.upstream_keep_alive),
        header_bytes: table.limits.header_bytes,
        headers: table.limits.headers,
        pings: pings(table),
    }
}

/// TCP notices who is gone, for a ping is something to be acknowledged. Its answer comes from the server's own loop,
/// which a tool may hold up: that has the time of a call, as in HTTP/1.1.
fn pings(table: &RoutingTable) -> Option<(Duration, Duration)> {
    let timeouts = &table.timeouts;
    let patience = timeouts
        .response_head
        .max(timeouts.tcp_user_timeout.unwrap_or_default());
    timeouts.tcp_keep_alive.map(|silence| (silence, patience))
}

/// What the kernel watches for on the side of clients. Their streams are silent until a comment, or a probe.
#[must_use]
pub fn client_liveness(table: &RoutingTable) -> Liveness {
    let timeouts = &table.timeouts;
    let silence = [timeouts.stream_comment, timeouts.tcp_keep_alive];
    liveness(
        table,
        silence.into_iter().flatten().min().unwrap_or_default(),
    )
}

fn liveness(table: &RoutingTable, silence: Duration) -> Liveness {
    let timeouts = &table.timeouts;
    Liveness::new(timeouts.tcp_keep_alive, timeouts.tcp_user_timeout, silence)
}
