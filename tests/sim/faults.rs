//! What goes wrong, and what operators do meanwhile: crashes, cuts, stops, new lists, and their ends.

use std::{rc::Rc, time::Duration};

use fastrand::Rng;
use tokio::{task::spawn_local, time::sleep};

use super::{
    history::{List, Listed},
    site::{KEYS, Site},
};

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// A backend's process dies and is started again.
    Crash,
    /// Its machine is gone without a word, and comes back.
    PowerLoss,
    /// The link between one proxy and one backend is cut.
    Cut,
    /// The links of all proxies to one backend are.
    CutFromAll,
    /// A backend's process is stopped; its kernel goes on accepting.
    Freeze,
    /// A backend takes long for each answer.
    Slow,
    /// Packets take long.
    SlowLink,
    /// A backend takes no new work for a while.
    Drain,
    /// Some proxies are asked to drain a backend, and at times not to any more.
    AdminDrain,
    /// A backend comes, or comes back.
    ScaleUp,
    /// A backend leaves the list and ends.
    ScaleDown,
    /// The list has another order and other weights.
    Reweigh,
    /// There is a new secret.
    Keys,
    /// A proxy's process dies and is started again.
    CrashProxy,
    /// A proxy is asked to end, and started again.
    StopProxy,
}

const FAULT_KINDS: [Fault; 15] = [
    Fault::Crash,
    Fault::PowerLoss,
    Fault::Cut,
    Fault::CutFromAll,
    Fault::Freeze,
    Fault::Slow,
    Fault::SlowLink,
    Fault::Drain,
    Fault::AdminDrain,
    Fault::ScaleUp,
    Fault::ScaleDown,
    Fault::Reweigh,
    Fault::Keys,
    Fault::CrashProxy,
    Fault::StopProxy,
];

impl Site {
    /// Lets one thing go wrong, and sees to its end.
    pub(super) fn strike(self: &Rc<Self>) {
        let fault = self.random(|random| *random.choice(&FAULT_KINDS).unwrap());
        let wanted: Vec<usize> = self.wanted.borrow().iter().copied().collect();
        let backend = self.random(|random| *random.choice(&wanted).unwrap());
        let proxy = self.random(|random| random.usize(..self.proxies.len()));
        self.world
            .note(format_args!("fault: {fault:?} (b{backend}, p{proxy})"));
        self.world.count(&format!("fault {fault:?}"));
        match fault {
            Fault::Crash => self.crash(backend),
            Fault::PowerLoss => {
                self.cut_from_all(backend, true);
                self.backends[backend].kill();
                self.later(self.millis(300, 5000), move |site| {
                    site.cut_from_all(backend, false);
                    site.restart(backend);
                });
            }
            Fault::Cut => {
                self.cut(proxy, backend, true);
                self.later(self.millis(50, 6000), move |site| {
                    site.cut(proxy, backend, false)
                });
            }
            Fault::CutFromAll => {
                self.cut_from_all(backend, true);
                self.later(self.millis(50, 6000), move |site| {
                    site.cut_from_all(backend, false)
                });
            }
            Fault::Freeze => {
                self.backends[backend].freeze(true);
                self.later(self.millis(50, 4000), move |site| {
                    site.backends[backend].freeze(false)
                });
            }
            Fault::Slow => {
                self.backends[backend].slow(self.millis(50, 2500));
                self.later(self.millis(100, 3000), move |site| {
                    site.backends[backend].slow(Duration::ZERO);
                });
            }
            Fault::SlowLink => {
                self.slow_link(proxy, backend, self.millis(5, 60));
                self.later(self.millis(100, 3000), move |site| {
                    site.slow_link(proxy, backend, Duration::ZERO);
                });
            }
            Fault::Drain => self.drain(backend),
            Fault::AdminDrain => self.admin_drain(proxy, backend),
            Fault::ScaleUp => self.scale_up(),
            Fault::ScaleDown => self.scale_down(backend),
            Fault::Reweigh => {
                let weight = self.random(|random| random.u16(1..5));
                self.publish(|list| {
                    list.backends.rotate_left(1);
                    list.backends[0].weight = weight;
                });
            }
            Fault::Keys => self.next_keys(),
            Fault::CrashProxy => {
                self.proxies[proxy].kill();
                let time = self.millis(20, 1500);
                spawn_local(Rc::clone(self).restart_proxy(proxy, time));
            }
            Fault::StopProxy => {
                self.proxies[proxy].stop();
                spawn_local(Rc::clone(self).restart_proxy(proxy, self.millis(20, 1500)));
            }
        }
    }

