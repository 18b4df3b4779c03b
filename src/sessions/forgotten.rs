//! Sessions that their backend says it does not know: whether it answered them a moment ago.
//!
//! A backend that forgets what it served a moment ago is in truth several processes behind one address, or it was
//! restarted. Restarts show: a connect fails, or answers break off. So a backend is *in doubt* since then, and
//! what it forgets of the time before is no surprise.

use std::sync::Arc;

use super::Sessions;
use crate::router::placement::Load;

/// What counts as a moment ago, in seconds.
const A_MOMENT: u32 = 60;

/// Times are whole seconds, and a broken stream's end is noted before its session's: so much apart is together.
const TOGETHER: u32 = 2;

impl Sessions {
    /// A connection to a backend could not be made, or broke: it may be another process from now on.
    pub fn doubt(&self, load: &Load) {
        load.set_in_doubt_since(self.seconds());
    }

    /// Ends a session of which its backend says that it does not know it. Tells whether that is odd: whether that
    /// backend answered it a moment ago, and was not in doubt since.
    #[must_use]
    pub fn end_unknown(&self, id: &[u8], load: &Arc<Load>) -> bool {
        let key = self.key(id, load);
        let now = self.seconds();
        let Some(live) = self.shard(key).remove(key) else {
            return false;
        };
        self.disown(&live);
        let last_use = if live.open > 0 { now } else { live.last_use };
        let doubted = load
            .in_doubt_since()
            .is_some_and(|since| since.saturating_add(TOGETHER) >= live.last_use);
        !doubted && now.saturating_sub(last_use) <= A_MOMENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_session_that_was_answered_a_moment_ago_end_unknown() {
        let (sessions, load, other) = (Sessions::new(), Arc::default(), Arc::default());
        assert!(!sessions.end_unknown(b"never seen", &load));
        drop(sessions.visit(b"one", &load));
        assert!(sessions.end_unknown(b"one", &load));
        assert!(!sessions.end_unknown(b"one", &load), "it is over");
        drop(sessions.visit(b"elsewhere", &other));
        assert!(!sessions.end_unknown(b"elsewhere", &load));
        sessions.visit(b"deleted", &load).end_session();
        assert!(!sessions.end_unknown(b"deleted", &load));
    }

    #[test]
    fn after_a_broken_connection_nothing_is_odd() {
        let (sessions, load) = (Sessions::new(), Arc::default());
        drop(sessions.visit(b"idle", &load));
        let _stream = sessions.visit(b"with a stream", &load);
        sessions.doubt(&load);
        assert!(!sessions.end_unknown(b"idle", &load));
        assert!(!sessions.end_unknown(b"with a stream", &load));
    }
}
