//! A real DNS server on loopback: Debian's dnsmasq, with records that tests change while it runs.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use super::{Backend, anywhere, eventually};

/// A query for the address of a name that exists in no test, as it goes over UDP.
const QUERY: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04none\x04test\x00\x00\x01\x00\x01";

/// The server. It knows all names below `test`, and answers NXDOMAIN for those that do not exist. Killed when dropped.
pub(crate) struct Dns {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
    ttl: u32,
    more: Vec<String>,
}

impl Dns {
    /// Without names. Answers are good for `ttl` seconds; `more` are further arguments.
    pub(crate) fn start(ttl: u32, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hosts"), "").unwrap();
        let port = free_port();
        let more: Vec<String> = more.iter().map(|&text| text.to_owned()).collect();
        let child = run(&folder.path().join("hosts"), port, ttl, &more);
        let dns = Self {
            child,
            folder,
            port,
            ttl,
            more,
        };
        dns.wait();
        dns
    }

    /// The section that makes a pinring ask it, at short intervals.
    pub(crate) fn section(&self) -> String {
        format!(
            "[discovery]\nservers = [\"127.0.0.1:{}\"]\nmin_interval = \"100ms\"\ntimeout = \"1s\"\n",
            self.port
        )
    }

    /// From now on these are all names and addresses.
    pub(crate) fn put(&self, records: &[(&str, String)]) {
        let mut hosts = String::new();
        for (name, address) in records {
            writeln!(hosts, "{address} {name}").unwrap();
        }
        std::fs::write(self.hosts(), hosts).unwrap();
        self.signal("HUP");
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
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.more = more.iter().map(|&text| text.to_owned()).collect();
        self.child = run(&self.hosts(), self.port, self.ttl, &self.more);
        self.wait();
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

    fn wait(&self) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let soon = Duration::from_millis(100);
        socket.set_read_timeout(Some(soon)).unwrap();
        eventually("the DNS server answers", || {
            let _refused = socket.send_to(QUERY, (Ipv4Addr::LOCALHOST, self.port));
            socket.recv_from(&mut [0; 512]).is_ok()
        });
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn run(hosts: &std::path::Path, port: u16, ttl: u32, more: &[String]) -> Child {
    let program = ["/usr/sbin/dnsmasq", "dnsmasq"];
    let program = program
        .iter()
        .find(|path| std::path::Path::new(path).exists());
    Command::new(program.unwrap_or(&"dnsmasq"))
        .args([
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--conf-file=/dev/null",
        ])
        .args([
            "--pid-file=",
            "--user=root",
            "--local=/test/",
            "--bind-interfaces",
        ])
        .args(["--listen-address=127.0.0.1", "--log-facility=/dev/null"])
        .arg(format!("--port={port}"))
        .arg(format!("--local-ttl={ttl}"))
        .arg(format!("--addn-hosts={}", hosts.display()))
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
