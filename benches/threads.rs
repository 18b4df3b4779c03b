//! A single-threaded runtime on each of two threads beside one multi-threaded runtime on both: with few connections and
//! many, and with a thread that a long stream keeps busy.
//!
//! ```sh
//! cargo bench --bench threads    # about three minutes
//! PINRING_BIN=target/release/pinring cargo bench --bench threads -- --rounds 3 --seconds 0.5
//! ```
//!
//! What is compared is a relay of messages, the same code in both ways: pinring itself runs in one of them alone. With
//! PINRING_BIN that binary is measured too, with one thread and with two, and with PINRING_BEFORE another one with two. All take
//! turns, and share two cores with load and replica: only ratios of one run mean anything. Needs Linux, and taskset.

#[path = "peers/backend.rs"]
mod backend;
#[path = "peers/load.rs"]
mod load;
#[path = "peers/poller.rs"]
mod poller;
#[path = "peers/process.rs"]
#[expect(dead_code, reason = "memory is measured beside other proxies")]
mod process;
#[path = "threads/relay.rs"]
mod relay;
#[path = "peers/role.rs"]
#[expect(
    dead_code,
    reason = "streams of events are measured beside other proxies"
)]
mod role;
#[path = "threads/subject.rs"]
mod subject;
#[path = "peers/table.rs"]
mod table;
#[path = "peers/wire.rs"]
mod wire;

use std::{
    iter,
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use load::{Kind, LONG, Outcome, Plan};
use relay::Way;
use role::Load;
use subject::Subject;
use table::Table;

/// Of a relay.
const THREADS: usize = 2;

/// All have the same, on any machine.
const CORES: &str = "0,1";
const CORES_OF_LOAD: &str = CORES;

/// What stands for a proxy's own work on a call, in nanoseconds.
const WORK: f64 = 5_000.0;

/// Connections that call as fast as they can.
const CONNECTIONS: [usize; 3] = [2, 4, 64];

/// Connections of which is counted how they spread, how often, and for how many seconds they call. Or they come so far
/// apart, and do not call.
const SPREAD: [usize; 4] = [2, 4, 8, 64];
const SPREADS: usize = 10;
const SPREAD_FOR: f64 = 0.1;
const APART: Duration = Duration::from_millis(1);

/// Connections that call at a rate, and the rate: a thread has time for all of them.
const QUIET: (usize, f64) = (16, 2_000.0);

/// So many calls at a time are made on a connection of their own each.
const CLOSING: [usize; 2] = [1, 16];

/// A stream begins, and ends, so much later than the calls beside it.
const LATER: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let relayed = match words.as_slice() {
        ["--role", "own", backend, rounds] => Some((Way::Own, backend, rounds)),
        ["--role", "shared", backend, rounds] => Some((Way::Shared, backend, rounds)),
        _ => None,
    };
    let relayed = relayed.map(|(way, backend, rounds)| {
        relay::serve(way, role::parsed(backend), role::parsed(rounds))
    });
    if let Some(played) = relayed.or_else(|| role::play(&words)) {
        return role::exit_code(played);
    }
    let number = |name| {
        let given = words.windows(2).find(|pair| pair[0] == name)?;
        Some(given[1].parse::<f64>().expect("a number"))
    };
    let rounds = number("--rounds").unwrap_or(5.0) as usize;
    run(rounds, number("--seconds").unwrap_or(1.0));
    ExitCode::SUCCESS
}

