//! Work for a profile (`config/pgo`): all that a proxy is asked, the pinned call most of all. Nothing is measured.

use std::process::ExitCode;

use crate::{
    load::{Kind, Plan},
    peers::Peer,
    role::{Load, backends},
};

/// How many of each, and over how many connections.
const CALLS: [(Kind, u64, usize); 5] = [
    (Kind::Pinned, 50_000, 64),
    (Kind::Modern, 15_000, 64),
    (Kind::Initialize, 5_000, 64),
    (Kind::Closing, 5_000, 16),
    (Kind::Long, 50, 8),
];

/// Streams, milliseconds between two events of one, and seconds.
const STREAMS: (usize, u64, f64) = (100, 10, 10.0);

/// Nothing takes so long, with counters and on a slow machine.
const PATIENCE: f64 = 300.0;

/// Lets pinring work, and end by itself: then it writes what it has counted.
pub(crate) fn run() -> ExitCode {
    let folder = tempfile::tempdir().expect("a folder");
    let (_replicas, backends) = backends();
    let proxy = Peer::Pinring.start(&backends, folder.path());
    for (kind, calls, connections) in CALLS {
        let plan = Plan {
            kind,
            connections,
            seconds: PATIENCE,
            rate: None,
            calls: Some(calls),
        };
        let outcome = Load::calls(proxy.address, plan).result();
        outcome.expect_right(&format!("{kind:?}"));
    }
    let (count, every, seconds) = STREAMS;
    let outcome = Load::streams(proxy.address, count, every, seconds).result();
    outcome.expect_right("events");
    proxy.end();
    ExitCode::SUCCESS
}
