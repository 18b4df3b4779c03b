//! Sessions whose handshake a proxy has repeated: where each of them is, by what backends have seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    history::{Asked, At},
    oracle,
};

/// A request that was sent so long ago is at its proxy.
const AT_PROXY: Duration = Duration::from_millis(20);

/// A session as one process of one proxy knows it: the proxy, its life, and the name that the first backend gave it.
pub type Known = (usize, usize, String);

/// A handshake that was begun again.
#[derive(Debug)]
pub struct Replay {
    pub of: Known,
    pub backend: usize,
    /// The number of the request that carried its credentials.
    pub led_by: u64,
    pub at: At,
    /// What the backend calls the session.
    pub id: String,
    /// When `notifications/initialized` came.
    pub initialized: Option<At>,
    /// When the first request came.
    pub settled: Option<At>,
}

#[derive(Debug, Default)]
pub struct Renewals {
    /// By whom each session was opened, and the number of its `initialize`.
    pub began: BTreeMap<String, (usize, usize, u64)>,
    pub replays: Vec<Replay>,
    /// What a backend has told a proxy's process that it does not know.
    pub forgotten: BTreeSet<Known>,
    /// Sessions that may have been ended, and those that surely were.
    pub may_be_ended: BTreeSet<Known>,
    pub ended: BTreeMap<Known, At>,
}

impl Renewals {
    /// The replay that gave this id.
    pub fn find(&self, id: &str) -> Option<usize> {
        let mut replays = self.replays.iter();
        replays.position(|replay| replay.id == id)
    }

    pub fn of<'a>(&'a self, known: &'a Known) -> impl DoubleEndedIterator<Item = &'a Replay> {
        self.replays
            .iter()
            .filter(move |replay| replay.of == *known)
    }

    /// All names that the session may have had since it last surely had one, with their backends.
    pub fn current<'a>(&'a self, known: &'a Known) -> Vec<(usize, &'a str)> {
        let mut places = Vec::new();
        for replay in self.of(known).rev() {
            if replay.initialized.is_some() {
                places.push((replay.backend, replay.id.as_str()));
            }
            if replay.settled.is_some() {
                return places;
            }
        }
        places.extend(oracle::issuer(&known.2).map(|backend| (backend, known.2.as_str())));
        places
    }

    /// Whether that process has seen how the session began.
    pub fn is_recorded(&self, known: &Known) -> bool {
        let began = self.began.get(&known.2);
        began.is_some_and(|(proxy, run, _)| (*proxy, *run) == (known.0, known.1))
    }

    /// Whether the session went elsewhere from where it has this name.
    pub fn has_left(&self, known: &Known, id: Option<&str>) -> bool {
        id == Some(&known.2) && self.of(known).any(|replay| replay.settled.is_some())
    }

    /// Whether the session is somewhere else, surely, than where this name was given, for a request of `asked`.
    pub fn is_stale(&self, known: &Known, id: &str, asked: At) -> bool {
        let later = self.of(known).rev().take_while(|replay| replay.id != id);
        later
            .into_iter()
            .any(|replay| replay.settled.is_some_and(|settled| settled < asked))
    }

    /// Whether the answer to a request is rightly marked, or rightly not.
    pub fn is_mark_right(
        &self,
        number: u64,
        asked: &Asked,
        marked: bool,
        by_backend: bool,
    ) -> bool {
        let id = asked.reached.last().and_then(|(_, id)| id.as_deref());
        let replay = id.and_then(|id| self.find(id)).filter(|_| by_backend);
        let Some(replay) = replay.map(|index| &self.replays[index]) else {
            return !marked;
        };
        if marked {
            replay.settled.is_some_and(|settled| asked.at <= settled)
        } else {
            let waited = replay
                .initialized
                .is_some_and(|at| asked.at + AT_PROXY <= at);
            replay.led_by != number && !waited
        }
    }
}
