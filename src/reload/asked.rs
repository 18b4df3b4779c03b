//! Who asked for a reload and waits to hear what comes of it.

use std::mem;

use super::{
    Reason,
    command::{Answer, Reloaded},
};

/// Who waits.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// For the load that is under way: it began after they had asked.
    served: Vec<Answer<Reloaded>>,
    /// For the one after it.
    waiting: Vec<Answer<Reloaded>>,
}

impl Asked {
    /// Somebody asks.
    pub(super) fn push(&mut self, answer: Answer<Reloaded>) {
        self.waiting.push(answer);
    }

    /// Why the next load is to begin, if it is; all who wait by then are served by it. A signal, which `wanted` may be,
    /// is named before them.
    pub(super) fn next(&mut self, wanted: &mut Option<Reason>) -> Option<Reason> {
        let asked = (!self.waiting.is_empty()).then_some(Reason::Asked);
        self.served.append(&mut self.waiting);
        match wanted.take() {
            Some(Reason::Signal) => Some(Reason::Signal),
            other => asked.or(other),
        }
    }

    /// Tells those who were served. Some may have left.
    pub(super) fn answer(&mut self, reloaded: &Reloaded) {
        for answer in mem::take(&mut self.served) {
            drop(answer.send(reloaded.clone()));
        }
    }
}
