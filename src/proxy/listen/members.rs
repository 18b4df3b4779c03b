//! The backends of one merged stream, as the routing table has them: who joins, leaves, and is tried again.

use std::{
    fmt,
    task::{Context, Poll},
};

use http::StatusCode;

use super::{
    member::{Member, Opened, Step},
    opener::Opener,
};
use crate::{
    backend::Name,
    health::{Observation, Vital, probe::Reporter},
    mcp::sse::TooLong,
    net::Ticker,
    proxy::deliver,
    ring,
    router::table::{Entry, Pool, Snapshot},
    sessions::Sessions,
    upstream::{Failure, Interrupted},
};

/// See the module.
pub(super) struct Members {
    all: Vec<Member>,
    /// Who is asked next: nobody is left out because others speak all the time.
    turn: usize,
    parts: Parts,
}

/// What members are opened with, and what is found out about them is told to.
pub(super) struct Parts {
    pub(super) opener: Opener,
    /// The newest table.
    pub(super) table: Snapshot,
    /// The pool's name.
    pub(super) pool: String,
    pub(super) reporter: Reporter,
    pub(super) sessions: Sessions,
    pub(super) ticker: Ticker,
    pub(super) random: fastrand::Rng,
}

impl Members {
    /// Opens a stream to each backend that is to be heard.
    pub(super) fn open(parts: Parts) -> Self {
        let opening = |pool: &Pool| -> Vec<Member> {
            let targets = parts.targets(pool).into_iter();
            let open = |place| parts.opening(pool, place);
            targets.map(open).collect()
        };
        Self {
            all: parts.pool().map(opening).unwrap_or_default(),
            turn: 0,
            parts,
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Member] {
        &self.all
    }

    /// How the request goes to one backend alone.
    pub(super) fn opener(&self) -> &Opener {
        &self.parts.opener
    }

    /// What happens next at one of those that `listens` says, and at which.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        listens: impl Fn(&Member) -> bool,
    ) -> Poll<(usize, Step)> {
        let (count, turn) = (self.all.len(), self.turn.min(self.all.len()));
        for index in (turn..count).chain(0..turn) {
            let member = &mut self.all[index];
            if listens(member)
                && let Poll::Ready(step) = member.poll(cx)
            {
                self.turn = index + 1;
                return Poll::Ready((index, step));
            }
        }
        Poll::Pending
    }

    /// Takes the newest table over: closes the streams of those that are not to be heard any more, and opens those of
    /// others soon. Where no backend is open at all, the last streams go on to their own ends.
    pub(super) fn follow(&mut self, table: Snapshot) {
        self.parts.table = table;
        let Some(pool) = self.parts.pool() else {
            return;
        };
        let targets = self.parts.targets(pool);
        let is_target = |name: &Name| {
            targets
                .iter()
                .any(|place| pool.entry(*place).backend.name == *name)
        };
        self.all.retain(|member| {
            let mut entries = pool.entries().iter();
            let known = entries.find(|entry| entry.backend.name == member.name);
            let may_go_on = targets.is_empty() && member.is_open();
            known.is_some_and(|entry| !entry.drained && (may_go_on || is_target(&member.name)))
        });
        for place in targets {
            self.meet(place);
        }
    }

    /// Looks at one that is to be heard, as the table has it now.
    fn meet(&mut self, place: ring::Member) {
        let random = self.parts.random.f32();
        let Some(pool) = self.parts.pool() else {
            return;
        };
        let entry = pool.entry(place);
        let is_healthy = entry.vital == Vital::Healthy;
        let mut known = self.all.iter_mut();
        match known.find(|member| member.name == entry.backend.name) {
            Some(member) if member.id == entry.id => {
                let was_healthy = std::mem::replace(&mut member.was_healthy, is_healthy);
                if is_healthy && !was_healthy {
                    member.hurry(random);
                }
            }
            Some(member) => *member = self.parts.joining(entry, random),
            None => self.all.push(self.parts.joining(entry, random)),
        }
    }

    /// It is time to open this one again.
    pub(super) fn open_again(&mut self, index: usize) {
        let name = &self.all[index].name;
        match self.parts.find(name) {
            Some((pool, place)) => {
                let opening = self.parts.opener.open(&self.parts.table, pool, place);
                self.all[index].open(opening);
            }
            None => drop(self.all.remove(index)), // its pool is gone
        }
    }

