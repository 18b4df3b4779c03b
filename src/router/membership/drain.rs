//! Backends that an operator drains: no new work, and from a known moment on nothing at all.
//!
//! This is beside the file's `draining = true`, which has no end of its own and is for all proxies.

use std::{sync::Arc, time::Instant};

use super::{Known, Members, Membership, State, View};
use crate::{
    backend::{Admission, Name},
    config::{self, Config},
    health::Vital,
    router::placement::Load,
};

/// How far a backend's drain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Drain {
    /// Nobody asked for one.
    #[default]
    None,
    /// It gets no new work; what it holds at `until` is lost. `None`: no such time.
    Asked { until: Option<Instant> },
    /// What it held is lost.
    Over {
        /// How many live sessions that were.
        sessions: u32,
    },
}

impl Drain {
    /// When what is left will be lost.
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            Self::Asked { until } => until,
            Self::None | Self::Over { .. } => None,
        }
    }
}

/// A backend whose sessions are lost from now on.
#[derive(Debug)]
pub struct Lost {
    /// Which.
    pub name: Name,
    /// Of which pool.
    pub pool: String,
    /// Why.
    pub why: WhyLost,
    /// What counted its work until now; work that begins from now on is counted elsewhere.
    pub load: Arc<Load>,
}

/// Why the sessions of a backend are lost, other than by its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyLost {
    /// It was taken off the list, and its time has run out. What is open goes on: nobody wanted it to end.
    Departed,
    /// It was drained, and its time has run out. What is open ends too.
    Drained,
}

/// What a change has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The backend as it stands now; one that is being removed may stand in several pools.
    pub views: Vec<View>,
    /// How many backends of its pool are left that take new work and are not known to be down.
    pub open_left: usize,
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unchanged {
    /// No backend has that name. These are there.
    Unknown(Vec<Name>),
    /// The file says that it is draining.
    ByFile,
    /// It is no longer in the file.
    Departed,
}

impl Membership {
    /// Gives a backend no new work, and lets it lose what it holds at `until`: see [`Membership::advance`]. One
    /// that has departed may lose it earlier so.
    ///
    /// # Errors
    ///
    /// If there is no such backend.
    pub fn drain(&mut self, name: &str, until: Option<Instant>) -> Result<(), Unchanged> {
        for known in self.named(name)? {
            match known.drain {
                Drain::Over { .. } => {}
                Drain::None | Drain::Asked { .. } => known.drain = Drain::Asked { until },
            }
        }
        Ok(())
    }

    /// Takes a drain back, also one that is over.
    ///
    /// # Errors
    ///
    /// If there is no such backend, or it takes no new work for another reason.
    pub fn undrain(&mut self, name: &str, now: Instant) -> Result<(), Unchanged> {
        let its = self.named(name)?;
        // One that was moved to another pool is listed there, and has departed from the one before.
        let mut listed = its.iter().filter(|known| known.is_listed()).peekable();
        if listed.peek().is_none() {
            return Err(Unchanged::Departed);
        }
        if listed.any(|known| known.backend.admission == Admission::Draining) {
            return Err(Unchanged::ByFile);
        }
        for known in its {
            known.take_drain_back(now);
        }
        Ok(())
    }

    /// Takes back the drains of backends that the file wants open. Gives their names.
    pub fn follow_file(&mut self, config: &Config, now: Instant) -> Vec<Name> {
        let wanted_open = |name: &Name| {
            let mut backends = config.pools.iter().flat_map(|pool| &pool.backends);
            backends.any(|backend| backend.name == *name && backend.admission == Admission::Open)
        };
        let known = self
            .pools
            .values_mut()
            .flat_map(|members| &mut members.known);
        let undone =
            known.filter(|known| known.drain != Drain::None && wanted_open(&known.backend.name));
        undone
            .map(|known| {
                known.take_drain_back(now);
                known.backend.name.clone()
            })
            .collect()
    }

    /// How a backend stands after a change.
    #[must_use]
    pub fn changed(&self, name: &str, config: &Config) -> Changed {
        let mut views = self.views(config);
        views.retain(|view| view.name.as_str() == name);
        let lists_it = |pool: &&config::Pool| {
            let mut backends = pool.backends.iter();
            backends.any(|backend| backend.name.as_str() == name)
        };
        // What it has departed from is its pool only while no other has it: names are unique over all pools.
        let is_listed = config.pools.iter().any(|pool| lists_it(&pool));
        let is_its = |pool: &&config::Pool| {
            if is_listed {
                lists_it(pool)
            } else {
                views.iter().any(|view| view.pool == pool.name)
            }
        };
        let pools = config.pools.iter().filter(is_its);
        let known = pools.filter_map(|pool| self.pools.get(&pool.name));
        let known = known.flat_map(|members| &members.known);
        let is_open = |known: &&Known| {
            let is_well = known.health.vital() == Vital::Healthy;
            known.is_listed() && known.takes_work() && is_well
        };
        Changed {
            open_left: known.filter(is_open).count(),
            views,
        }
    }

    fn named(&mut self, name: &str) -> Result<Vec<&mut Known>, Unchanged> {
        let is_named = |known: &Known| known.backend.name.as_str() == name;
        if !self
            .pools
            .values()
            .flat_map(|members| &members.known)
            .any(is_named)
        {
            let known = self.pools.values().flat_map(|members| &members.known);
            let mut names: Vec<Name> = known.map(|known| known.backend.name.clone()).collect();
            names.sort_unstable();
            names.dedup();
            return Err(Unchanged::Unknown(names));
        }
        let known = self
            .pools
            .values_mut()
            .flat_map(|members| &mut members.known);
        Ok(known.filter(|known| is_named(known)).collect())
    }
}

impl Members {
    /// Lets those lose what they hold whose time has come.
    pub(super) fn end_drains(&mut self, pool: &str, now: Instant, lost: &mut Vec<Lost>) {
        let is_due = |known: &Known| known.drain.until().is_some_and(|until| until <= now);
        let drained = |known: &Known, load| Lost {
            name: known.backend.name.clone(),
            pool: pool.to_owned(),
            why: WhyLost::Drained,
            load,
        };
        let gone = |known: &mut Known| !known.is_listed() && is_due(known);
        for known in self.known.extract_if(.., gone) {
            lost.push(drained(&known, Arc::clone(&known.load)));
            self.lost.push(known.nodes);
        }
        for known in self.known.iter_mut().filter(|known| is_due(known)) {
            let next = known.load.successor();
            let load = std::mem::replace(&mut known.load, next);
            known.was_lost = true;
            known.drain = Drain::Over {
                sessions: load.sessions(),
            };
            lost.push(drained(known, load));
        }
    }
}

impl Known {
    /// Whether it may get new work, be it well or not.
    pub(super) fn takes_work(&self) -> bool {
        self.backend.admission == Admission::Open && self.drain == Drain::None
    }

    /// Whether the file has it in this pool.
    fn is_listed(&self) -> bool {
        !matches!(self.state, State::Departed { .. })
    }

    fn take_drain_back(&mut self, now: Instant) {
        if matches!(self.drain, Drain::Over { .. }) {
            self.counted_since = now; // its sessions were forgotten, and those that outlived that show themselves anew
        }
        self.drain = Drain::None;
    }
}

#[cfg(test)]
mod tests;
