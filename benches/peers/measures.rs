//! What is measured, in rounds in which all proxies take turns.

use std::{net::SocketAddr, process::ExitCode};

use crate::{
    load::{self, Kind, Outcome, Plan},
    peers::Peer,
    process::Proxy,
    role::{Load, backends},
    table::Table,
};

const CONNECTIONS: usize = 64;

/// Clients that open a connection for each call, as programs with the Python SDK do: so many at a time.
const CLOSING: usize = 16;

const RATE: f64 = 5_000.0;

/// Streams with events, and the milliseconds between two of one.
const LIVELY: (usize, u64) = (100, 20);

/// Idle streams: so many at first, and so many more, which are what is counted.
const IDLE: [usize; 2] = [2_000, 6_000];

const GROUPS: [&str; 8] = [
    "calls",
    "rate",
    "initialize",
    "modern",
    "sse",
    "long",
    "closing",
    "memory",
];

struct Settings {
    groups: Vec<String>,
    rounds: usize,
    seconds: f64,
}

/// Measures what `words` name, all without any.
pub(crate) fn run(words: &[&str]) -> ExitCode {
    let settings = match settings(words) {
        Ok(settings) => settings,
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::from(64);
        }
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (replicas, backends) = backends();
    let mut run = Run {
        settings,
        table: Table::new(
            Peer::ALL.map(Peer::name).to_vec(),
            vec![("pinring", "haproxy"), ("pinring", "nginx")],
        ),
        faults: Vec::new(),
    };
    if run.wants("memory") {
        for peer in Peer::ALL {
            run.memory(peer, &backends, folder.path());
        }
    }
    let proxies = Peer::ALL.map(|peer| (peer, peer.start(&backends, folder.path())));
    for round in 0..=run.settings.rounds {
        let is_counted = round > 0; // the first one warms up
        for (peer, proxy) in &proxies {
            run.round(*peer, proxy, backends[0], is_counted);
        }
    }
    drop(replicas);
    run.table.print();
    for fault in &run.faults {
        eprintln!("{fault}");
    }
    if run.faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn settings(words: &[&str]) -> Result<Settings, String> {
    let mut settings = Settings {
        groups: Vec::new(),
        rounds: 5,
        seconds: 2.0,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().copied().unwrap_or_default();
            text.parse::<f64>()
                .map_err(|_| format!("{word} wants a number"))
        };
        match *word {
            "--bench" => {} // cargo says so
            "--rounds" => settings.rounds = number()? as usize,
            "--seconds" => settings.seconds = number()?,
            group if GROUPS.contains(&group) => settings.groups.push(group.to_owned()),
            other => {
                let groups = GROUPS.join(", ");
                return Err(format!(
                    "{other:?} is not known; there are {groups}, --rounds N, --seconds N"
                ));
            }
        }
    }
    Ok(settings)
}

struct Run {
    settings: Settings,
    table: Table,
    faults: Vec<String>,
}

impl Run {
    fn wants(&self, group: &str) -> bool {
        let groups = &self.settings.groups;
        groups.is_empty() || groups.iter().any(|wanted| wanted == group)
    }

