//! `limits.connections`, and whether the descriptors of the process are enough for it.

use std::num::NonZeroUsize;

use super::{ListenStreams, Pool, section::Section};

/// Below the usual hard limits of descriptors.
const DEFAULT: usize = 20_000;

/// A connection has one descriptor, and for a request or a stream another to a backend.
const FOR_EACH: usize = 2;

/// For all that is neither: the log, files that are read, the admin socket, the store, connections that are told that
/// there is no room for them.
const OTHERS: u64 = 128;

/// For the poller and the listeners of one thread.
const FOR_EACH_THREAD: u64 = 8;

/// How many connections can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fitting {
    connections: usize,
    /// Descriptors that each may take.
    for_each: usize,
}

impl Fitting {
    /// With so many descriptors, where streams may be of these pools: one that hears all backends has a connection to
    /// each.
    pub(super) fn with(open_files: u64, threads: NonZeroUsize, pools: &[Pool]) -> Self {
        let heard = |pool: &Pool| match pool.listen_streams {
            ListenStreams::One => 1,
            ListenStreams::FanOut => pool.backends.len(),
        };
        let for_each = pools.iter().map(|pool| 1 + heard(pool)).max();
        let for_each = for_each.unwrap_or_default().max(FOR_EACH);
        let others = OTHERS + FOR_EACH_THREAD * threads.get() as u64;
        let connections = open_files.saturating_sub(others) / for_each as u64;
        Self {
            connections: usize::try_from(connections).unwrap_or(usize::MAX).max(1),
            for_each,
        }
    }
}

/// Reads `connections`. What was written has to fit; the default is made to. Without `fitting`, any number fits.
pub(super) fn read(section: &Section<'_>, fitting: Option<Fitting>) -> usize {
    const KEY: &str = "connections";
    let written = section.integer(KEY, 1..=1_000_000);
    let for_each = fitting.map_or(FOR_EACH, |fitting| fitting.for_each);
    let fitting = fitting.map(|fitting| fitting.connections);
    match (written.map(|count| count as usize), fitting) {
        (Some(count), Some(fitting)) if count > fitting => {
            let message = format!(
                "needs more open files than this process may have, up to {for_each} for each connection: raise `ulimit -n` \
                 (LimitNOFILE= of systemd), or write {fitting} or less"
            );
            section.refuse(KEY, &message);
            count
        }
        (Some(count), _) => count,
        (None, Some(fitting)) if DEFAULT > fitting => {
            section.report().note(format!(
                "limits.connections is {fitting} instead of {DEFAULT}, for this process may have no more open files: \
                 raise `ulimit -n` (LimitNOFILE= of systemd)"
            ));
            fitting
        }
        (None, _) => DEFAULT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::testing::pool_of;

    fn fitting(open_files: u64, pools: &[Pool]) -> usize {
        Fitting::with(open_files, NonZeroUsize::new(4).unwrap(), pools).connections
    }

    #[test]
    fn each_connection_takes_two_descriptors_of_what_is_left() {
        let pools = pool_of(&["a", "b", "c"], "").pools;
        let fitting = |open_files| fitting(open_files, &pools);
        assert_eq!(fitting(1024), 432);
        assert_eq!(fitting(40_160), 20_000);
        assert_eq!(fitting(64), 1);
        assert_eq!(fitting(u64::MAX), (u64::MAX as usize - 160) / 2);
    }

    #[test]
    fn where_a_stream_hears_all_it_takes_one_for_each_backend_and_its_own() {
        let fan_out = "[pool]\nlisten_streams = \"fan-out\"\n";
        assert_eq!(
            fitting(40_160, &pool_of(&["a", "b", "c"], fan_out).pools),
            10_000
        );
        assert_eq!(fitting(40_160, &pool_of(&["a"], fan_out).pools), 20_000);
    }
}
