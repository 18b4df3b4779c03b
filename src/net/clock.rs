//! The clock and the timers of this machine, and its threads for what blocks.

use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;

use super::Instant;

/// The current time.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The time of day, as this machine's clock has it.
#[must_use]
pub fn time_of_day() -> SystemTime {
    SystemTime::now()
}

/// Waits for `duration`. Cancel safe.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits until `at`. Cancel safe.
pub async fn sleep_until(at: Instant) {
    tokio::time::sleep_until(at.into()).await;
}

/// Runs `future` for at most `limit`; `None` when the time ran out. As cancel safe as the future.
pub async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}

/// Runs what blocks, as reading files does, on a thread of its own.
pub fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}
