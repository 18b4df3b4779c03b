//! What may be answered, by what really happened: design, section 4, from the other side.

use std::time::Duration;

use super::{
    history::{Asked, At, History, List, Listed, Manner, Run, Spans},
    settings::{CONNECT, OPEN_HEAD, OnLoss, RESPONSE_HEAD, Settings},
};

/// A probe that has just begun when a backend returns, the next one, and their ways: until then a proxy may
/// take a backend for lost that is back. Likewise shorter returns may stay unseen.
const UNSEEN: Duration = Duration::from_millis(1000);

/// A few ways through the network.
const WAYS: Duration = Duration::from_millis(150);

/// What a client was told by pinring itself.
pub struct Told<'a> {
    pub status: u16,
    pub reason: &'a str,
}

/// The backend that made a session id.
pub fn issuer(own: &str) -> Option<usize> {
    own.strip_prefix('b')?.split('.').next()?.parse().ok()
}

/// One request, and what is known of it at a moment.
pub struct Case<'a> {
    settings: &'a Settings,
    history: &'a History,
    asked: &'a Asked,
    pace: f64,
    at: At,
}

impl<'a> Case<'a> {
    pub fn new(settings: &'a Settings, history: &'a History, asked: &'a Asked, at: At) -> Self {
        Self {
            settings,
            history,
            asked,
            pace: settings.proxies[asked.proxy],
            at,
        }
    }

    /// Judges an answer of pinring's own, which came at this moment.
    pub fn judge(&self, pin: &str, told: &Told<'_>) -> Result<(), String> {
        let forged = self.asked.manner == Manner::Forged;
        let legitimate = match (told.status, told.reason) {
            (404, "tag_invalid") => forged,
            // Without its key nobody can tell that a pin is forged.
            _ if forged && told.reason != "unknown_key" => false,
            (404, "backend_lost") => match self.settings.on_loss {
                OnLoss::Successor => false,
                OnLoss::NotFound => self.anyone(|backend| self.may_be_lost(backend)),
                OnLoss::Reinitialize => {
                    self.anyone(|backend| self.may_be_lost(backend)) && !self.must_come_back()
                }
            },
            (404, "unknown_coordinate") => self.of_session(|backend, _| {
                self.is_unknown(self.at, |list| list.find(backend).is_some())
                    && self.has_waited(pin)
            }),
            (404, "unknown_key") => self.of_session(|_, key| {
                self.is_unknown(self.at, |list| list.keys.contains(&key)) && self.has_waited(pin)
            }),
            (503, "unknown_coordinate") => self.of_session(|backend, _| {
                self.is_unknown(self.asked.at, |list| list.find(backend).is_some())
            }),
            (503, "unknown_key") => self.of_session(|_, key| {
                self.is_unknown(self.asked.at, |list| list.keys.contains(&key))
            }),
            // The call has failed, and its session goes on.
            (200, _) if self.settings.on_loss != OnLoss::Reinitialize => false,
            (503, "connect_refused" | "connect_timeout" | "connect_failed")
            | (200 | 502, "backend_closed") => self.anyone(|backend| self.was_away(backend)),
            (200 | 502, "backend_drained") => {
                let told_otherwise =
                    self.settings.on_loss == OnLoss::NotFound && self.asked.session.is_some();
                let may_end = |backend| self.run().drains.may_end(backend, self.asked.at, self.at);
                !told_otherwise && self.anyone(may_end)
            }
            (503, "no_backend") => {
                let elsewhere =
                    self.asked.session.is_none() || self.settings.on_loss == OnLoss::Successor;
                // Who was to take it was drained before it was sent, and the request's table knew nobody else.
                let may_end = |backend| self.run().drains.may_end(backend, self.asked.at, self.at);
                elsewhere && (self.may_lack(|_| true) || self.anyone(may_end))
            }
            (503, "not_reinitialized") => {
                // Its backend was drained while the request had not been sent yet.
                let may_end = |backend| self.run().drains.may_end(backend, self.asked.at, self.at);
                let is_ended = self.anyone(may_end);
                // A request that waits has an old table, in which whoever is back by now is not there yet: it is told
                // to come again.
                let waited = self.long(self.asked.at, self.at) > CONNECT;
                let waited = waited && self.settings.on_loss == OnLoss::Reinitialize;
                let is_gone = self.may_come_back() && self.is_gone_anywhere();
                is_ended || waited || is_gone && self.may_find_nobody()
            }
            (504, "backend_timeout") => {
                let shortest = if self.asked.session.is_some() {
                    RESPONSE_HEAD.min(OPEN_HEAD)
                } else {
                    OPEN_HEAD
                };
                self.long(self.asked.at, self.at) >= shortest
                    && self.anyone(|backend| self.was_away(backend) || self.was_slow(backend))
            }
            _ => false,
        };
        if legitimate {
            Ok(())
        } else {
            Err(format!("{} {} is not justified", told.status, told.reason))
        }
    }