    /// Takes the answer of a backend that was had elsewhere.
    pub(super) fn adopt(&mut self, entry: &Entry, opened: Opened) -> (usize, Step) {
        let known = self.all.iter();
        let mut names = known.map(|member| &member.name);
        let index = names.position(|name| *name == entry.backend.name);
        let index = index.unwrap_or_else(|| {
            self.all.push(self.parts.joining(entry, 0.0));
            self.all.len() - 1
        });
        (index, self.all[index].accept(opened))
    }

    /// This one answers: whoever doubted that is told.
    pub(super) fn answered(&mut self, index: usize) {
        let name = &self.all[index].name;
        if let Some((pool, place)) = self.parts.find(name)
            && pool.entry(place).wants_good_news
        {
            let id = self.all[index].id;
            self.parts.reporter.report(id, Observation::Served); // that it takes a call is not proved
        }
    }

    /// This one gave no answer.
    pub(super) fn failed(&mut self, index: usize, failure: &Failure) {
        let member = &self.all[index];
        tracing::debug!(backend = %member.name, error = %failure, "a stream of changes cannot be opened");
        if let Some(seen) = deliver::seen_in(failure, false) {
            self.parts.reporter.report(member.id, seen);
        }
        self.doubt(index);
        self.wait(index);
    }

    /// This one has said something.
    pub(super) fn spoke(&mut self, index: usize) {
        self.all[index].spoke();
    }

    /// The stream of this one broke off.
    pub(super) fn broke_off(&mut self, index: usize, error: Option<&Interrupted>) {
        let backend = &self.all[index].name;
        tracing::debug!(%backend, error = error.map(tracing::field::display), "a stream of changes broke off");
        self.doubt(index);
        self.wait(index);
    }

    /// What this one sends is of no use.
    pub(super) fn spoiled(&mut self, index: usize, error: TooLong) {
        let backend = &self.all[index].name;
        tracing::warn!(%backend, %error, "closes a stream of changes: see limits.body_bytes");
        self.wait(index);
    }

    /// This one does not let anybody listen.
    pub(super) fn refused(&mut self, index: usize, status: StatusCode) {
        let member = &mut self.all[index];
        if !std::mem::replace(&mut member.was_refused, true) {
            let (backend, status) = (&member.name, status.as_u16());
            tracing::warn!(%backend, status, "refuses a stream of changes that is to hear all backends");
        }
        self.all[index].end();
        self.wait(index);
    }

    /// This one has ended its stream.
    pub(super) fn ended(&mut self, index: usize) {
        self.all[index].end();
        self.wait(index);
    }

    fn wait(&mut self, index: usize) {
        let (again, random) = (self.parts.ticker.deadline(), self.parts.random.f32());
        self.all[index].wait(again, random);
    }

    fn doubt(&self, index: usize) {
        if let Some((pool, place)) = self.parts.find(&self.all[index].name) {
            self.parts.sessions.doubt(&pool.entry(place).load);
        }
    }
}

impl Parts {
    fn pool(&self) -> Option<&Pool> {
        let mut pools = self.table.pools.iter();
        pools.find(|pool| pool.options.name == self.pool)
    }

    /// Who is to be heard.
    fn targets(&self, pool: &Pool) -> Vec<ring::Member> {
        let entries = (0..).zip(pool.entries());
        let wanted = entries.filter(|(_, entry)| self.opener.wanted().includes(entry));
        wanted.map(|(place, _)| place).collect()
    }

    fn find(&self, name: &Name) -> Option<(&Pool, ring::Member)> {
        let pool = self.pool()?;
        let mut entries = (0..).zip(pool.entries());
        let (place, _) = entries.find(|(_, entry)| entry.backend.name == *name)?;
        Some((pool, place))
    }

    fn opening(&self, pool: &Pool, place: ring::Member) -> Member {
        let entry = pool.entry(place);
        let opening = self.opener.open(&self.table, pool, place);
        Member::opening(entry, opening)
    }

    fn joining(&self, entry: &Entry, random: f32) -> Member {
        Member::joining(entry, self.ticker.deadline(), random)
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Members").field(&self.all).finish()
    }
}
