//! A network of simulated machines on one thread, whose time passes only while nobody has anything to do.
//!
//! Only built with the feature `simulation`, for `tests/sim`. All machines share one runtime with tokio's paused
//! clock, so a simulated second costs what happens in it and nothing else. Connections behave as TCP's do: what is
//! sent into a cut link is sent again when the link is back, a closed port refuses, a killed process resets, and
//! a frozen one still has its kernel accept for it. There is no limit to what is under way, and no loss of order.
//!
//! All chance is drawn from one seed. [`begin`] starts a simulation on the current thread, [`Process`] is a
//! process on a machine; [`cut`], [`mend`] and [`slow`] are the faults of the links between machines.

pub mod clock;
pub mod passing;
mod pipe;
pub mod tcp;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    rc::Rc,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    task::{JoinHandle, LocalSet},
    time::Instant,
};

use self::{pipe::Pipe, tcp::Socket};

/// One way through the network takes from this long …
const LATENCY: u64 = 1;
/// … to this long, in milliseconds.
const LATENCY_LONGEST: u64 = 3;

/// What was sent into a cut link arrives this long after the link is back: TCP sends it again in growing intervals.
const SENT_AGAIN: Duration = Duration::from_millis(120);

thread_local! {
    static NETWORK: RefCell<Option<Network>> = const { RefCell::new(None) };
    static MACHINE: Cell<Option<Machine>> = const { Cell::new(None) };
}

/// A simulated machine: its address and how fast its clock goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// Its one address.
    pub address: IpAddr,
    /// Its seconds in one of the simulation's.
    pub pace: f64,
}

struct Network {
    random: Rng,
    began: Instant,
    links: BTreeMap<(IpAddr, IpAddr), Link>,
    sockets: BTreeMap<SocketAddr, Weak<Socket>>,
    pipes: Vec<Weak<Pipe>>,
    ports: u16,
}

/// What there is between two machines, both ways.
#[derive(Debug, Clone, Copy, Default)]
struct Link {
    cut: Option<Instant>,
    /// The last time that it was cut, and when that ended.
    mended: Option<(Instant, Instant)>,
    extra: Duration,
}

/// Begins a simulation on this thread, which must be within a runtime whose clock is paused. Whatever was left of
/// the one before is gone.
pub fn begin(seed: u64) {
    fastrand::seed(seed);
    let network = Network {
        random: Rng::with_seed(seed),
        began: Instant::now(),
        links: BTreeMap::new(),
        sockets: BTreeMap::new(),
        pipes: Vec::new(),
        ports: 0,
    };
    NETWORK.set(Some(network));
    MACHINE.set(None);
}

/// Cuts the link between two machines: nothing arrives any more, and nobody is told.
pub fn cut(one: IpAddr, other: IpAddr) {
    let now = Instant::now();
    change(one, other, |link| {
        link.cut.get_or_insert(now);
    });
}

/// Mends the link between two machines.
pub fn mend(one: IpAddr, other: IpAddr) {
    let now = Instant::now();
    change(one, other, |link| {
        if let Some(since) = link.cut.take() {
            link.mended = Some((since, now));
        }
    });
}

/// From now on each way between two machines takes longer by `extra`.
pub fn slow(one: IpAddr, other: IpAddr, extra: Duration) {
    change(one, other, |link| link.extra = extra);
}

fn change(one: IpAddr, other: IpAddr, change: impl FnOnce(&mut Link)) {
    let pipes = with(|network| {
        change(network.links.entry(between(one, other)).or_default());
        network.pipes.retain(|pipe| pipe.strong_count() > 0);
        network.pipes.clone()
    });
    for pipe in pipes.iter().filter_map(Weak::upgrade) {
        pipe.look_again();
    }
}

/// A link has no direction.
fn between(one: IpAddr, other: IpAddr) -> (IpAddr, IpAddr) {
    (one.min(other), one.max(other))
}

fn with<T>(use_it: impl FnOnce(&mut Network) -> T) -> T {
    NETWORK.with_borrow_mut(|network| use_it(network.as_mut().expect("a simulation has begun")))
}

fn machine() -> Option<Machine> {
    MACHINE.get()
}

impl Network {
    fn link(&self, one: IpAddr, other: IpAddr) -> Link {
        let link = self.links.get(&between(one, other));
        link.copied().unwrap_or_default()
    }

    /// How long the next way between two machines takes.
    fn latency(&mut self, one: IpAddr, other: IpAddr) -> Duration {
        let extra = self.link(one, other).extra;
        Duration::from_millis(self.random.u64(LATENCY..=LATENCY_LONGEST)) + extra
    }
}

impl Link {
    /// When something gets through that should have been there at `due`; `None` while nobody knows.
    fn arrival(&self, due: Instant) -> Option<Instant> {
        match (self.cut, self.mended) {
            (Some(since), _) if since <= due => None,
            (_, Some((since, until))) if since <= due && due < until => Some(until + SENT_AGAIN),
            (_, _) => Some(due),
        }
    }
}

/// A process on a machine: all of its tasks, its sockets and connections.
#[derive(Clone)]
pub struct Process(Rc<Tasks>);

struct Tasks {
    machine: Machine,
    /// With the task that is the program itself: when it ends, all others do.
    tasks: RefCell<Option<(LocalSet, JoinHandle<()>)>>,
    frozen: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Process {
    /// Starts `program` on `machine`. Within a local task set, which must not be that of another process.
    pub fn start(machine: Machine, program: impl Future<Output = ()> + 'static) -> Self {
        let tasks = LocalSet::new();
        let program = tasks.spawn_local(program);
        let process = Self(Rc::new(Tasks {
            machine,
            tasks: RefCell::new(Some((tasks, program))),
            frozen: Cell::new(false),
            waker: RefCell::new(None),
        }));
        let tasks = Rc::clone(&process.0);
        tokio::task::spawn_local(std::future::poll_fn(move |cx| tasks.poll(cx)));
        process
    }

    /// Ends it as SIGKILL does: its memory is gone, its connections are closed by the kernel.
    pub fn kill(&self) {
        drop(self.0.tasks.take());
        self.0.wake();
    }

    /// Whether it has ended, by itself or not.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.tasks.borrow().is_none()
    }

    /// Stops it as SIGSTOP does, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        self.0.frozen.set(frozen);
        self.0.wake();
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process").field(&self.0.machine).finish()
    }
}

impl Tasks {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.replace(Some(cx.waker().clone()));
        if self.frozen.get() {
            return Poll::Pending;
        }
        let mut running = self.tasks.borrow_mut();
        let Some((tasks, program)) = running.as_mut() else {
            return Poll::Ready(());
        };
        let outside = MACHINE.replace(Some(self.machine));
        let polled = Pin::new(tasks).poll(cx);
        MACHINE.set(outside);
        if program.is_finished() {
            *running = None;
            return Poll::Ready(());
        }
        polled
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Notes a pipe, so that it is looked at again when its link changes.
fn keep(pipe: &Arc<Pipe>) {
    with(|network| {
        if network.pipes.len() == network.pipes.capacity() {
            network.pipes.retain(|pipe| pipe.strong_count() > 0);
        }
        network.pipes.push(Arc::downgrade(pipe));
    });
}