    /// When the request arrives.
    pub fn at(&self) -> At {
        self.at
    }

    /// Whether this proxy may take a backend for lost: it could not connect for long enough, or the backend was
    /// taken off its list for long enough, or was drained and its time is over.
    pub fn may_be_lost(&self, backend: usize) -> bool {
        let drains = &self.run().drains;
        self.was_down(backend)
            || self.was_removed(backend)
            || drains.may_be_over(backend, self.asked.at, self.at)
    }

    /// Whether its proxy has had all that it takes to bring the session back for this request.
    fn may_come_back(&self) -> bool {
        self.settings.on_loss == OnLoss::Reinitialize
            && self.asked.may_be_repeated()
            && self.history.renewals.is_recorded(&self.asked.known())
    }

    /// Whether it surely still has.
    pub fn must_come_back(&self) -> bool {
        let ended = &self.history.renewals.may_be_ended;
        self.may_come_back() && !ended.contains(&self.asked.known())
    }

    /// Whether the session may be lost where it was.
    fn is_gone_anywhere(&self) -> bool {
        let (proxy, run, _) = self.asked.known();
        let forgotten = |id: &str| {
            let forgotten = &self.history.renewals.forgotten;
            forgotten.contains(&(proxy, run, id.to_owned()))
        };
        let mut places = self.places().into_iter();
        places.any(|(backend, id)| self.may_be_lost(backend) || forgotten(id))
    }

    /// Whether a handshake may fail wherever it is tried.
    fn may_find_nobody(&self) -> bool {
        let (proxy, run, _) = self.asked.known();
        let places = self.places();
        // Nobody tries where the session is lost with its backend.
        let is_left = |backend: usize| {
            let mut its = places.iter().filter(|(place, _)| *place == backend);
            its.all(|(_, id)| {
                let forgotten = (proxy, run, (*id).to_owned());
                let forgotten = self.history.renewals.forgotten.contains(&forgotten);
                forgotten || !self.may_be_lost(backend)
            })
        };
        let fails = |backend| self.was_away(backend) || self.was_slow(backend);
        let mut all = 0..self.history.down.len();
        all.any(|backend| is_left(backend) && fails(backend)) || self.may_lack(is_left)
    }

    /// Whether it may be that no backend for which this holds takes new work.
    fn may_lack(&self, holds: impl Fn(usize) -> bool) -> bool {
        let drains = &self.run().drains;
        let takes_none = |listed: &Listed| {
            listed.draining
                || !holds(listed.backend)
                || drains.may_refuse(listed.backend, self.asked.at, self.at)
        };
        let mut lists = self.run().possible(self.asked.at, self.at);
        lists.any(|list| list.backends.iter().all(takes_none))
    }

    /// Whether a backend may not have answered a handshake that was begun at `since`.
    pub fn was_disturbed(&self, backend: usize, since: At) -> bool {
        let from = since.saturating_sub(UNSEEN);
        let cut = &self.history.cut[&(self.asked.proxy, backend)];
        let mut spans = [
            cut,
            &self.history.down[backend],
            &self.history.slow[backend],
        ]
        .into_iter();
        spans.any(|spans| spans.overlap(from, self.at))
            || self.run().drains.may_end(backend, since, self.at)
    }

