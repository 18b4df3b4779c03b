//! How well one backend is: healthy, suspect or lost. A machine without a clock of its own.
//!
//! It takes what requests and probes have seen, and the time, and says what follows. Health steers where new
//! work goes and how a request to an unwell backend is *answered*; it never sends a session elsewhere
//! (design, sections 2 and 4). Who probes is [`probe`], who acts on it is the routing table.

pub mod probe;
mod statuses;

use std::time::{Duration, Instant};

pub use self::statuses::{InvalidStatuses, Statuses};
use crate::backend::{BackendId, Endpoint};

/// Time-outs of session-less requests, one after the other, that make a suspect: one may be a slow tool,
/// three are a server that accepts and does not serve.
const TIMEOUTS: u32 = 3;

/// Resets before an answer, one after the other, that make a suspect: one is a crash of one request.
const RESETS: u32 = 2;

/// The first time out for one who accepts connections and serves badly; doubled each time, up to the longest.
const TIME_OUT: Duration = Duration::from_secs(5);
const TIME_OUT_LONGEST: Duration = Duration::from_secs(300);

/// Between two observations that count as one run. Probes come more often; after a longer gap, as when this
/// process was stopped, nobody knows what was in between.
const LONGEST_GAP: Duration = Duration::from_secs(8);

/// How long a backend may be down before its sessions are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// While it refuses connections: its process is gone.
    pub refused: Duration,
    /// While it cannot be reached: partitions pass.
    pub unreachable: Duration,
}

/// A backend that is to be probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// Which.
    pub id: BackendId,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// What to GET; `None`: a connection is enough.
    pub path: Option<String>,
    /// With what it is to be answered.
    pub expected: Statuses,
    /// For the connection, and again for the answer.
    pub limit: Duration,
}

/// What was seen of a backend, by a request or a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// A request without a session was answered, whatever the answer.
    Answered,
    /// A request of a session was. That says nothing about its taking new work.
    Served,
    /// A probe was: a connection could be made, or the probed path answered as expected.
    Probed,
    /// It refused a connection.
    Refused,
    /// A connection could not be made in time, or the network says no.
    Unreachable,
    /// A connection could be made, and it is not ready all the same: the probed path did not answer as expected.
    Unready,
    /// Nobody says where it is, so that it was not asked: its name does not resolve, and never did. That says nothing
    /// about itself.
    Unresolved,
    /// It closed a connection before it answered.
    Reset,
    /// It did not begin to answer a request without a session in time.
    TimedOut,
}

/// What follows from all that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Vital {
    /// It takes new work.
    #[default]
    Healthy,
    /// It gets no new work while others are healthy.
    Suspect,
    /// It has been down for so long that its sessions count as lost.
    Lost,
}

/// Observations of one sort without a gap.
#[derive(Debug, Clone, Copy)]
struct Run {
    since: Instant,
    last: Instant,
}

impl Run {
    /// Goes on with `run`, or begins one. Gives its length.
    fn extend(run: &mut Option<Self>, now: Instant) -> Duration {
        match run {
            Some(run) if now.saturating_duration_since(run.last) <= LONGEST_GAP => run.last = now,
            Some(_) | None => {
                *run = Some(Self {
                    since: now,
                    last: now,
                })
            }
        }
        run.map_or(Duration::ZERO, |run| {
            now.saturating_duration_since(run.since)
        })
    }
}

/// The health of one backend.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// While it refuses every connection.
    refused: Option<Run>,
    /// While no connection could be made, for whatever reason.
    unreachable: Option<Run>,
    lost: bool,
    /// The probed path was not answered as expected.
    unready: bool,
    /// Where it is could not be found out when it was last to be connected to.
    unresolved: bool,
    resets: u32,
    timeouts: u32,
    /// Until when it is left alone although it accepts connections.
    out_until: Option<Instant>,
    /// How often it was, one time after the other.
    outs: u32,
}

impl Default for Patience {
    /// As long as a process needs to restart, and as long as most partitions take to heal.
    fn default() -> Self {
        Self {
            refused: Duration::from_secs(10),
            unreachable: Duration::from_secs(60),
        }
    }
}

