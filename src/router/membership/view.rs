//! What an operator is shown of each backend.

use std::time::Instant;

use super::{Drain, Known, Membership, State, after};
use crate::{
    backend::{Admission, Name},
    config::Config,
    health::Vital,
    router::table::{Entry, Standing},
};

/// One backend of one pool, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The pool's name.
    pub pool: String,
    /// The backend's.
    pub name: Name,
    /// How it stands.
    pub state: Shown,
    /// Why, where it does not take new work as the others do; else empty.
    pub why: &'static str,
    /// Since when, as far as tables have been published: see [`Membership::mark`].
    pub since: Instant,
    /// Where it listens.
    pub url: String,
    /// Its share of new work in proportion to the others.
    pub weight: u16,
    /// Whether it is on this machine, as `local` of its pool says.
    pub local: bool,
    /// Its live sessions, as far as this process knows them.
    pub sessions: u32,
    /// Its requests and streams that are under way.
    pub in_flight: u32,
    /// When what it holds will be lost, if that is known.
    pub ends_at: Option<Instant>,
    /// How many live sessions were lost when its drain was over.
    pub sessions_lost: Option<u32>,
    /// How many sessions it did not know though it had answered them a moment ago.
    pub forgotten: u64,
    /// Whether the file says that it takes no new work.
    pub draining_in_file: bool,
    /// From when on all live sessions are known: each has shown itself by a request, or is none any more.
    pub complete_at: Instant,
}

/// How a backend stands, in one word: of several that hold, what weighs most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Takes new work.
    Open,
    /// On the list for so short a time that other proxies may not know it.
    Joining,
    /// Unwell: gets no new work while others are healthy.
    Suspect,
    /// Takes no new work; what it holds goes on.
    Draining,
    /// No longer on the list; what it holds goes on for a while.
    Departed,
    /// Drained: what it held is lost.
    Drained,
    /// Down for so long that its sessions are lost until it is back.
    Lost,
}

impl Shown {
    /// All words.
    pub const WORDS: [&'static str; 7] = [
        Self::Open.as_str(),
        Self::Joining.as_str(),
        Self::Suspect.as_str(),
        Self::Draining.as_str(),
        Self::Departed.as_str(),
        Self::Drained.as_str(),
        Self::Lost.as_str(),
    ];

    /// How a backend stands that the table has so.
    #[must_use]
    pub fn of_entry(entry: &Entry) -> Self {
        let takes_work = entry.backend.admission == Admission::Open;
        Self::of(entry.drained, entry.vital, entry.standing, takes_work)
    }

    fn of(is_drained: bool, vital: Vital, standing: Standing, takes_work: bool) -> Self {
        match (vital, standing) {
            _ if is_drained => Self::Drained,
            (Vital::Lost, _) => Self::Lost,
            (_, Standing::Departed) => Self::Departed,
            _ if !takes_work => Self::Draining,
            (Vital::Suspect, _) => Self::Suspect,
            (Vital::Healthy, Standing::Joining) => Self::Joining,
            (Vital::Healthy, Standing::Listed) => Self::Open,
        }
    }

    /// The word for answers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Joining => "joining",
            Self::Suspect => "suspect",
            Self::Draining => "draining",
            Self::Departed => "departed",
            Self::Drained => "drained",
            Self::Lost => "lost",
        }
    }
}

impl Membership {
    /// All backends of all pools, in the order of the file, the departed behind. `config` is the one of the
    /// last [`Membership::update`].
    #[must_use]
    pub fn views(&self, config: &Config) -> Vec<View> {
        let mut views = Vec::new();
        for pool in &config.pools {
            let Some(members) = self.pools.get(&pool.name) else {
                continue;
            };
            let view = |known: &Known| View {
                pool: pool.name.clone(),
                name: known.backend.name.clone(),
                state: known.shown(),
                why: known.why(),
                since: known
                    .shown_since
                    .map_or(known.counted_since, |(_, since)| since),
                url: known.backend.endpoint.url(),
                weight: known.backend.weight.0.get(),
                local: pool
                    .local
                    .as_ref()
                    .is_some_and(|local| local.is(&known.backend)),
                sessions: known.load.sessions(),
                in_flight: known.load.in_flight(),
                ends_at: known.ends_at(),
                sessions_lost: match known.drain {
                    Drain::Over { sessions } => Some(sessions),
                    Drain::None | Drain::Asked { .. } => None,
                },
                forgotten: known.load.forgotten(),
                draining_in_file: known.backend.admission == Admission::Draining,
                complete_at: after(known.counted_since, pool.session_idle),
            };
            views.extend(members.known.iter().map(view));
        }
        views
    }
}

impl Membership {
    /// Notes since when each backend stands as it does: to be told of every change.
    pub fn mark(&mut self, now: Instant) {
        let known = self
            .pools
            .values_mut()
            .flat_map(|members| &mut members.known);
        for known in known {
            let shown = known.shown();
            if known.shown_since.is_none_or(|(before, _)| before != shown) {
                known.shown_since = Some((shown, now));
            }
        }
    }
}

impl Known {
    fn why(&self) -> &'static str {
        match self.shown() {
            Shown::Open => "",
            Shown::Joining => "new on the list: gets new work after join_delay",
            Shown::Suspect | Shown::Lost => self.health.cause(),
            Shown::Draining if self.drain == Drain::None => "draining = true in the file",
            Shown::Draining => "an operator drains it",
            Shown::Departed => "no longer on the list",
            Shown::Drained => "drained, and its time is over",
        }
    }

    fn shown(&self) -> Shown {
        let is_drained = matches!(self.drain, Drain::Over { .. });
        Shown::of(
            is_drained,
            self.health.vital(),
            self.state.standing(),
            self.takes_work(),
        )
    }

    pub(super) fn ends_at(&self) -> Option<Instant> {
        let departed = match self.state {
            State::Departed { until } => Some(until),
            State::Listed | State::Joining { .. } => None,
        };
        departed.into_iter().chain(self.drain.until()).min()
    }
}
