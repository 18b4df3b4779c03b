//! Counts that do not depend on noise: what a pinned call and an event cost pinring in system calls, in instructions of
//! user space and in allocations. Each has a ceiling, and passing one fails the run.
//!
//! A process runs under strace or callgrind, through one load and, anew, through a longer one. What counts is the
//! difference, in which start, handshakes and end cancel out. Neither clock nor core matters.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, ExitCode},
};

use crate::{
    load::{Kind, Plan},
    peers::Peer,
    role::{Load, backends},
};

/// What a call or an event may cost at most. Counts of one binary repeat within half a percent: what is above by more than
/// a few percent was added, and a ceiling is lowered when something was taken out.
struct Ceiling {
    syscalls: f64,
    instructions: f64,
    allocations: f64,
}

/// A pinned call over a kept connection, of 64 at a time: two reads and two writes, and a share of waiting for all. A
/// release build took 40,200 instructions and 12 allocations, and 29,500 with a profile (`config/pgo`); the target is 25,000.
const CALL: Ceiling = Ceiling {
    syscalls: 4.2,
    instructions: 42_300.0,
    allocations: 12.6,
};

/// An event of one of 64 streams: a read, a write, at most one time of waiting, and the ticks. A release build took
/// 3,400 to 3,800 instructions: how many ticks fall to an event depends on the machine.
const EVENT: Ceiling = Ceiling {
    syscalls: 3.3,
    instructions: 4_100.0,
    allocations: 1.2,
};

const CONNECTIONS: usize = 64;

/// Calls in the shorter load and in the longer one.
const CALLS: [u64; 2] = [2_000, 6_000];

/// Seconds of listening, and the milliseconds between two events of one stream.
const SECONDS: [f64; 2] = [2.0, 6.0];
const EVERY: u64 = 50;

/// Nothing takes so long: the tools slow pinring down fifty times at most.
const PATIENCE: f64 = 300.0;

#[derive(Debug, Clone, Copy)]
enum Scenario {
    Call,
    Event,
}

#[derive(Debug, Clone, Copy)]
enum Tool {
    Strace,
    Callgrind,
}

