//! What one seed stands for: how many of everything there are, how fast clocks go, and what pinring is told.

use std::time::Duration;

use fastrand::Rng;

/// Faults happen for this long.
pub const FAULTS: Duration = Duration::from_secs(14);
/// So long after the last fault everybody must be well again: each proxy by itself waits for `unknown_grace` until
/// it calls a session lost, and clients may ask one after the other.
pub const HEALING: Duration = Duration::from_secs(20);
/// Who has no failure for so long is well.
pub const HEALTHY: Duration = Duration::from_secs(3);

pub const CONNECT: Duration = Duration::from_millis(300);
pub const RESPONSE_HEAD: Duration = Duration::from_millis(1500);
pub const DRAIN: Duration = Duration::from_secs(1);
pub const OPEN_HEAD: Duration = Duration::from_secs(1);

/// What is done for a session whose backend is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLoss {
    NotFound,
    /// Its backends share the sessions' state.
    Successor,
    /// Each proxy remembers the handshakes that it has seen, until it ends: what it may do for a session is
    /// judged by what that one process has seen.
    Reinitialize,
}

#[derive(Debug)]
pub struct Settings {
    /// How fast each proxy's clock goes.
    pub proxies: Vec<f64>,
    /// How long each proxy's list may take to follow the true one, at most.
    pub lags: Vec<Duration>,
    /// Backends at the beginning, and those that may come later.
    pub backends: usize,
    pub spare: usize,
    pub clients: usize,
    /// The longest time between two faults.
    pub pause: Duration,
    pub loss_after: Duration,
    pub unreachable_after: Duration,
    pub departed: Duration,
    pub unknown_grace: Duration,
    pub join_delay: Duration,
    pub on_loss: OnLoss,
    /// Backends repeat the session id in every answer.
    pub repeat_ids: bool,
}

impl Settings {
    pub fn of(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let millis = Duration::from_millis;
        let unknown_grace = *random.choice(&[millis(3000), millis(4000)]).unwrap();
        let mut proxies = random.usize(2..=3);
        // One list may be on its way while the next is made: together they stay within the grace.
        let longest = unknown_grace.mul_f64(0.35);
        let on_loss = match random.u8(..) {
            0..40 => OnLoss::Successor,
            40..80 => OnLoss::Reinitialize,
            _ => OnLoss::NotFound,
        };
        if on_loss == OnLoss::Reinitialize && random.bool() {
            proxies = 1; // so that no other one has to say that the session is lost
        }
        Self {
            proxies: (0..proxies).map(|_| 0.95 + random.f64() / 10.0).collect(),
            lags: (0..proxies)
                .map(|_| longest.mul_f64(random.f64()))
                .collect(),
            backends: random.usize(2..=4),
            spare: 2,
            clients: random.usize(3..=5),
            pause: *random
                .choice(&[millis(600), millis(1500), millis(3000)])
                .unwrap(),
            loss_after: *random.choice(&[millis(1000), millis(2000)]).unwrap(),
            unreachable_after: *random.choice(&[millis(2500), millis(4000)]).unwrap(),
            departed: *random.choice(&[millis(1000), millis(3000)]).unwrap(),
            unknown_grace,
            join_delay: *random.choice(&[millis(0), millis(800)]).unwrap(),
            on_loss,
            repeat_ids: random.bool(),
        }
    }
}
