//! What one client is told of what several backends say on its `subscriptions/listen`.
//!
//! Pure. Which backends there are, and when they speak, others know: this decides what leaves of it.
//!
//! A client takes the first acknowledgement for all that it will hear, and some drop what it does not name. So those of
//! all backends are gathered for a moment, and leave as one; what any of them says next waits for that.

use bytes::Bytes;

use crate::mcp::{
    listen::{Agreed, Said},
    sse::Event,
};

/// The state of one client's stream.
#[derive(Debug)]
pub(super) struct Merge {
    phase: Phase,
    /// What ends the stream, once nobody is left: the last good end, or else the first error.
    last: Option<Last>,
}

#[derive(Debug)]
enum Phase {
    Gathering {
        first: Option<Acknowledgement>,
        /// What came in place of acknowledgements.
        held: Vec<Bytes>,
    },
    Flowing {
        is_acknowledged: bool,
    },
}

#[derive(Debug)]
struct Acknowledgement {
    event: Event,
    agreed: Agreed,
    /// Others have agreed to more.
    has_grown: bool,
}

#[derive(Debug)]
struct Last {
    event: Bytes,
    is_error: bool,
}

/// What becomes of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It leaves now.
    Leaves(Bytes),
    /// It is kept, or nobody needs it.
    Kept,
    /// It was the last of its backend.
    Last {
        /// And an error.
        is_error: bool,
    },
}

/// How a backend stands to the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is heard, or about to be, or will be when it is back.
    Wanted,
    /// It has ended its stream itself, or refused it.
    Over,
}

/// How the client's stream ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Properly, with this event.
    Properly(Bytes),
    /// Nobody is left who would say so.
    Abandoned,
}

impl Merge {
    /// A stream in which nobody has spoken.
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Gathering {
                first: None,
                held: Vec::new(),
            },
            last: None,
        }
    }

    /// Whether nothing has left yet. A backend that has spoken is then not heard any further.
    pub(super) fn is_gathering(&self) -> bool {
        matches!(self.phase, Phase::Gathering { .. })
    }

    /// Takes an event of a backend.
    pub(super) fn hear(&mut self, event: Event) -> Heard {
        match (Said::of(&event.data), &mut self.phase) {
            (Said::Ended { is_error }, _) => {
                let is_better = self
                    .last
                    .as_ref()
                    .is_none_or(|last| last.is_error && !is_error);
                if is_better || !is_error {
                    let event = event.bytes;
                    self.last = Some(Last { event, is_error });
                }
                Heard::Last { is_error }
            }
            (Said::Acknowledged(agreed), Phase::Gathering { first, .. }) => {
                match first {
                    Some(first) => first.has_grown |= first.agreed.add(agreed),
                    None => {
                        *first = Some(Acknowledgement {
                            event,
                            agreed,
                            has_grown: false,
                        });
                    }
                }
                Heard::Kept
            }
            (Said::News, Phase::Gathering { held, .. }) => {
                held.push(event.bytes);
                Heard::Kept
            }
            (Said::Acknowledged(_), Phase::Flowing { is_acknowledged }) => {
                if std::mem::replace(is_acknowledged, true) {
                    Heard::Kept
                } else {
                    Heard::Leaves(event.bytes)
                }
            }
            (Said::News, Phase::Flowing { .. }) => Heard::Leaves(event.bytes),
        }
    }

    /// Everybody has spoken, or has had the time for it. Returns what leaves now.
    pub(super) fn settle(&mut self) -> Vec<Bytes> {
        let Phase::Gathering { first, held } = &mut self.phase else {
            return Vec::new();
        };
        let mut leaving: Vec<Bytes> = first
            .take()
            .map(Acknowledgement::leave)
            .into_iter()
            .collect();
        let is_acknowledged = !leaving.is_empty();
        leaving.append(held);
        self.phase = Phase::Flowing { is_acknowledged };
        leaving
    }

    /// How the stream ends, if it is over for everybody.
    pub(super) fn end(&mut self, mut all: impl Iterator<Item = Standing>) -> Option<End> {
        if self.is_gathering() || all.any(|standing| standing == Standing::Wanted) {
            return None;
        }
        let last = self.last.take();
        Some(last.map_or(End::Abandoned, |last| End::Properly(last.event)))
    }
}