/// Counts, and holds the counts to their ceilings.
pub(crate) fn run() -> ExitCode {
    if std::env::var_os("PINRING_COUNTS").is_some_and(|wish| wish == "skip") {
        eprintln!("PINRING_COUNTS=skip: nothing is counted, and no ceiling is held");
        return ExitCode::SUCCESS;
    }
    for mut probe in [
        strace(Path::new("/dev/null")),
        callgrind(Path::new("/dev/null")),
    ] {
        if let Err(fault) = try_out(&mut probe) {
            eprintln!(
                "{fault}\nPINRING_COUNTS=skip does without the counts where that cannot be helped"
            );
            return ExitCode::FAILURE;
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (_replicas, backends) = backends();
    let mut is_passed = false;
    println!("| | counted | ceiling |\n|---|---|---|");
    for (scenario, name, ceiling) in [
        (Scenario::Call, "a pinned call", CALL),
        (Scenario::Event, "an SSE event", EVENT),
    ] {
        let count = |tool| difference(tool, scenario, &backends, folder.path());
        let [syscalls] = count(Tool::Strace)[..] else {
            unreachable!("one count is read")
        };
        let [instructions, allocations] = count(Tool::Callgrind)[..] else {
            unreachable!("two counts are read")
        };
        for (what, counted, ceiling) in [
            ("system calls", syscalls, ceiling.syscalls),
            ("instructions", instructions, ceiling.instructions),
            ("allocations", allocations, ceiling.allocations),
        ] {
            let is_above = counted > ceiling;
            let fault = if is_above { " is passed" } else { "" };
            println!("| {what} for {name} | {counted:.2} | {ceiling:.2}{fault} |");
            is_passed |= is_above;
        }
    }
    if is_passed {
        eprintln!("what a call or an event costs has grown: see benches/peers/counts.rs");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// What one more call or event costs.
fn difference(tool: Tool, scenario: Scenario, backends: &[SocketAddr], folder: &Path) -> Vec<f64> {
    let [(few, less), (many, more)] =
        [0, 1].map(|length| counted(tool, scenario, length, backends, folder));
    let pairs = less.into_iter().zip(more);
    pairs
        .map(|(less, more)| (more - less) / (many - few) as f64)
        .collect()
}

/// How many calls or events there were, and what the process has cost from its start to its end.
fn counted(
    tool: Tool,
    scenario: Scenario,
    length: usize,
    backends: &[SocketAddr],
    folder: &Path,
) -> (u64, Vec<f64>) {
    let file = folder.join("counts");
    let under = match tool {
        Tool::Strace => strace(&file),
        Tool::Callgrind => callgrind(&file),
    };
    let proxy = Peer::Pinring.start_under(&under, backends, folder);
    let outcome = match scenario {
        Scenario::Call => Load::calls(proxy.address, plan(CALLS[length])).result(),
        Scenario::Event => {
            Load::streams(proxy.address, CONNECTIONS, EVERY, SECONDS[length]).result()
        }
    };
    outcome.expect_right(&format!("{scenario:?}"));
    proxy.end();
    let text = fs::read_to_string(&file).expect("the tool has written what it saw");
    let counts = match tool {
        Tool::Strace => vec![syscalls(&text)],
        Tool::Callgrind => vec![instructions(&text), allocations(&text)],
    };
    (outcome.done, counts)
}

fn strace(file: &Path) -> Vec<String> {
    let words = ["strace", "--follow-forks", "--summary-only", "--output"];
    let words = words.map(str::to_owned).into_iter();
    words.chain([file.display().to_string()]).collect()
}

fn callgrind(file: &Path) -> Vec<String> {
    let file = format!("--callgrind-out-file={}", file.display());
    vec!["valgrind".into(), "--tool=callgrind".into(), file]
}

/// Whether a tool is there, and may watch a process.
fn try_out(tool: &mut Vec<String>) -> Result<(), String> {
    tool.push("true".to_owned());
    let tried = Command::new(&tool[0]).args(&tool[1..]).output();
    let tried = tried.map_err(|error| format!("{} cannot be started: {error}", tool[0]))?;
    if tried.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&tried.stderr);
    Err(format!(
        "{} cannot watch a process here (in a container it needs ptrace, as with --cap-add SYS_PTRACE): {said}",
        tool[0]
    ))
}

const fn plan(calls: u64) -> Plan {
    Plan {
        kind: Kind::Pinned,
        connections: CONNECTIONS,
        seconds: PATIENCE,
        rate: None,
        calls: Some(calls),
    }
}

/// The number of calls in the last line of `strace --summary-only`: `100.00 seconds usecs/call calls [errors] total`.
fn syscalls(text: &str) -> f64 {
    let total = text.lines().find(|line| line.ends_with(" total"));
    let total = total.expect("strace writes a sum");
    let calls = total.split_whitespace().nth(3);
    calls
        .and_then(|calls| calls.parse().ok())
        .expect("a number of calls")
}

/// The sum of all costs, of which instructions are the only one, in what callgrind writes.
fn instructions(text: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
    line.and_then(|sum| sum.trim().parse().ok())
        .expect("callgrind writes a sum")
}

/// How often a function of the allocator was called: `cfn=(id) name` and a line with `calls=N` behind it. A name is
/// written out once.
fn allocations(text: &str) -> f64 {
    let (mut names, mut sum) = (HashMap::new(), 0_u64);
    let mut is_allocator = false;
    for line in text.lines() {
        if let Some(function) = line
            .strip_prefix("cfn=")
            .or_else(|| line.strip_prefix("fn="))
        {
            let (id, name) = function.split_once(' ').unwrap_or((function, ""));
            if !name.is_empty() {
                names.insert(id, name);
            }
            let name = names.get(id).copied().unwrap_or_default();
            is_allocator = matches!(
                name,
                "mi_malloc_aligned" | "mi_zalloc_aligned" | "mi_realloc_aligned"
            );
        } else if let Some(calls) = line.strip_prefix("calls=")
            && is_allocator
        {
            let count = calls
                .split(' ')
                .next()
                .and_then(|count| count.parse::<u64>().ok());
            sum += count.expect("a number of calls");
        }
    }
    assert_ne!(sum, 0, "the allocator's functions have these names");
    sum as f64
}