    fn of_session(&self, holds: impl Fn(usize, usize) -> bool) -> bool {
        let session = self.asked.session.as_ref();
        session.is_some_and(|(own, key)| issuer(own).is_some_and(|backend| holds(backend, *key)))
    }

    /// For the backends where the session is or was; for all that the request may have gone to, if it has none.
    fn anyone(&self, holds: impl Fn(usize) -> bool) -> bool {
        match &self.asked.session {
            Some(_) if self.settings.on_loss != OnLoss::Successor => {
                let mut places = self.places().into_iter();
                places.any(|(backend, _)| holds(backend))
            }
            Some(_) | None => (0..self.history.down.len()).any(holds),
        }
    }

    /// Where the session has been, as this proxy knows it, and what it was called there.
    fn places(&self) -> Vec<(usize, &str)> {
        let Some((own, _)) = &self.asked.session else {
            return Vec::new();
        };
        let known = self.asked.known();
        let replays = &self.history.renewals.replays;
        let its = replays.iter().filter(|replay| replay.of == known);
        let moved = its.map(|replay| (replay.backend, replay.id.as_str()));
        let issuer = issuer(own).map(|backend| (backend, own.as_str()));
        issuer.into_iter().chain(moved).collect()
    }

    fn run(&self) -> &Run {
        self.history.run(self.asked.proxy, self.asked.run)
    }

    /// A stretch of time by the proxy's own clock, a little more than it can have seen of it.
    fn long(&self, from: At, to: At) -> Duration {
        to.saturating_sub(from).mul_f64(self.pace) + Duration::from_millis(20)
    }

    fn was_down(&self, backend: usize) -> bool {
        let (down, cut) = (
            &self.history.down[backend],
            &self.history.cut[&(self.asked.proxy, backend)],
        );
        let outages = |spans: &[&Spans]| Spans::joined(spans, self.run().from, self.at, UNSEEN);
        let refused = outages(&[down]);
        outages(&[down, cut]).into_iter().any(|(begin, end)| {
            let long = |begin: At, end: At| self.long(begin, end.min(self.at));
            // Once lost, it stays so until a connection can be made again.
            let mut refused = refused
                .iter()
                .filter(|(from, _)| (begin..=end).contains(from));
            self.at <= end + UNSEEN
                && (long(begin, end) >= self.settings.unreachable_after
                    || refused.any(|(begin, end)| long(*begin, *end) >= self.settings.loss_after))
        })
    }

    /// Whether it was on the list, may have been taken off it, and not have come back, for `departed`.
    fn was_removed(&self, backend: usize) -> bool {
        let mut absent = None;
        let mut was_listed = false;
        for taken in &self.run().lists {
            let listed = taken.list.find(backend).is_some();
            if !listed && was_listed && absent.is_none() {
                absent = Some(taken.may);
            }
            let over = taken.surely.is_some_and(|surely| surely + WAYS < self.at);
            if listed && over {
                absent = None;
            }
            was_listed |= listed;
        }
        absent.is_some_and(|since| self.long(since, self.at) >= self.settings.departed)
    }

    /// Whether the proxy's process may never have had a list for which this holds.
    fn is_unknown(&self, at: At, known: impl Fn(&List) -> bool) -> bool {
        !self.run().surely_had(at, known)
    }

    fn has_waited(&self, pin: &str) -> bool {
        let first = self.run().pins.get(pin);
        first.is_some_and(|first| self.long(*first, self.at) >= self.settings.unknown_grace)
    }

    /// Whether no connection could be had, or an old one was lost, while the request was under way or shortly
    /// before.
    fn was_away(&self, backend: usize) -> bool {
        let from = self.asked.at.saturating_sub(UNSEEN);
        let cut = &self.history.cut[&(self.asked.proxy, backend)];
        self.history.down[backend].overlap(from, self.at) || cut.overlap(from, self.at)
    }

    fn was_slow(&self, backend: usize) -> bool {
        self.history.slow[backend].overlap(self.asked.at, self.at)
    }
}
