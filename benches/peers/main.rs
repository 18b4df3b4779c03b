//! pinring beside HAProxy and nginx: the same replicas, the same load, in turns, each proxy alone on one core.
//!
//! ```sh
//! cargo bench --bench peers                     # everything; about ten minutes
//! cargo bench --bench peers -- calls sse --rounds 3 --seconds 2
//! cargo bench --bench peers -- counts       # pinring alone: system calls, instructions, allocations; fails above a ceiling
//! ```
//!
//! Needs haproxy and nginx (Debian's packages), taskset, and two cores of Linux; for counts strace and valgrind instead. PINRING_BIN names another binary than the
//! one that is built for it. Only ratios of one run mean anything. An error, or an answer from a wrong replica, fails the
//! run; nginx, which cannot be right with what it has, is only held to the first.

mod backend;
mod counts;
mod load;
mod measures;
mod peers;
mod poller;
mod process;
mod table;
mod wire;
mod work;

use std::{io, net::SocketAddr, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["--role", "backend"] => backend::serve(),
        ["--role", "calls", address, plan] => calls(address, plan),
        ["--role", "streams", address, count, every, seconds] => load::streams(
            parsed(address),
            parsed(count),
            parsed(every),
            parsed(seconds),
        ),
        // Cargo adds a word of its own.
        ["counts"] | ["counts", "--bench"] => return counts::run(),
        ["work"] => return work::run(),
        _ => return measures::run(&words),
    };
    done.map_or_else(
        |error| {
            eprintln!("{error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn calls(address: &str, plan: &str) -> io::Result<()> {
    let address: SocketAddr = parsed(address);
    load::calls(address, serde_json::from_str(plan)?)
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("what this program gave itself")
}
