//! All machines together, the list as it should be everywhere and how it gets there, and the end of all faults.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use fastrand::Rng;
use pinring::net::simulated;
use tokio::{sync::Notify, task::spawn_local, time::sleep};

use super::{
    backend::Backend,
    history::{List, Listed},
    proxy::Proxy,
    settings::FAULTS,
    world::{self, Shared},
};

/// Secrets that there are; the first is in use from the beginning.
pub const KEYS: usize = 4;

/// After a signal, until the next list may be written.
const SETTLED: Duration = Duration::from_millis(60);

pub struct Site {
    pub world: Shared,
    pub backends: Vec<Backend>,
    pub proxies: Rc<Vec<Rc<Proxy>>>,
    /// The list as it should be everywhere.
    pub truth: RefCell<Rc<List>>,
    changed: Notify,
    /// Backends that are to run.
    pub wanted: RefCell<BTreeSet<usize>>,
    random: RefCell<Rng>,
}

/// The list of the beginning.
pub fn first_list(backends: usize) -> Rc<List> {
    let listed = |backend| Listed {
        backend,
        weight: 1,
        draining: false,
    };
    Rc::new(List {
        backends: (0..backends).map(listed).collect(),
        keys: vec![0],
    })
}

impl Site {
    pub fn new(
        world: &Shared,
        backends: Vec<Backend>,
        proxies: Rc<Vec<Rc<Proxy>>>,
        list: Rc<List>,
        seed: u64,
    ) -> Rc<Self> {
        let wanted = list.backends.iter().map(|listed| listed.backend).collect();
        Rc::new(Self {
            world: Rc::clone(world),
            backends,
            proxies,
            truth: RefCell::new(list),
            changed: Notify::new(),
            wanted: RefCell::new(wanted),
            random: RefCell::new(Rng::with_seed(seed)),
        })
    }

    /// Starts everything, and lets things go wrong until it is over. Then all is well again.
    pub async fn live(self: &Rc<Self>) {
        for backend in &*self.wanted.borrow() {
            self.backends[*backend].start();
        }
        for proxy in self.proxies.iter() {
            proxy.start();
            spawn_local(Rc::clone(self).distribute(Rc::clone(proxy)));
        }
        let pause = u64::try_from(self.world.settings.pause.as_millis()).unwrap();
        sleep(Duration::from_millis(500)).await;
        while self.world.now() < FAULTS {
            self.strike();
            sleep(Duration::from_millis(
                self.random(|random| random.u64(50..pause)),
            ))
            .await;
        }
        self.heal();
    }

    pub(super) fn random<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.random.borrow_mut())
    }

    pub(super) fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.random(|random| random.u64(from..=to)))
    }

    /// Brings the true list to one proxy, again and again, later than to others.
    async fn distribute(self: Rc<Self>, proxy: Rc<Proxy>) {
        let lag = self.world.settings.lags[proxy.index];
        let part = |share: f64| lag.mul_f64(share * self.random(Rng::f64));
        let mut known = self.truth.borrow().clone();
        loop {
            while Rc::ptr_eq(&known, &self.truth.borrow()) {
                self.changed.notified().await;
            }
            sleep(part(0.7)).await;
            if self.random(|random| random.u8(..) < 40) {
                proxy.garble();
                sleep(self.millis(0, 100)).await;
                proxy.reload();
                sleep(SETTLED).await;
            }
            known = self.truth.borrow().clone();
            proxy.write(&known);
            sleep(part(0.3)).await;
            proxy.reload();
            sleep(SETTLED).await;
        }
    }

    /// Changes the true list.
    pub(super) fn publish(&self, change: impl FnOnce(&mut List)) {
        let mut list = List::clone(&self.truth.borrow());
        change(&mut list);
        self.world.note(format_args!("the list is to be {list:?}"));
        self.truth.replace(Rc::new(list));
        self.changed.notify_waiters();
    }

    pub(super) fn restart(&self, backend: usize) {
        if self.wanted.borrow().contains(&backend) {
            self.backends[backend].start();
        }
    }

    pub(super) async fn restart_proxy(self: Rc<Self>, proxy: usize, mut time: Duration) {
        while !self.proxies[proxy].is_ready() {
            sleep(time).await;
            self.proxies[proxy].start();
            time = Duration::from_millis(100); // it has not ended yet, or its file is garbage just now
        }
    }

    pub(super) fn cut(&self, proxy: usize, backend: usize, cut: bool) {
        let now = self.world.now();
        let (one, other) = self.ends(proxy, backend);
        let mut history = self.world.history_mut();
        let Some(spans) = history.cut.get_mut(&(proxy, backend)) else {
            return;
        };
        if cut {
            spans.begin(now);
        } else {
            spans.end(now);
        }
        drop(history);
        if cut {
            simulated::cut(one, other);
        } else {
            simulated::mend(one, other);
        }
    }

    pub(super) fn cut_from_all(&self, backend: usize, cut: bool) {
        for proxy in 0..self.proxies.len() {
            self.cut(proxy, backend, cut);
        }
    }

    pub(super) fn slow_link(&self, proxy: usize, backend: usize, extra: Duration) {
        let (one, other) = self.ends(proxy, backend);
        simulated::slow(one, other, extra);
    }

    fn ends(&self, proxy: usize, backend: usize) -> (std::net::IpAddr, std::net::IpAddr) {
        let proxy = self.proxies[proxy].machine.address;
        (proxy, world::backend(backend).address)
    }

    fn heal(self: &Rc<Self>) {
        self.world.note(format_args!("all faults end"));
        let wanted = self.wanted.borrow().clone();
        for backend in &self.backends {
            backend.freeze(false);
            backend.slow(Duration::ZERO);
            self.cut_from_all(backend.index, false);
            for proxy in 0..self.proxies.len() {
                self.slow_link(proxy, backend.index, Duration::ZERO);
            }
            if wanted.contains(&backend.index) {
                backend.start();
            }
        }
        for proxy in 0..self.proxies.len() {
            self.proxies[proxy].reload(); // the file takes back what was drained by hand
            spawn_local(Rc::clone(self).restart_proxy(proxy, Duration::ZERO));
        }
    }

    pub fn stop(&self) {
        for proxy in self.proxies.iter() {
            proxy.kill();
        }
        for backend in &self.backends {
            backend.kill();
        }
    }
}
