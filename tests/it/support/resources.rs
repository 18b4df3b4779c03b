//! What a pinring process takes of its machine.

use std::{collections::BTreeMap, fs, process::Command};

use super::Pinring;

impl Pinring {
    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid())).unwrap()
    }

    /// Its share of memory, in KiB, without the files that it has mapped: its part of those depends on how many processes
    /// other tests have started of the same program.
    pub(crate) fn share_of_memory(&self) -> usize {
        let rollup = self.proc("smaps_rollup");
        let line = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss_Anon:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse().unwrap()
    }

    /// The time that it has been computing, in hundredths of a second.
    pub(crate) fn computing_time(&self) -> u64 {
        let stat = self.proc("stat");
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let mut times = fields.split_ascii_whitespace().skip(11).take(2);
        let mut next = || times.next().unwrap().parse::<u64>().unwrap();
        next() + next()
    }

    /// Its soft and its hard limit of open files.
    pub(crate) fn open_files_allowed(&self) -> (u64, u64) {
        let limits = self.proc("limits");
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        let mut numbers = line.unwrap().split_ascii_whitespace();
        let mut next = || numbers.next().unwrap().parse().unwrap();
        (next(), next())
    }

    /// Lets it open so many files more, and no others.
    pub(crate) fn allow_open_files(&self, more: usize) {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            .count();
        let most = open + more;
        let done = Command::new("prlimit")
            .arg(format!("--pid={}", self.pid()))
            .arg(format!("--nofile={most}:{most}"))
            .status();
        assert!(done.unwrap().success());
    }

    /// How many sockets each of its threads looks after, by what wakes that thread: pollers have two descriptors each.
    pub(crate) fn sockets_of_threads(&self) -> BTreeMap<String, usize> {
        let pid = self.pid();
        let of = |file: &str| fs::read_link(format!("/proc/{pid}/fd/{file}"));
        let is = |file: &str, kind: &str| {
            of(file).is_ok_and(|to| to.to_string_lossy().starts_with(kind)) // or it was closed just now
        };
        let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let pollers = files.filter(|file| is(file, "anon_inode:[eventpoll]"));
        let sockets = |poller: String| {
            let told = self.proc(&format!("fdinfo/{poller}"));
            let watched = told.lines().filter_map(|line| line.strip_prefix("tfd:"));
            let watched = watched.filter_map(|rest| rest.split_ascii_whitespace().next());
            let waker = watched
                .clone()
                .find(|file| is(file, "anon_inode:[eventfd]"))?;
            let open = watched.filter(|file| is(file, "socket:")).count();
            Some((waker.to_owned(), open))
        };
        pollers.filter_map(sockets).collect()
    }
}
