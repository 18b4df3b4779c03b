//! The sessions of one replica: in memory, bounded, known to nobody else.
//!
//! Pure: the random bits of an id are an argument. That a GET stream is open is no flag that
//! somebody must clear: the stream holds one end of a channel and the session the other, and each
//! side's drop tells the other.

use std::collections::HashMap;

use tokio::sync::oneshot;

/// Resolves when the session is gone; while it is kept, the session takes no second stream.
pub(super) type Closed = oneshot::Receiver<()>;

#[derive(Debug)]
pub(super) struct Session {
    born: u64,
    count: u64,
    streams: u64,
    listener: Option<oneshot::Sender<()>>,
}

impl Session {
    fn new(born: u64) -> Self {
        Self {
            born,
            count: 0,
            streams: 0,
            listener: None,
        }
    }

    /// Adds one to the session's counter: the state that a wrong replica does not have.
    pub(super) fn count(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// The number of a new SSE answer, which keeps event ids unique within the session.
    pub(super) fn next_stream(&mut self) -> u64 {
        self.streams += 1;
        self.streams
    }

    /// Takes the one place of a GET stream, or `None` while another holds it.
    pub(super) fn listen(&mut self) -> Option<Closed> {
        if self.listener.as_ref().is_some_and(|end| !end.is_closed()) {
            return None;
        }
        let (end, closed) = oneshot::channel();
        self.listener = Some(end);
        Some(closed)
    }
}

#[derive(Debug)]
pub(super) struct Sessions {
    capacity: usize,
    opened: u64,
    live: HashMap<String, Session>,
}

impl Sessions {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            opened: 0,
            live: HashMap::new(),
        }
    }

    /// Opens a session whose id is made of `bits`. A full table drops its oldest session.
    pub(super) fn open(&mut self, bits: u128) -> (String, &mut Session) {
        if self.live.len() >= self.capacity {
            self.drop_oldest();
        }
        self.opened += 1;
        let id = uuid(bits);
        let session = self
            .live
            .entry(id.clone())
            .insert_entry(Session::new(self.opened))
            .into_mut();
        (id, session)
    }

    pub(super) fn find(&mut self, id: &str) -> Option<&mut Session> {
        self.live.get_mut(id)
    }

    pub(super) fn close(&mut self, id: &str) {
        self.live.remove(id);
    }

    /// A scan: it happens only in a full table, and a queue of ids would grow with every DELETE.
    fn drop_oldest(&mut self) {
        let oldest = self.live.iter().min_by_key(|(_, session)| session.born);
        if let Some(id) = oldest.map(|(id, _)| id.clone()) {
            self.live.remove(&id);
        }
    }
}

/// A version 4 UUID (RFC 9562, section 5.4) of the given random bits.
fn uuid(bits: u128) -> String {
    const VERSION: u128 = 0xf << 76;
    const VARIANT: u128 = 0b11 << 62;
    let bits = (bits & !VERSION & !VARIANT) | (0x4 << 76) | (0b10 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        bits >> 96,
        (bits >> 80) & 0xffff,
        (bits >> 64) & 0xffff,
        (bits >> 48) & 0xffff,
        bits & 0xffff_ffff_ffff,
    )
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    #[test]
    fn an_id_is_a_version_4_uuid() {
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let bits = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        assert_eq!(uuid(bits), "01234567-89ab-4def-8123-456789abcdef");
    }

    #[test]
    fn a_full_table_drops_the_oldest_session() {
        let mut sessions = Sessions::new(2);
        let ids = [3, 1, 2].map(|bits| sessions.open(bits).0);
        assert!(sessions.find(&ids[0]).is_none());
        assert!(sessions.find(&ids[1]).is_some() && sessions.find(&ids[2]).is_some());
    }

    #[test]
    fn the_place_of_the_stream_is_free_again_when_the_stream_is_dropped() {
        let mut sessions = Sessions::new(1);
        let (_, session) = sessions.open(1);
        let closed = session.listen();
        assert!(closed.is_some() && session.listen().is_none());
        drop(closed);
        assert!(session.listen().is_some());
    }

    #[test]
    fn a_closed_session_tells_its_stream() {
        let mut sessions = Sessions::new(1);
        let (id, session) = sessions.open(1);
        let mut closed = session.listen().unwrap();
        assert_eq!(closed.try_recv(), Err(TryRecvError::Empty));
        sessions.close(&id);
        assert_eq!(closed.try_recv(), Err(TryRecvError::Closed));
    }
}
