//! What is compared, each in a process of its own.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    CORES, THREADS,
    process::Proxy,
    role::{self, Lines},
};

/// A relay in one way, or pinring. It ends with this value.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) proxy: Proxy,
    pub(crate) threads: usize,
    /// A relay tells how many connections it has.
    lines: Option<Lines>,
}

impl Subject {
    /// Starts this program as a relay; its `name` is its way.
    pub(crate) fn relay(name: &'static str, backend: SocketAddr, rounds: u32) -> Self {
        let mut child = role::spawn(&[name, &backend.to_string(), &rounds.to_string()]);
        let mut lines = Lines::of(&mut child);
        let address = role::parsed(lines.next().trim_end());
        Self {
            name,
            proxy: Proxy { address, child },
            threads: THREADS,
            lines: Some(lines),
        }
    }

    pub(crate) fn pinring(
        name: &'static str,
        program: &str,
        threads: usize,
        backend: SocketAddr,
        folder: &Path,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        drop(listener);
        let file = folder.join(format!("{name}.toml"));
        let text = format!(
            "[server]\nlisten = \"{address}\"\nadmin = \"\"\nthreads = {threads}\n[log]\naccess = false\n\
             [[backends]]\nname = \"a\"\nurl = \"http://{backend}\"\n"
        );
        fs::write(&file, text).expect("a file");
        let child = Command::new("taskset")
            .args(["-c", CORES, program, "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(fs::File::create(file.with_extension("log")).expect("a log"))
            .spawn()
            .expect("taskset, of util-linux");
        let proxy = Proxy { address, child };
        let is_there = |_: &u32| {
            thread::sleep(Duration::from_millis(50));
            TcpStream::connect(address).is_ok()
        };
        assert!(
            (0..200).any(|time| is_there(&time)),
            "{program} does not listen"
        );
        Self {
            name,
            proxy,
            threads,
            lines: None,
        }
    }

    /// Only a relay tells anything.
    pub(crate) fn is_pinring(&self) -> bool {
        self.lines.is_none()
    }

    /// How many connections each thread has, when they are so many in all; `None` where that is not told.
    pub(crate) fn open(&mut self, connections: usize) -> Option<Vec<u64>> {
        let lines = self.lines.as_mut()?;
        for _ in 0..1000 {
            lines.ask();
            let told = lines.next();
            let open: Vec<u64> = told.trim_end().split('+').map(role::parsed).collect();
            if open.iter().sum::<u64>() == connections as u64 {
                return (open.len() > 1).then_some(open);
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("{} does not have its {connections} connections", self.name);
    }
}
