//! The backends of one pool as the table knows them, and where on its rings they are.

use std::{sync::Arc, time::Instant};

use super::Rings;
use crate::{
    backend::{Backend, BackendId, Name},
    config::{self, Placement},
    health::Vital,
    observe::traffic::Traffic,
    ring::{Coordinate, Member, Nodes, hash},
    router::placement::{Candidate, Candidates, Load},
};

/// A backend as the table knows it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What connections to it are kept by.
    pub id: BackendId,
    /// Its name, address, weight and admission.
    pub backend: Backend,
    /// Its virtual nodes.
    pub nodes: Arc<Nodes>,
    /// What it has to do.
    pub load: Arc<Load>,
    /// What it was asked.
    pub traffic: Arc<Traffic>,
    /// How it stands to the list of backends.
    pub standing: Standing,
    /// Whether it was drained and what it held is lost.
    pub drained: bool,
    /// When what it holds will be lost, if that is known.
    pub ends_at: Option<Instant>,
    /// How well it is.
    pub vital: Vital,
    /// Whether it was ever lost in the life of this process, or is: its sessions may be elsewhere.
    pub was_lost: bool,
    /// Whether it is to be told when it answers: see [`crate::health::State::wants_good_news`].
    pub wants_good_news: bool,
    /// Since when no connection could be made to it.
    pub down_since: Option<Instant>,
}

/// How a backend stands to the list of backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// On the list, and other proxies will have noticed.
    Listed,
    /// On the list for so short a time that other proxies may not know it.
    Joining,
    /// No longer on the list; its pins are still tried.
    Departed,
}

/// The backends that serve one host and path.
#[derive(Debug)]
pub struct Pool {
    /// Its name, what it matches, and its options.
    pub options: config::Pool,
    /// What was asked of it and came to no backend.
    pub traffic: Arc<Traffic>,
    entries: Vec<Entry>,
    rings: Arc<Rings>,
    /// Those that take new work.
    candidates: Candidates,
    /// Those of them that come first: none, unless placement is local-first.
    local: Candidates,
}

impl Pool {
    /// Builds a pool of `entries`, of which there is none as long as nobody was discovered. They are the members of
    /// `rings`, in the same order. `traffic` counts what comes to none of them.
    #[must_use]
    pub fn new(
        options: config::Pool,
        entries: Vec<Entry>,
        rings: Arc<Rings>,
        traffic: Arc<Traffic>,
    ) -> Self {
        let settled = |entry: &Entry| entry.standing == Standing::Listed;
        let listed = |entry: &Entry| entry.standing != Standing::Departed;
        let open = |wanted: &dyn Fn(&Entry) -> bool| -> Candidates {
            let open = |entry: &Entry| {
                wanted(entry) && entry.backend.admission == crate::backend::Admission::Open
            };
            (0..)
                .zip(&entries)
                .filter(|(_, entry)| open(entry))
                .map(|(member, entry)| entry.candidate(member))
                .collect()
        };
        let healthy = |entry: &Entry| entry.vital == Vital::Healthy;
        // Health never takes the last one out: who is down is found out by trying.
        let ranks: [&dyn Fn(&Entry) -> bool; 4] = [
            &|entry| settled(entry) && healthy(entry),
            &|entry| listed(entry) && healthy(entry),
            &settled,
            &listed,
        ];
        let candidates = ranks
            .into_iter()
            .map(open)
            .find(|found| !found.is_empty())
            .unwrap_or_default();
        let is_local = |entry: &Entry| {
            options.placement == Placement::LocalFirst
                && settled(entry)
                && healthy(entry)
                && options
                    .local
                    .as_ref()
                    .is_some_and(|local| local.is(&entry.backend))
        };
        let local = open(&is_local);
        Self {
            options,
            traffic,
            rings,
            candidates,
            local,
            entries,
        }
    }

    /// One of its backends.
    #[must_use]
    pub fn entry(&self, member: Member) -> &Entry {
        &self.entries[member as usize]
    }

    /// All its backends.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The backend that has a virtual node at exactly this position.
    #[must_use]
    pub fn exact(&self, coordinate: Coordinate) -> Option<Member> {
        self.rings.exact.as_ref()?.exact(coordinate)
    }

    /// The coordinate that a string of this member is pinned to.
    ///
    /// # Panics
    ///
    /// If it is no member.
    #[must_use]
    pub fn coordinate_for(&self, member: Member, string: &[u8]) -> Coordinate {
        let ring = self.rings.exact.as_ref();
        let ring = ring.expect("the pool of a member has one");
        ring.coordinate_for(member, &self.entry(member).nodes, string)
    }

    /// The first at or after this position that takes new work, was not tried, and is healthy if anybody is.
    #[must_use]
    pub fn successor(&self, position: Coordinate, tried: &[Member]) -> Option<Member> {
        let takes_work =
            |member: &Member| !tried.contains(member) && self.candidates.contains(*member);
        self.rings.exact.as_ref()?.walk(position).find(takes_work)
    }

    /// Whether a backend with this virtual node was here and is gone for good.
    #[must_use]
    pub fn has_lost(&self, coordinate: Coordinate) -> bool {
        self.rings
            .lost
            .as_ref()
            .is_some_and(|lost| lost.exact(coordinate).is_some())
    }

    /// The name of the backend that has, or had, a virtual node at exactly this position.
    #[must_use]
    pub fn name_at(&self, coordinate: Coordinate) -> Option<&Name> {
        if let Some(member) = self.exact(coordinate) {
            return Some(&self.entry(member).backend.name);
        }
        let gone = self.rings.lost.as_ref()?.exact(coordinate)?;
        Some(self.rings.lost_nodes[gone as usize].name())
    }

    /// The backend that an id without a pin belongs to, if there is any.
    #[must_use]
    pub fn unpinned_owner(&self, position: Coordinate) -> Option<Member> {
        Some(self.rings.unpinned.as_ref()?.successor(position))
    }

    /// The part of the ring that each of its backends has, from 0 to 1, by their order: ids without a pin go there.
    #[must_use]
    pub fn shares(&self) -> Vec<f64> {
        let unpinned = self.rings.unpinned.as_ref();
        unpinned.map_or_else(Vec::new, |ring| ring.shares(self.entries.len()))
    }

    /// The backends that take new work.
    #[must_use]
    pub fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// Those of them that are asked before the others.
    #[must_use]
    pub fn local(&self) -> &Candidates {
        &self.local
    }

    /// The first on the ring from the pool's name on that takes new work and was not tried: the same in
    /// every proxy with the same list.
    #[must_use]
    pub fn home(&self, tried: &[Member]) -> Option<Member> {
        let position = hash::position(self.options.name.as_bytes());
        self.successor(position, tried)
    }
}

impl Entry {
    fn candidate(&self, member: Member) -> Candidate {
        Candidate {
            member,
            weight: self.backend.weight,
            load: Arc::clone(&self.load),
        }
    }
}
