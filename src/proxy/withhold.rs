//! Withholds the sessions that nobody in particular has opened, where sessions are bound to principals.
//!
//! Between the phases "send" and "answer". A request without a principal is forwarded: the server's own 401 begins the
//! login, and metadata is for everybody. But the session that it may open would be nobody's, and so good for nobody: it
//! is ended, and the client is told to log in.

use super::{
    deliver::{Delivered, Delivery},
    error::ProxyError,
    room::Unannounced,
};
use crate::mcp::{Era, era, sse};

impl Delivery<'_> {
    /// Takes the id off that the backend has issued, if it has, and ends the session there. `head` is that of the
    /// request.
    ///
    /// # Errors
    ///
    /// When a session was opened: the client is to come with a token. An error that has an id is not one, and reaches
    /// the client without it.
    pub(super) fn withhold(
        &self,
        delivered: &mut Delivered,
        head: Unannounced,
    ) -> Result<(), ProxyError> {
        let answer = delivered.response.headers();
        let issued = answer.get(era::SESSION_ID).cloned();
        // A session of HTTP+SSE begins and ends with its stream.
        let opens_stream = self.asked.may_open.is_some() && sse::announced(answer);
        let opened = issued.is_some() || opens_stream;
        if let Some(id) = issued {
            delivered.response.headers_mut().remove(era::SESSION_ID);
            self.end_session(self.pool.entry(delivered.member), head, id);
        }
        let is_success = delivered.response.status().is_success();
        match self.asked.era {
            Era::Legacy if opened && is_success => Err(ProxyError::Unidentified),
            Era::Legacy | Era::Modern => Ok(()), // without sessions, the answer is all that the client wants
        }
    }
}