fn run(rounds: usize, seconds: f64) {
    let folder = tempfile::tempdir().expect("a folder");
    let (_replicas, backends) = role::backends();
    let mut subjects = subjects(backends[0], folder.path());
    let ratios = [
        ("own", "shared"),
        ("pinring 2", "pinring 1"),
        ("pinring 2", "before 2"),
    ];
    let is_there = |name: &str| subjects.iter().any(|subject| subject.name == name);
    let ratios = ratios.into_iter().filter(|(name, _)| is_there(name));
    let mut run = Run {
        seconds,
        table: Table::new(
            subjects.iter().map(|subject| subject.name).collect(),
            ratios.collect(),
        ),
    };
    for connections in SPREAD {
        for subject in subjects.iter_mut().filter(|subject| subject.threads > 1) {
            run.spread(subject, connections);
            run.arrive(subject, connections);
        }
    }
    for _ in 0..rounds {
        for subject in &subjects {
            run.round(subject);
        }
    }
    println!();
    run.table.print();
}

/// The ways of threading, and pinring if it is given.
fn subjects(backend: SocketAddr, folder: &std::path::Path) -> Vec<Subject> {
    let rounds = rounds_of_work();
    println!("{rounds} rounds of hashing stand for a call's own work");
    let mut subjects = vec![
        Subject::relay("own", backend, rounds),
        Subject::relay("shared", backend, rounds),
    ];
    for (name, variable, threads) in [
        ("pinring 1", "PINRING_BIN", 1),
        ("pinring 2", "PINRING_BIN", 2),
        ("before 2", "PINRING_BEFORE", 2),
    ] {
        if let Ok(program) = std::env::var(variable) {
            subjects.push(Subject::pinring(name, &program, threads, backend, folder));
        }
    }
    subjects
}

/// As much work for each relay as takes its time here, when nothing disturbs it.
fn rounds_of_work() -> u32 {
    const TRIED: u32 = 20_000;
    let tried = iter::repeat_with(|| {
        let began = Instant::now();
        relay::work(TRIED);
        began.elapsed().as_nanos() as f64 / f64::from(TRIED)
    });
    let one = tried.take(10).fold(f64::INFINITY, f64::min);
    (WORK / one).ceil() as u32
}

struct Run {
    seconds: f64,
    table: Table,
}

impl Run {
    /// How work comes to threads, and to the relay's connections, which all came at once.
    fn spread(&mut self, subject: &mut Subject, connections: usize) {
        let mut told = Vec::new();
        let share = iter::repeat_with(|| {
            let mut load = Load::calls(subject.proxy.address, plan(connections, SPREAD_FOR, None));
            let before = subject.proxy.cpu_of_threads();
            load.begin();
            told.extend(subject.open(connections));
            load.outcome().expect_right(subject.name);
            let after = subject.proxy.cpu_of_threads();
            let spent = |(id, spent)| spent - before.get(id).unwrap_or(&0);
            share(after.iter().map(spent))
        });
        let shares: Vec<f64> = share.take(SPREADS).collect();
        let what = format!("the busier thread's share of CPU, {connections} connections, %");
        self.shares(subject, &what, &shares);
        self.connections(
            subject,
            &format!("{connections} connections at once"),
            &told,
        );
    }

    /// How connections come to threads one after the other.
    fn arrive(&mut self, subject: &mut Subject, connections: usize) {
        let told = iter::repeat_with(|| {
            let connect = || {
                thread::sleep(APART);
                TcpStream::connect(subject.proxy.address).expect("it listens")
            };
            let _clients: Vec<_> = iter::repeat_with(connect).take(connections).collect();
            subject.open(connections)
        });
        let told: Vec<Vec<u64>> = told.take(SPREADS).flatten().collect();
        let what = format!("{connections} connections {} ms apart", APART.as_millis());
        self.connections(subject, &what, &told);
    }

    fn connections(&mut self, subject: &Subject, what: &str, told: &[Vec<u64>]) {
        if told.is_empty() {
            return; // it is not told on which thread they are
        }
        println!("{}, on each thread of {what}: {told:?}", subject.name);
        let shares = told.iter().map(|open| share(open.iter().copied()));
        let what = format!("the fuller thread's share of {what}, %");
        self.shares(subject, &what, &shares.collect::<Vec<_>>());
    }

