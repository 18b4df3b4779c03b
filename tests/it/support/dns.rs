//! A real DNS server on loopback: Debian's dnsmasq, with records that tests change while it runs.

use std::{
    cell::Cell,
    fmt::Write as _,
    net::{Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use super::{Backend, anywhere, eventually};

/// Whoever asks for a name below `test` that it does not know is told that there is none.
const KNOWS_ALL: &str = "--local=/test/";

/// The server. It knows all names below `test`, and answers NXDOMAIN for those that do not exist. Killed when dropped.
pub(crate) struct Dns {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
    ttl: u32,
    puts: Cell<u32>,
}

impl Dns {
    /// Without names. Answers are good for `ttl` seconds; `more` are further arguments.
    pub(crate) fn start(ttl: u32, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        std::fs::write(&hosts, "").unwrap();
        let port = free_port();
        let dns = Self {
            child: run(&hosts, port, ttl, &[KNOWS_ALL], more),
            folder,
            port,
            ttl,
            puts: Cell::new(0),
        };
        dns.wait_for("none", false);
        dns
    }

    /// The section that makes a pinring ask it, at short intervals.
    pub(crate) fn section(&self) -> String {
        format!(
            "[discovery]\nservers = [\"127.0.0.1:{}\"]\nmin_interval = \"100ms\"\ntimeout = \"2s\"\n",
            self.port
        )
    }

    /// From now on these are all names and addresses.
    pub(crate) fn put(&self, records: &[(&str, String)]) {
        self.puts.set(self.puts.get() + 1);
        let mark = format!("mark{}", self.puts.get());
        let mut hosts = format!("127.0.0.1 {mark}.test\n");
        for (name, address) in records {
            writeln!(hosts, "{address} {name}").unwrap();
        }
        std::fs::write(self.hosts(), hosts).unwrap();
        self.signal("HUP");
        self.wait_for(&mark, true);
    }

    /// From now on nobody answers.
    pub(crate) fn fall_silent(&self) {
        self.signal("STOP");
    }

    /// It answers again.
    pub(crate) fn wake(&self) {
        self.signal("CONT");
    }

    /// Ends it, and begins anew at the same port with other arguments.
    pub(crate) fn restart(&mut self, more: &[&str]) {
        self.begin_anew(&[KNOWS_ALL], more);
    }

    /// From now on it refuses to tell of names that it has no address of (REFUSED).
    pub(crate) fn refuse(&mut self) {
        self.begin_anew(&[], &[]);
    }

    fn begin_anew(&mut self, scope: &[&str], more: &[&str]) {
        self.end();
        self.child = run(&self.hosts(), self.port, self.ttl, scope, more);
        self.wait_for("none", false);
    }

    /// Ends it: who asks is refused.
    pub(crate) fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn hosts(&self) -> PathBuf {
        self.folder.path().join("hosts")
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until it answers about `label.test`, and that this exists, if it is to.
    fn wait_for(&self, label: &str, exists: bool) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let soon = Duration::from_millis(100);
        socket.set_read_timeout(Some(soon)).unwrap();
        let query = [
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00",
            &[label.len() as u8][..],
            label.as_bytes(),
            b"\x04test\x00\x00\x01\x00\x01",
        ]
        .concat();
        eventually("the DNS server answers", || {
            let _refused = socket.send_to(&query, (Ipv4Addr::LOCALHOST, self.port));
            let mut answer = [0; 512];
            let has_come = socket.recv_from(&mut answer).is_ok();
            has_come && (!exists || answer[7] > 0) // the number of records
        });
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn run(hosts: &Path, port: u16, ttl: u32, scope: &[&str], more: &[&str]) -> Child {
    let program = ["/usr/sbin/dnsmasq", "dnsmasq"];
    let program = program.iter().find(|path| Path::new(path).exists());
    Command::new(program.unwrap_or(&"dnsmasq"))
        .args([
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--conf-file=/dev/null",
        ])
        .args(["--pid-file=", "--user=root", "--bind-interfaces"])
        .args(["--listen-address=127.0.0.1", "--log-facility=/dev/null"])
        .arg(format!("--port={port}"))
        .arg(format!("--local-ttl={ttl}"))
        .arg(format!("--addn-hosts={}", hosts.display()))
        .args(scope)
        .args(more)
        .stderr(Stdio::null())
        .spawn()
        .expect("dnsmasq is there: tests/run installs it")
}

/// A port that is free for UDP, below those that the kernel gives to others.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = 10_000 + (std::process::id() % 1000) as u16 * 20;
    loop {
        let port = begin + NEXT.fetch_add(1, Ordering::SeqCst) % 20_000;
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Backends that keep sessions, named `0`, `1`, …, at one port and as many addresses.
pub(crate) fn at_one_port(count: usize) -> Vec<Backend> {
    const NAMES: [&str; 4] = ["0", "1", "2", "3"];
    let mut port = 0;
    let backend = |name: &&'static str| {
        let mut address = anywhere();
        address.set_port(port);
        let backend = Backend::stateful_at(address, name);
        port = backend.address().port();
        backend
    };
    NAMES[..count].iter().map(backend).collect()
}
