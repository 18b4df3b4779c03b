//! What a process and its children have cost, by the kernel's own accounting.

use std::fs;

/// A proxy under test, which ends with this value.
pub(crate) struct Proxy {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) child: std::process::Child,
}

impl Proxy {
    /// CPU time so far, in nanoseconds.
    pub(crate) fn cpu(&self) -> u64 {
        self.processes().iter().map(|pid| cpu(*pid)).sum()
    }

    /// Memory that is its own, in KiB: shared pages count by their share.
    pub(crate) fn pss(&self) -> u64 {
        self.processes().iter().map(|pid| pss(*pid)).sum()
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
        for pid in self.processes() {
            let pid = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _status = self.child.wait();
    }
}

fn cpu(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let spent = threads.filter_map(|thread| {
        let line = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        line.split(' ').next()?.parse::<u64>().ok()
    });
    spent.sum()
}

fn pss(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}