    /// Means say more here than medians: of two connections a thread has either one or both.
    fn shares(&mut self, subject: &Subject, what: &str, shares: &[f64]) {
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        let worst = shares.iter().copied().fold(0.0, f64::max);
        self.note(subject, &format!("{what}: mean of {SPREADS}"), mean);
        self.note(subject, &format!("{what}: worst of {SPREADS}"), worst);
    }

    fn round(&mut self, subject: &Subject) {
        for connections in CONNECTIONS {
            let with = format!("{connections} connections");
            let (cpu, outcome) = calls(subject, plan(connections, self.seconds, None));
            let rate = outcome.done as f64 / outcome.seconds;
            self.note(subject, &format!("CPU per call, {with}, µs"), cpu);
            self.note(subject, &format!("calls per second, {with}"), rate);
            self.latency(subject, &with, &outcome);
        }
        let (connections, rate) = QUIET;
        let with = format!("{connections} connections at {rate}/s");
        let plan = plan(connections, self.seconds, Some(rate));
        let (cpu, outcome) = calls(subject, plan);
        self.note(subject, &format!("CPU per call, {with}, µs"), cpu);
        self.latency(subject, &with, &outcome);
        self.beside(subject, plan, &format!("{with} beside a stream"));
        if subject.is_pinring() {
            self.closing(subject);
        }
    }

    /// Calls on connections of their own.
    fn closing(&mut self, subject: &Subject) {
        for connections in CLOSING {
            let with = format!("{connections} at a time on new connections");
            let plan = Plan {
                kind: Kind::Closing,
                ..plan(connections, self.seconds, None)
            };
            let (cpu, outcome) = calls(subject, plan);
            self.note(subject, &format!("CPU per call, {with}, µs"), cpu);
            self.latency(subject, &with, &outcome);
        }
    }

    /// Calls while one connection takes long answers as fast as it can.
    fn beside(&mut self, subject: &Subject, plan: Plan, with: &str) {
        let stream = Plan {
            kind: Kind::Long,
            connections: 1,
            seconds: self.seconds,
            rate: None,
            calls: None,
        };
        let mut stream = Load::calls(subject.proxy.address, stream);
        let mut calls = Load::calls(subject.proxy.address, plan);
        calls.begin();
        thread::sleep(LATER); // those who have connected already cannot choose the other thread
        stream.begin();
        let outcome = calls.outcome();
        outcome.expect_right(subject.name);
        self.latency(subject, with, &outcome);
        let outcome = stream.outcome();
        outcome.expect_right(subject.name);
        let rate = outcome.done as f64 * LONG as f64 / 1e6 / outcome.seconds;
        self.note(subject, "that stream, MB/s", rate);
    }

    fn latency(&mut self, subject: &Subject, with: &str, outcome: &Outcome) {
        self.note(subject, &format!("p50, {with}, µs"), outcome.p50);
        self.note(subject, &format!("p99, {with}, µs"), outcome.p99);
    }

    fn note(&mut self, subject: &Subject, what: &str, figure: f64) {
        self.table.note(what, subject.name, figure);
    }
}

const fn plan(connections: usize, seconds: f64, rate: Option<f64>) -> Plan {
    Plan {
        kind: Kind::Pinned,
        connections,
        seconds,
        rate,
        calls: None,
    }
}

/// Of the most in all, in percent.
fn share(figures: impl Iterator<Item = u64> + Clone) -> f64 {
    let most = figures.clone().max().unwrap_or(0);
    100.0 * most as f64 / figures.sum::<u64>() as f64
}

/// CPU of a call in microseconds, and what came of all.
fn calls(subject: &Subject, plan: Plan) -> (f64, Outcome) {
    let mut load = Load::calls(subject.proxy.address, plan);
    let before = subject.proxy.cpu();
    let outcome = load.run();
    let cpu = (subject.proxy.cpu() - before) as f64 / 1000.0;
    outcome.expect_right(subject.name);
    (cpu / outcome.done as f64, outcome)
}
