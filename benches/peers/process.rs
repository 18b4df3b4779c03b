//! What a process and its children have cost, by the kernel's own accounting.

use std::{collections::BTreeMap, fs};

use rustix::process::{Pid, Signal, kill_process};

/// A proxy under test, which ends with this value.
pub(crate) struct Proxy {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) child: std::process::Child,
}

impl Proxy {
    /// CPU time so far, in nanoseconds.
    pub(crate) fn cpu(&self) -> u64 {
        self.cpu_of_threads().values().sum()
    }

    /// The same of each thread, by its id.
    pub(crate) fn cpu_of_threads(&self) -> BTreeMap<u32, u64> {
        self.processes().into_iter().flat_map(threads).collect()
    }

    /// Memory that is its own, in KiB: shared pages count by their share.
    pub(crate) fn pss(&self) -> u64 {
        self.processes().iter().map(|pid| pss(*pid)).sum()
    }

    /// Lets it end by itself, so that whatever watches it can tell what it saw.
    pub(crate) fn end(mut self) {
        if let Some(last) = self.processes().last() {
            signal(*last, Signal::TERM);
        }
        let _status = self.child.wait();
    }

    fn processes(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut next = 0;
        while next < all.len() {
            let pid = all[next];
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let children = children.unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
            next += 1;
        }
        all
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return; // its number may be another's by now
        }
        for pid in self.processes() {
            signal(pid, Signal::KILL);
        }
        let _status = self.child.wait();
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _gone = kill_process(pid, signal);
    }
}

/// The CPU time of each thread of a process.
fn threads(pid: u32) -> impl Iterator<Item = (u32, u64)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    threads.filter_map(|thread| {
        let id = thread.file_name().to_str()?.parse().ok()?;
        let line = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        Some((id, line.split(' ').next()?.parse().ok()?))
    })
}

fn pss(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}