    fn round(&mut self, peer: Peer, proxy: &Proxy, direct: SocketAddr, is_counted: bool) {
        let calls = [
            ("calls", Kind::Pinned, "CPU per pinned call, µs"),
            ("initialize", Kind::Initialize, "CPU per initialize, µs"),
            ("modern", Kind::Modern, "CPU per modern call, µs"),
        ];
        for (group, kind, what) in calls {
            if self.wants(group) {
                let (cpu, outcome) = self.calls(peer, proxy, self.plan(kind, CONNECTIONS, None));
                self.note(is_counted, what, peer, cpu / outcome.done as f64);
                if kind == Kind::Pinned {
                    let rate = outcome.done as f64 / outcome.seconds;
                    self.note(is_counted, "pinned calls per second", peer, rate);
                }
            }
        }
        if self.wants("rate") {
            let plan = self.plan(Kind::Pinned, CONNECTIONS, Some(RATE));
            let (_, outcome) = self.calls(peer, proxy, plan);
            let bare = Load::calls(direct, plan).result();
            self.note(
                is_counted,
                "added latency at 5,000/s, p50, µs",
                peer,
                outcome.p50 - bare.p50,
            );
            self.note(is_counted, "latency at 5,000/s, p50, µs", peer, outcome.p50);
            self.note(is_counted, "latency at 5,000/s, p99, µs", peer, outcome.p99);
        }
        if self.wants("closing") {
            let plan = self.plan(Kind::Closing, CLOSING, None);
            let (cpu, outcome) = self.calls(peer, proxy, plan);
            let what = "CPU per call on a connection of its own, closed early, µs";
            self.note(is_counted, what, peer, cpu / outcome.done as f64);
        }
        if self.wants("long") {
            let (cpu, outcome) = self.calls(peer, proxy, self.plan(Kind::Long, 8, None));
            let megabytes = outcome.done as f64 * load::LONG as f64 / 1e6;
            self.note(
                is_counted,
                "CPU per MB of long answers, µs",
                peer,
                cpu / megabytes,
            );
            self.note(
                is_counted,
                "long answers, MB/s",
                peer,
                megabytes / outcome.seconds,
            );
        }
        if self.wants("sse") {
            self.events(peer, proxy, is_counted);
        }
    }

    fn events(&mut self, peer: Peer, proxy: &Proxy, is_counted: bool) {
        let (count, every) = LIVELY;
        let mut load = Load::streams(proxy.address, count, every, self.settings.seconds);
        let before = proxy.cpu();
        let outcome = load.run();
        let cpu = (proxy.cpu() - before) as f64 / 1000.0;
        self.check(peer, "events", &outcome);
        self.note(
            is_counted,
            "CPU per SSE event, µs",
            peer,
            cpu / outcome.done as f64,
        );
        self.note(
            is_counted,
            "latency of an SSE event, p50, µs",
            peer,
            outcome.p50,
        );
        self.note(
            is_counted,
            "latency of an SSE event, p99, µs",
            peer,
            outcome.p99,
        );
    }

    /// A process of its own: what it had before does not count.
    fn memory(&mut self, peer: Peer, backends: &[SocketAddr], folder: &std::path::Path) {
        let proxy = peer.start(backends, folder);
        self.table
            .note("idle, MiB", peer.name(), proxy.pss() as f64 / 1024.0);
        let warm = Load::streams(proxy.address, 10, 0, 0.1).result();
        self.check(peer, "idle streams", &warm);
        // The first stay open: HAProxy keeps streams for a while that their clients have left.
        let mut open = Vec::new();
        let [few, many] = IDLE.map(|count| {
            let mut load = Load::streams(proxy.address, count, 0, 0.5);
            let outcome = load.run();
            self.check(peer, "idle streams", &outcome);
            open.push(load);
            proxy.pss()
        });
        let kib = (many as f64 - few as f64) / IDLE[1] as f64;
        self.table.note("KiB per idle stream", peer.name(), kib);
    }

    const fn plan(&self, kind: Kind, connections: usize, rate: Option<f64>) -> Plan {
        Plan {
            kind,
            connections,
            seconds: self.settings.seconds,
            rate,
            calls: None,
        }
    }

    /// CPU of the proxy in microseconds, and what came of it.
    fn calls(&mut self, peer: Peer, proxy: &Proxy, plan: Plan) -> (f64, Outcome) {
        let mut load = Load::calls(proxy.address, plan);
        let before = proxy.cpu();
        let outcome = load.run();
        let cpu = (proxy.cpu() - before) as f64 / 1000.0;
        self.check(peer, &format!("{:?}", plan.kind), &outcome);
        (cpu, outcome)
    }

    fn check(&mut self, peer: Peer, what: &str, outcome: &Outcome) {
        let Outcome {
            done,
            wrong,
            errors,
            ..
        } = outcome;
        if *errors > 0 || (*wrong > 0 && peer.is_right()) || *done == 0 && what != "idle streams" {
            let name = peer.name();
            self.faults.push(format!(
                "{name}: {what}: of {done} answers {wrong} came from a wrong replica, {errors} were errors"
            ));
        }
    }

    fn note(&mut self, is_counted: bool, what: &str, peer: Peer, figure: f64) {
        if is_counted {
            self.table.note(what, peer.name(), figure);
        }
    }
}
