//! `limits.connections`, and whether the descriptors of the process are enough for it.

use std::num::NonZeroUsize;

use super::section::Section;

/// Below the usual hard limits of descriptors.
const DEFAULT: usize = 20_000;

/// A connection has one descriptor, and for a request or a stream another to a backend.
const FOR_EACH: u64 = 2;

/// For all that is neither: the log, files that are read, the admin socket, the store, connections that are told that
/// there is no room for them.
const OTHERS: u64 = 128;

/// For the poller and the listeners of one thread.
const FOR_EACH_THREAD: u64 = 8;

/// How many connections can be had with so many descriptors.
pub(super) fn fitting(open_files: u64, threads: NonZeroUsize) -> usize {
    let others = OTHERS + FOR_EACH_THREAD * threads.get() as u64;
    let fitting = open_files.saturating_sub(others) / FOR_EACH;
    usize::try_from(fitting).unwrap_or(usize::MAX).max(1)
}

/// Reads `connections`. What was written has to fit; the default is made to.
pub(super) fn read(section: &Section<'_>, fitting: Option<usize>) -> usize {
    const KEY: &str = "connections";
    let written = section.integer(KEY, 1..=1_000_000);
    match (written.map(|count| count as usize), fitting) {
        (Some(count), Some(fitting)) if count > fitting => {
            let message = format!(
                "needs more open files than this process may have, up to two for each connection: raise `ulimit -n` \
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

    #[test]
    fn each_connection_takes_two_descriptors_of_what_is_left() {
        let fitting = |open_files| fitting(open_files, NonZeroUsize::new(4).unwrap());
        assert_eq!(fitting(1024), 432);
        assert_eq!(fitting(40_160), 20_000);
        assert_eq!(fitting(64), 1);
        assert_eq!(fitting(u64::MAX), (u64::MAX as usize - 160) / 2);
    }
}
