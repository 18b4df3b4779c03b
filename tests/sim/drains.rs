//! What one process of a proxy was told to drain through its admin socket, and when what a backend held is lost by
//! that.

use std::time::Duration;

use super::history::{At, List};

/// A timer of the proxy is late by no more than this.
const LATE: Duration = Duration::from_millis(20);

/// Bytes that were on their way at the end of a drain have arrived so long after it.
const WAYS: Duration = Duration::from_millis(50);

/// One command to drain.
#[derive(Debug)]
struct Drain {
    backend: usize,
    from: At,
    /// Its deadline: not before, and surely by then.
    over: Option<(At, At)>,
    /// When it was taken back, at the earliest, and surely.
    may_be_undone: Option<At>,
    surely_undone: Option<At>,
}

#[derive(Debug, Default)]
pub struct Drains(Vec<Drain>);

impl Drains {
    /// `within` is by the proxy's own clock, which goes at `pace`. With `unread` there is news in the file.
    pub fn begin(
        &mut self,
        backend: usize,
        at: At,
        within: Option<Duration>,
        pace: f64,
        unread: bool,
    ) {
        // It takes the place of one before that is not over.
        for drain in self.of(backend) {
            let is_over = |at: At| drain.over.is_some_and(|(_, latest)| latest <= at);
            let may_be_over = drain.over.is_some_and(|(earliest, _)| earliest <= at);
            if !is_over(at) {
                drain.may_be_undone.get_or_insert(at);
                if !may_be_over {
                    drain.surely_undone.get_or_insert(at);
                }
            }
        }
        let over = within.map(|within| {
            let end = at + within.div_f64(pace);
            (end.saturating_sub(LATE).max(at), end + LATE)
        });
        self.0.push(Drain {
            backend,
            from: at,
            over,
            may_be_undone: unread.then_some(at),
            surely_undone: None,
        });
    }

    pub fn undo(&mut self, backend: usize, at: At) {
        for drain in self.of(backend) {
            drain.may_be_undone.get_or_insert(at);
            drain.surely_undone.get_or_insert(at);
        }
    }

    /// The file, which wins, says `list` and may be read from `may` on, and is by `surely`.
    pub fn follow_file(&mut self, list: &List, may: At, surely: Option<At>) {
        for drain in &mut self.0 {
            let listed = list.find(drain.backend);
            // Who comes back after that is another, and has not been drained.
            if listed.is_none_or(|listed| !listed.draining) {
                drain.may_be_undone.get_or_insert(may);
            }
            if let Some(surely) = surely
                && listed.is_some_and(|listed| !listed.draining)
            {
                drain.surely_undone.get_or_insert(surely);
            }
        }
    }

    fn of(&mut self, backend: usize) -> impl Iterator<Item = &mut Drain> {
        self.0
            .iter_mut()
            .filter(move |drain| drain.backend == backend)
    }

    fn any(&self, backend: usize, holds: impl Fn(&Drain) -> bool) -> bool {
        let mut its = self.0.iter().filter(|drain| drain.backend == backend);
        its.any(holds)
    }

    /// Whether a request of `from` to `to` may find that the backend takes no new work.
    pub fn may_refuse(&self, backend: usize, from: At, to: At) -> bool {
        self.any(backend, |drain| {
            drain.from <= to && drain.surely_undone.is_none_or(|undone| undone >= from)
        })
    }

    /// Whether it must find that.
    pub fn surely_refuse(&self, backend: usize, from: At, to: At) -> bool {
        self.any(backend, |drain| {
            drain.from < from && drain.may_be_undone.is_none_or(|undone| undone > to)
        })
    }

    /// Whether a request of `from` to `to` may find that all is lost that the backend held.
    pub fn may_be_over(&self, backend: usize, from: At, to: At) -> bool {
        self.any(backend, |drain| {
            drain.over.is_some_and(|(earliest, _)| {
                let undone = drain.surely_undone;
                earliest <= to && undone.is_none_or(|undone| undone >= earliest.max(from))
            })
        })
    }

    /// Whether it must find that.
    pub fn surely_over(&self, backend: usize, from: At, to: At) -> bool {
        self.any(backend, |drain| {
            let over = drain.over.is_some_and(|(_, latest)| latest <= from);
            over && drain.may_be_undone.is_none_or(|undone| undone > to)
        })
    }

    /// Whether an answer of `from` to `to` may have been ended by the end of a drain.
    pub fn may_end(&self, backend: usize, from: At, to: At) -> bool {
        self.any(backend, |drain| {
            drain.over.is_some_and(|(earliest, latest)| {
                let undone = drain.surely_undone;
                earliest <= to
                    && latest + WAYS >= from
                    && undone.is_none_or(|undone| undone >= earliest)
            })
        })
    }

    /// Whether a stream of `from` must have ended by `to`.
    pub fn surely_end(&self, backend: usize, from: At, to: At) -> bool {
        self.any(backend, |drain| {
            drain.over.is_some_and(|(_, latest)| {
                let undone = drain.may_be_undone;
                (from..=to.saturating_sub(WAYS)).contains(&latest)
                    && undone.is_none_or(|undone| undone > latest)
            })
        })
    }
}
