//! What all parts of one simulation share: its settings, its history, its trace, and what was found wrong.

use std::{
    cell::{Cell, Ref, RefCell, RefMut},
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::{Arc, Mutex},
};

use pinring::net::simulated::Machine;
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

use super::{
    history::{At, History},
    settings::Settings,
};

pub type Shared = Rc<World>;

pub struct World {
    pub settings: Settings,
    began: Instant,
    history: RefCell<History>,
    trace: RefCell<Trace>,
    numbers: Cell<u64>,
}

/// What happened, in order: its digest, and the lines if somebody wants to read them.
#[derive(Default)]
pub struct Trace {
    digest: Xxh3,
    lines: Option<Lines>,
    pub wrong: Vec<String>,
    /// How often each kind of thing happened.
    pub counts: BTreeMap<String, u64>,
}

/// The lines of one story: those of the simulation, and pinring's log between them.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<Mutex<String>>);

impl Lines {
    pub fn take(&self) -> String {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn push(&self, line: &str) {
        self.0.lock().unwrap().push_str(line);
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push("          | ");
        self.push(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Trace {
    pub fn digest(&self) -> u64 {
        self.digest.digest()
    }
}

impl World {
    pub fn new(settings: Settings, lines: Option<Lines>) -> Shared {
        let history = History::new(settings.backends + settings.spare, settings.proxies.len());
        Rc::new(Self {
            settings,
            began: Instant::now(),
            history: RefCell::new(history),
            trace: RefCell::new(Trace {
                lines,
                ..Trace::default()
            }),
            numbers: Cell::new(0),
        })
    }

    pub fn now(&self) -> At {
        Instant::now() - self.began
    }

    /// Notes what happened.
    pub fn note(&self, what: std::fmt::Arguments<'_>) {
        let line = format!("{:>9.3} {what}\n", self.now().as_secs_f64());
        let mut trace = self.trace.borrow_mut();
        trace.digest.update(line.as_bytes());
        if let Some(lines) = &trace.lines {
            lines.push(&line);
        }
    }

    pub fn count(&self, what: &str) {
        let mut trace = self.trace.borrow_mut();
        match trace.counts.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(trace.counts.insert(what.to_owned(), 1)),
        }
    }

    /// Notes what must not happen.
    pub fn wrong(&self, what: std::fmt::Arguments<'_>) {
        self.note(format_args!("WRONG: {what}"));
        let text = format!("at {:.3} s: {what}", self.now().as_secs_f64());
        self.trace.borrow_mut().wrong.push(text);
    }

    pub fn history(&self) -> Ref<'_, History> {
        self.history.borrow()
    }

    pub fn history_mut(&self) -> RefMut<'_, History> {
        self.history.borrow_mut()
    }

    /// A number for a request that no other has.
    pub fn number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    pub fn take_trace(&self) -> Trace {
        self.trace.take()
    }
}

pub fn backend(index: usize) -> Machine {
    machine(0, index, 1.0)
}

pub fn proxy(index: usize, pace: f64) -> Machine {
    machine(1, index, pace)
}

pub fn client(index: usize) -> Machine {
    machine(2, index, 1.0)
}

fn machine(net: u8, index: usize, pace: f64) -> Machine {
    let host = u8::try_from(index + 1).unwrap();
    Machine {
        address: IpAddr::V4(Ipv4Addr::new(10, 0, net, host)),
        pace,
    }
}

pub fn address(machine: Machine) -> SocketAddr {
    SocketAddr::new(machine.address, 8080)
}