impl Acknowledgement {
    /// The first as it came, if that says it all.
    fn leave(self) -> Bytes {
        let written = self
            .has_grown
            .then(|| self.agreed.write_into(&self.event.data));
        match written.flatten() {
            Some(data) => Bytes::from([b"event: message\ndata: ", &*data, b"\n\n"].concat()),
            None => self.event.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(message: &Value) -> Event {
        let raw = Bytes::from(format!("data: {message}\n\n"));
        Event::read(&raw).unwrap()
    }

    fn acknowledgement(agreed: &Value) -> Event {
        let method = "notifications/subscriptions/acknowledged";
        event(&json!({ "method": method, "params": { "notifications": agreed } }))
    }

    fn news(number: u32) -> Event {
        event(&json!({ "method": "notifications/x", "params": number }))
    }

    fn last(name: &str, kind: &str) -> Event {
        event(&json!({ "id": 1, kind: { "by": name } }))
    }

    fn flowing() -> Merge {
        let mut merge = Merge::new();
        merge.hear(acknowledgement(&json!({})));
        merge.settle();
        merge
    }

    #[test]
    fn equal_acknowledgements_leave_as_the_first_came_before_all_else() {
        let mut merge = Merge::new();
        let first = acknowledgement(&json!({ "a": true, "b": ["x"] }));
        assert_eq!(merge.hear(first.clone()), Heard::Kept);
        assert_eq!(merge.hear(news(1)), Heard::Kept);
        let same = acknowledgement(&json!({ "b": ["x"], "a": true }));
        assert_eq!(merge.hear(same.clone()), Heard::Kept);
        assert!(merge.is_gathering() && merge.end(std::iter::empty()).is_none());
        assert_eq!(merge.settle(), [first.bytes, news(1).bytes]);
        assert_eq!(merge.hear(same), Heard::Kept, "swallowed");
        assert_eq!(merge.hear(news(2)), Heard::Leaves(news(2).bytes));
        assert!(merge.settle().is_empty());
    }

    #[test]
    fn unequal_acknowledgements_leave_as_one_that_says_all() {
        let mut merge = Merge::new();
        for agreed in [
            json!({ "taskIds": ["x"] }),
            json!({ "taskIds": ["y"], "a": true }),
        ] {
            merge.hear(acknowledgement(&agreed));
        }
        let [all] = &merge.settle()[..] else {
            panic!("one")
        };
        let all = Event::read(all).unwrap();
        let said: Value = serde_json::from_slice(&all.data).unwrap();
        let agreed = json!({ "taskIds": ["x", "y"], "a": true });
        assert_eq!(said["params"]["notifications"], agreed);
    }

    #[test]
    fn where_nobody_has_acknowledged_in_time_the_first_that_does_later_is_heard() {
        let mut merge = Merge::new();
        merge.hear(news(1));
        assert_eq!(merge.settle(), [news(1).bytes]);
        let late = acknowledgement(&json!({}));
        assert_eq!(merge.hear(late.clone()), Heard::Leaves(late.bytes.clone()));
        assert_eq!(merge.hear(late), Heard::Kept);
    }

    #[test]
    fn the_stream_ends_when_it_is_over_for_everybody() {
        let mut merge = flowing();
        assert_eq!(
            merge.hear(last("a", "result")),
            Heard::Last { is_error: false }
        );
        let standings = [Standing::Over, Standing::Wanted];
        assert_eq!(merge.end(standings.into_iter()), None);
        let end = merge.end([Standing::Over; 2].into_iter());
        assert_eq!(end, Some(End::Properly(last("a", "result").bytes)));
        let end = flowing().end([Standing::Over; 2].into_iter());
        assert_eq!(end, Some(End::Abandoned));
    }

    #[test]
    fn the_last_good_end_counts_and_else_the_first_error() {
        for (said, counts) in [
            (&[("a", "error"), ("b", "error")][..], ("a", "error")),
            (
                &[("a", "error"), ("b", "result"), ("c", "error")],
                ("b", "result"),
            ),
            (&[("a", "result"), ("b", "result")], ("b", "result")),
        ] {
            let mut merge = flowing();
            for (name, kind) in said {
                merge.hear(last(name, kind));
            }
            let end = merge.end(std::iter::empty());
            let expected = last(counts.0, counts.1).bytes;
            assert_eq!(end, Some(End::Properly(expected)), "{said:?}");
        }
    }

    /// Whatever backends say in whatever order: one acknowledgement at most, before all else; no news is lost or
    /// doubled, and those of one backend stay in their order.
    #[test]
    fn any_order_is_told_in_order() {
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut merge, mut left) = (Merge::new(), Vec::new());
            let mut told = [0; 3];
            let mut spoken = [false; 3];
            for _ in 0..40 {
                let backend = random.usize(..3);
                if merge.is_gathering() && spoken[backend] {
                    if random.u32(..5) == 0 {
                        left.append(&mut merge.settle());
                    }
                    continue;
                }
                let acknowledges = !std::mem::replace(&mut spoken[backend], true);
                let event = if acknowledges && random.u32(..10) > 0 {
                    acknowledgement(&json!({ "taskIds": [backend] }))
                } else {
                    told[backend] += 1;
                    event(&json!({ "method": "x", "params": [backend, told[backend]] }))
                };
                match merge.hear(event) {
                    Heard::Leaves(bytes) => left.push(bytes),
                    Heard::Kept => {}
                    Heard::Last { .. } => panic!("nobody has ended: seed {seed}"),
                }
            }
            left.append(&mut merge.settle());
            check(&left, told, seed);
        }
    }

    fn check(left: &[Bytes], told: [usize; 3], seed: u64) {
        let mut heard = [0; 3];
        let mut acknowledged = false;
        for bytes in left {
            let message: Value = serde_json::from_slice(&Event::read(bytes).unwrap().data).unwrap();
            if message["method"] == "x" {
                let backend = message["params"][0].as_u64().unwrap() as usize;
                heard[backend] += 1;
                assert_eq!(message["params"][1], heard[backend], "seed {seed}");
            } else {
                assert!(!std::mem::replace(&mut acknowledged, true), "seed {seed}");
            }
        }
        assert_eq!(heard, told, "seed {seed}");
    }
}
