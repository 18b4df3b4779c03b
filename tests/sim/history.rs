//! What really happened, as only the simulation knows it: who was up, which links were cut, what each proxy was
//! told and when, and which request reached whom.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use http::Method;

use super::{
    drains::Drains,
    renewals::{Known, Renewals},
    settings::DRAIN,
};

/// A time since the simulation began.
pub type At = Duration;

/// Stretches of time in which something held, in order.
#[derive(Debug, Default)]
pub struct Spans(Vec<(At, Option<At>)>);

impl Spans {
    pub fn begin(&mut self, at: At) {
        if !self.is_open() {
            self.0.push((at, None));
        }
    }

    pub fn end(&mut self, at: At) {
        if let Some((_, until @ None)) = self.0.last_mut() {
            *until = Some(at);
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.0.last(), Some((_, None)))
    }

    pub fn overlap(&self, from: At, to: At) -> bool {
        let mut spans = self.0.iter();
        spans.any(|(begin, end)| *begin <= to && end.is_none_or(|end| from <= end))
    }

    /// The stretches after `from` of several at once, those with a gap of up to `gap` taken as one. What has
    /// not ended has until `to`.
    pub fn joined(all: &[&Self], from: At, to: At, gap: Duration) -> Vec<(At, At)> {
        let spans = all.iter().flat_map(|spans| &spans.0);
        let mut spans: Vec<(At, At)> = spans
            .map(|(begin, end)| (*begin.max(&from), end.unwrap_or(to)))
            .filter(|(begin, end)| begin < end)
            .collect();
        spans.sort();
        let mut joined: Vec<(At, At)> = Vec::new();
        for (begin, end) in spans {
            match joined.last_mut() {
                Some((_, last)) if begin <= *last + gap => *last = (*last).max(end),
                Some(_) | None => joined.push((begin, end)),
            }
        }
        joined
    }
}

/// One list of backends and keys, as an operator writes it.
#[derive(Debug, Clone, Default)]
pub struct List {
    pub backends: Vec<Listed>,
    /// Numbers of keys; the first signs.
    pub keys: Vec<usize>,
}

#[derive(Debug, Clone)]
pub struct Listed {
    pub backend: usize,
    pub weight: u16,
    pub draining: bool,
}

impl List {
    pub fn find(&self, backend: usize) -> Option<&Listed> {
        self.backends
            .iter()
            .find(|listed| listed.backend == backend)
    }

    pub fn is_open(&self, backend: usize) -> bool {
        self.find(backend).is_some_and(|listed| !listed.draining)
    }
}

/// A list in a proxy's file: it may have been read from `may` on, and has been from `surely` on.
#[derive(Debug)]
pub struct Taken {
    pub list: Rc<List>,
    pub may: At,
    pub surely: Option<At>,
}

/// One life of a proxy's process.
#[derive(Debug)]
pub struct Run {
    pub from: At,
    pub until: Option<At>,
    /// When it was asked to end.
    pub stopping: Option<At>,
    pub killed: bool,
    /// The last reload is over by then.
    pub reloaded: At,
    pub lists: Vec<Taken>,
    /// When each pin was first shown to it.
    pub pins: BTreeMap<String, At>,
    /// What it was told through its admin socket.
    pub drains: Drains,
}

impl Run {
    /// The lists that may be in force at some time from `from` to `to`.
    pub fn possible(&self, from: At, to: At) -> impl Iterator<Item = &List> {
        let next = |index: usize| self.lists.get(index + 1).and_then(|next| next.surely);
        let in_force = move |(index, taken): &(usize, &Taken)| {
            taken.may <= to && next(*index).is_none_or(|replaced| replaced >= from)
        };
        self.lists
            .iter()
            .enumerate()
            .filter(in_force)
            .map(|(_, taken)| &*taken.list)
    }

    /// Whether a list for which this holds has been in force at some time before `at`, without doubt.
    pub fn surely_had(&self, at: At, holds: impl Fn(&List) -> bool) -> bool {
        let taken = |taken: &&Taken| taken.surely.is_some_and(|surely| surely <= at);
        self.lists
            .iter()
            .filter(taken)
            .any(|taken| holds(&taken.list))
    }
}

/// What a client means by a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Ordinary,
    /// Its pin was altered.
    Forged,
    /// The client has ended the session before.
    AfterEnd,
}

/// A request as its client sent it, and what became of it.
#[derive(Debug)]
pub struct Asked {
    pub proxy: usize,
    pub run: usize,
    pub at: At,
    /// The backend's own id of the session, and the key that its pin is signed with.
    pub session: Option<(String, usize)>,
    pub method: Method,
    pub manner: Manner,
    /// The backends that it reached, and the session's id there.
    pub reached: Vec<(usize, Option<String>)>,
    /// The last of them knew no such session.
    pub not_found: bool,
    /// When its client got an answer, or left.
    pub over: Option<At>,
}

impl Asked {
    /// Its session, as its proxy knows it.
    pub fn known(&self) -> Known {
        let own = self.session.as_ref().map(|(own, _)| own.clone());
        (self.proxy, self.run, own.unwrap_or_default())
    }

    /// The session's id at the last backend that it reached.
    pub fn reached_as(&self) -> Option<&str> {
        self.reached.last()?.1.as_deref()
    }

    pub fn reached_backend(&self) -> Option<usize> {
        self.reached.last().map(|(backend, _)| *backend)
    }

    /// Whether its session may be brought back for it.
    pub fn may_be_repeated(&self) -> bool {
        [Method::POST, Method::GET].contains(&self.method)
    }
}

#[derive(Debug, Default)]
pub struct History {
    /// While each backend's process is not running: its machine refuses connections.
    pub down: Vec<Spans>,
    /// While it is stopped or slow.
    pub slow: Vec<Spans>,
    /// While the link between a proxy and a backend is cut.
    pub cut: BTreeMap<(usize, usize), Spans>,
    pub runs: Vec<Vec<Run>>,
    pub requests: BTreeMap<u64, Asked>,
    /// Sessions that their clients ended, by the ids that backends have for them, and when.
    pub deleted: BTreeMap<String, At>,
    pub renewals: Renewals,
}

impl History {
    pub fn new(backends: usize, proxies: usize) -> Self {
        let spans = |count| (0..count).map(|_| Spans::default()).collect();
        let links = (0..proxies).flat_map(|p| (0..backends).map(move |b| (p, b)));
        Self {
            down: spans(backends),
            slow: spans(backends),
            cut: links.map(|link| (link, Spans::default())).collect(),
            runs: (0..proxies).map(|_| Vec::new()).collect(),
            ..Self::default()
        }
    }

    pub fn run(&self, proxy: usize, run: usize) -> &Run {
        &self.runs[proxy][run]
    }

    /// Whether an answer of this process, asked for at `asked`, may break off at `at`: it was killed, or it
    /// was ending already, or its time for ending is over.
    pub fn may_break_off(&self, proxy: usize, run: usize, asked: At, at: At) -> bool {
        let run = self.run(proxy, run);
        let refused = run.until.is_some_and(|until| until <= asked);
        let ending = run.stopping.is_some_and(|stopping| {
            stopping <= asked + UNDER_WAY || at.saturating_sub(stopping) >= DRAIN.mul_f64(0.9)
        });
        run.killed || refused || ending
    }
}

/// A request that was sent so long before is known to its proxy.
const UNDER_WAY: Duration = Duration::from_millis(20);
