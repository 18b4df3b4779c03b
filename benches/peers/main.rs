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
mod role;
mod table;
mod wire;
mod work;

use std::process::ExitCode;

/// The core of load and replicas.
const CORES_OF_LOAD: &str = "1";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(played) = role::play(&words) {
        return role::exit_code(played);
    }
    match words.as_slice() {
        // Cargo adds a word of its own.
        ["counts"] | ["counts", "--bench"] => counts::run(),
        ["work"] => work::run(),
        _ => measures::run(&words),
    }
}