impl State {
    /// What follows at this moment.
    #[must_use]
    pub fn vital(&self) -> Vital {
        let unwell = self.wants_probe() || self.out_until.is_some();
        match (self.lost, unwell) {
            (true, _) => Vital::Lost,
            (false, true) => Vital::Suspect,
            (false, false) => Vital::Healthy,
        }
    }

    /// What is wrong with it, in words; empty where nothing is.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        if self.refused.is_some() {
            "it refuses connections"
        } else if self.unreachable.is_some() {
            "it cannot be reached"
        } else if self.unresolved {
            "its name does not resolve"
        } else if self.unready {
            "probe_path is not answered with probe_status"
        } else if self.out_until.is_some() {
            "it accepts connections and does not answer"
        } else if self.lost {
            "it was down for too long"
        } else {
            ""
        }
    }

    /// Whether it is to be probed: while no connection can be made, or it says that it is not ready, or nobody says
    /// where it is.
    #[must_use]
    pub fn wants_probe(&self) -> bool {
        self.unready || self.unresolved || self.unreachable.is_some()
    }

    /// Whether good news would change anything. Else requests need not tell that they were answered.
    #[must_use]
    pub fn wants_good_news(&self) -> bool {
        self.vital() != Vital::Healthy || self.resets + self.timeouts + self.outs > 0
    }

    /// Takes what was seen at `now`. `random`, from 0 to 1, spreads the ends of times out.
    pub fn observe(&mut self, seen: Observation, now: Instant, patience: Patience, random: f64) {
        match seen {
            Observation::Answered => {
                *self = Self {
                    unready: self.unready, // which only the probed path can clear
                    ..Self::default()
                };
            }
            Observation::Served => {
                self.is_there();
                self.resets = 0;
            }
            Observation::Probed | Observation::Unready => {
                self.is_there();
                self.unready = seen == Observation::Unready;
            }
            // What runs the clocks is evidence, never the time alone.
            Observation::Refused => {
                self.unresolved = false;
                self.lost |= Run::extend(&mut self.refused, now) >= patience.refused;
                self.lost |= Run::extend(&mut self.unreachable, now) >= patience.unreachable;
            }
            Observation::Unreachable => {
                (self.refused, self.unresolved) = (None, false);
                self.lost |= Run::extend(&mut self.unreachable, now) >= patience.unreachable;
            }
            // No evidence: who is lost stays so, and what was refused for a while is not undone.
            Observation::Unresolved => self.unresolved = true,
            Observation::Reset => {
                self.resets += 1;
                if self.resets >= RESETS {
                    self.leave_out(now, random);
                }
            }
            Observation::TimedOut => {
                self.timeouts += 1;
                if self.timeouts >= TIMEOUTS {
                    self.leave_out(now, random);
                }
            }
        }
        self.advance(now);
    }

    /// Lets the time come to `now`: who was left out for long enough is on trial.
    pub fn advance(&mut self, now: Instant) {
        if self.out_until.is_some_and(|until| until <= now) {
            self.out_until = None; // it gets work again, and the next failure counts double
        }
    }

    /// When [`State::advance`] will next change something.
    #[must_use]
    pub fn next_change(&self) -> Option<Instant> {
        self.out_until
    }

    /// Since when no connection could be made.
    #[must_use]
    pub fn down_since(&self) -> Option<Instant> {
        self.unreachable.map(|run| run.since)
    }

    /// It has accepted a connection at its own port.
    fn is_there(&mut self) {
        (self.refused, self.unreachable, self.lost) = (None, None, false);
        self.unresolved = false;
    }

    fn leave_out(&mut self, now: Instant, random: f64) {
        if self.out_until.is_some() {
            return; // requests of before are still failing
        }
        let time = TIME_OUT
            .saturating_mul(1 << self.outs.min(16))
            .min(TIME_OUT_LONGEST);
        self.out_until = Some(now + time.mul_f64(0.75 + random / 2.0));
        self.outs += 1;
        (self.resets, self.timeouts) = (RESETS - 1, TIMEOUTS - 1); // on trial: one more is enough
    }
}

#[cfg(test)]
mod tests;