    /// Undoes something after `time`.
    fn later(self: &Rc<Self>, time: Duration, undo: impl FnOnce(&Rc<Self>) + 'static) {
        let site = Rc::clone(self);
        spawn_local(async move {
            sleep(time).await;
            undo(&site);
        });
    }

    fn crash(self: &Rc<Self>, backend: usize) {
        self.backends[backend].kill();
        // At times it is back before anybody has noticed.
        let time = if self.random(Rng::bool) {
            self.millis(1, 300)
        } else {
            self.millis(300, 5000)
        };
        self.later(time, move |site| site.restart(backend));
    }

    /// Whether somebody else takes new work.
    fn can_go(&self, backend: usize) -> bool {
        let truth = self.truth.borrow();
        let mut open = truth.backends.iter().filter(|listed| !listed.draining);
        open.any(|listed| listed.backend != backend)
    }

    fn drain(self: &Rc<Self>, backend: usize) {
        if !self.can_go(backend) {
            return;
        }
        let set = move |list: &mut List, draining| {
            let found = list
                .backends
                .iter_mut()
                .find(|listed| listed.backend == backend);
            if let Some(listed) = found {
                listed.draining = draining;
            }
        };
        self.publish(|list| set(list, true));
        self.later(self.millis(500, 6000), move |site| {
            site.publish(|list| set(list, false))
        });
    }

    /// As an operator does before he takes a backend away, or replaces it.
    fn admin_drain(self: &Rc<Self>, proxy: usize, backend: usize) {
        if !self.can_go(backend) {
            return;
        }
        let within = match self.random(|random| random.u8(0..4)) {
            0 => None,
            1 => Some(Duration::ZERO),
            _ => Some(self.millis(200, 4000)),
        };
        let everywhere = self.random(Rng::bool);
        let undrain = self.random(Rng::bool).then(|| self.millis(100, 6000));
        let asked = self.proxies.iter();
        for proxy in asked.filter(|asked| everywhere || asked.index == proxy) {
            let proxy = Rc::clone(proxy);
            spawn_local(async move {
                proxy.drain(backend, within).await;
                if let Some(time) = undrain {
                    sleep(time).await;
                    proxy.undrain(backend).await;
                }
            });
        }
    }

    fn scale_up(self: &Rc<Self>) {
        let spare = |backend: &usize| self.truth.borrow().find(*backend).is_none();
        let Some(backend) = (0..self.backends.len()).find(spare) else {
            return;
        };
        self.wanted.borrow_mut().insert(backend);
        self.backends[backend].start();
        self.publish(|list| {
            list.backends.push(Listed {
                backend,
                weight: 1,
                draining: false,
            });
        });
    }

    /// Takes a backend away: at times its process ends before the list says so.
    fn scale_down(self: &Rc<Self>, backend: usize) {
        if !self.can_go(backend) || self.truth.borrow().find(backend).is_none() {
            return;
        }
        self.publish(|list| list.backends.retain(|listed| listed.backend != backend));
        let end = move |site: &Rc<Self>| {
            if site.truth.borrow().find(backend).is_none() {
                site.wanted.borrow_mut().remove(&backend);
                site.backends[backend].kill();
            }
        };
        if self.random(|random| random.u8(..) < 80) {
            end(self);
        } else {
            self.later(self.millis(100, 4000), end);
        }
    }

    /// A further key: behind the others first, as is right, or in front of them at once.
    fn next_keys(self: &Rc<Self>) {
        let newest = self.truth.borrow().keys.len();
        if newest == KEYS {
            return;
        }
        let to_front = move |list: &mut List| {
            list.keys.retain(|key| *key != newest);
            list.keys.insert(0, newest);
        };
        if self.random(Rng::bool) {
            self.publish(to_front);
        } else {
            self.publish(|list| list.keys.push(newest));
            self.later(self.millis(0, 3000), move |site| site.publish(to_front));
        }
    }
}
