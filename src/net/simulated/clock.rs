//! The clocks of simulated machines, which go faster or slower than each other.

use std::time::{Duration, SystemTime};

use tokio::{task::JoinHandle, time};

use super::machine;
use crate::net::Instant;

/// Far below the clock's grain of a millisecond, far above what rounding costs: who waits never wakes too early.
const ROUNDING: Duration = Duration::from_micros(1);

/// The current time on the current machine.
#[must_use]
pub fn now() -> Instant {
    let now = time::Instant::now();
    match machine() {
        Some(machine) => {
            let began = super::with(|network| network.began);
            began.into_std() + (now - began).mul_f64(machine.pace)
        }
        None => now.into_std(),
    }
}

/// The time of day, as this machine's clock has it.
#[must_use]
pub fn time_of_day() -> SystemTime {
    SystemTime::now()
}

/// Waits for `duration`. Cancel safe.
pub async fn sleep(duration: Duration) {
    time::sleep(real(duration)).await;
}

/// Waits until `at`. Cancel safe.
pub async fn sleep_until(at: Instant) {
    sleep(at.saturating_duration_since(now())).await;
}

/// Runs `future` for at most `limit`; `None` when the time ran out. As cancel safe as the future.
pub async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    time::timeout(real(limit), future).await.ok()
}

/// Runs what blocks: here at once, for a thread would come back at a moment that nobody can foretell.
pub fn blocking<T: 'static>(work: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    tokio::task::spawn_local(async { work() })
}

/// How long a duration of the current machine is in the simulation.
fn real(duration: Duration) -> Duration {
    match machine() {
        Some(machine) if !duration.is_zero() => duration.div_f64(machine.pace) + ROUNDING,
        Some(_) | None => duration,
    }
}
