//! A network namespace, in which a process has links of its own to the tests that can be cut without a word.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
};

/// Nobody's hardware address: what is sent there is dropped, and no answer tells of it.
const NOWHERE: &str = "02:00:00:00:00:01";

/// Of one namespace.
const LINKS: usize = 8;

/// A namespace with a virtual cable to the one of the tests. Needs root and iproute2. Gone when dropped.
pub(crate) struct Namespace {
    name: String,
    here: String,
    there: String,
    base: u32,
}

/// Two addresses that reach each other over the cable.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    /// In the namespace of the tests.
    pub(crate) here: Ipv4Addr,
    /// In the other.
    pub(crate) there: Ipv4Addr,
}

impl Namespace {
    /// Makes one; `None`, with a message, where that is not allowed.
    pub(crate) fn try_new() -> Option<Self> {
        let number = std::process::id() % 4096; // tests of several folders run side by side
        let namespace = Self {
            name: format!("pinring-{number}"),
            here: format!("pinring{number}h"),
            there: format!("pinring{number}t"),
            base: u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number * LINKS as u32 * 4, // RFC 2544: for tests
        };
        if let Err(why) = namespace.set_up() {
            eprintln!("skipped, for no network namespace can be made here: {why}");
            return None;
        }
        Some(namespace)
    }

    fn set_up(&self) -> Result<(), String> {
        let Self {
            name, here, there, ..
        } = self;
        ip(&format!("netns add {name}"))?;
        ip(&format!(
            "link add {here} type veth peer name {there} netns {name}"
        ))?;
        for number in 0..LINKS {
            let link = self.link(number);
            ip(&format!("addr add {}/30 dev {here}", link.here))?;
            ip(&format!("-n {name} addr add {}/30 dev {there}", link.there))?;
        }
        ip(&format!("link set {here} up"))?;
        ip(&format!("-n {name} link set {there} up"))?;
        ip(&format!("-n {name} link set lo up"))
    }

    /// The link with this number, less than eight.
    pub(crate) fn link(&self, number: usize) -> Link {
        assert!(number < LINKS);
        let net = self.base + 4 * number as u32;
        Link {
            here: Ipv4Addr::from(net + 1),
            there: Ipv4Addr::from(net + 2),
        }
    }

    /// What starts a program in it.
    pub(crate) fn prefix(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// Drops all packets of a link from now on, both ways, and tells nobody.
    pub(crate) fn cut(&self, link: Link) {
        let Self {
            name, here, there, ..
        } = self;
        let to = |address: Ipv4Addr, device: &str| {
            format!("neigh replace {address} lladdr {NOWHERE} dev {device} nud permanent")
        };
        ip(&format!("-n {name} {}", to(link.here, there))).unwrap();
        ip(&to(link.there, here)).unwrap();
    }

    /// Lets them pass again.
    pub(crate) fn mend(&self, link: Link) {
        let Self {
            name, here, there, ..
        } = self;
        ip(&format!("-n {name} neigh del {} dev {there}", link.here)).unwrap();
        ip(&format!("neigh del {} dev {here}", link.there)).unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _gone = ip(&format!("netns del {}", self.name)); // and the cable with it
    }
}

impl Link {
    /// A port at its other end.
    pub(crate) fn at(self, port: u16) -> SocketAddr {
        (IpAddr::V4(self.there), port).into()
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let run = Command::new("ip").args(arguments.split(' ')).output();
    let run = run.map_err(|error| format!("ip: {error}"))?;
    if run.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&run.stderr).trim().to_owned();
    Err(format!("ip {arguments}: {said}"))
}
