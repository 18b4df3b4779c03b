//! Hears whether a backend says that the session of a request is gone.
//!
//! Between the phases "send" and "answer". It says so by 404 or, where the pool's `normalize_lost_session` is
//! on, by what some servers answer instead. A server without a route for GET answers 404 to each, also in a session
//! that lives: there only the words count.

use http::{Method, StatusCode};

use super::{
    Asked,
    deliver::{Delivered, Delivery},
    error::ProxyError,
    headers::Exchanged,
};
use crate::{
    config::OnLoss,
    mcp::{Era, loss},
    observe::word::Loss,
    router::table::Entry,
};

/// How a backend says that it does not know a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// By 404, as the specification wants.
    NotFound,
    /// In words of its own: the client is to get a 404 in their place.
    InOtherWords,
}

impl Gone {
    /// What the client is told of it: the backend's own 404, or one of pinring's.
    ///
    /// # Errors
    ///
    /// Where it is one of pinring's.
    pub(super) fn told(
        self,
        delivered: Delivered,
        exchanged: Option<Exchanged>,
    ) -> Result<(Delivered, Option<Exchanged>), ProxyError> {
        match self {
            Self::NotFound => Ok((delivered, exchanged)),
            Self::InOtherWords => Err(ProxyError::SessionForgotten),
        }
    }
}

impl Delivery<'_> {
    /// Whether an answer may say that the session is gone: only of an id that its backend has issued, and only where there
    /// are sessions.
    pub(super) fn may_tell_loss(
        &self,
        Delivered { response, .. }: &Delivered,
        exchanged: Option<&Exchanged>,
    ) -> bool {
        exchanged.is_some()
            && self.asked.era == Era::Legacy
            && (response.status() == StatusCode::NOT_FOUND
                || (self.pool.options.normalize_lost_session
                    && loss::is_worth_reading(response.status(), response.headers())))
    }

    /// Reads as much of an answer as tells whether the session is gone, and takes note if it is. An answer that
    /// says nothing of the kind is whole behind it.
    ///
    /// # Errors
    ///
    /// When the answer breaks off.
    pub(super) async fn hear(
        &self,
        delivered: &mut Delivered,
        exchanged: Option<&Exchanged>,
    ) -> Result<Option<Gone>, ProxyError> {
        let asked = self.asked;
        let may_tell = self.may_tell_loss(delivered, exchanged);
        let Some(exchanged) = exchanged.filter(|_| may_tell) else {
            return Ok(None);
        };
        let status = delivered.response.status();
        let is_not_found = status == StatusCode::NOT_FOUND;
        let says_so = if is_not_found && asked.is_404_of_session() {
            true
        } else if asked.method != Method::HEAD
            && loss::is_worth_reading(status, delivered.response.headers())
        {
            // Boxed: it is rare, and its timer would be room in the future of every request.
            Box::pin(is_told_by_body(delivered)).await?
        } else {
            false
        };
        if !says_so {
            return Ok(None);
        }
        let gone = if is_not_found {
            Gone::NotFound
        } else {
            Gone::InOtherWords
        };
        self.note_gone(self.pool.entry(delivered.member), exchanged);
        Ok(Some(gone))
    }

    /// Counts a session that a backend has forgotten, and says once what that may mean.
    fn note_gone(&self, entry: &Entry, exchanged: &Exchanged) {
        let odd = self
            .proxy
            .sessions
            .end_unknown(exchanged.server.as_bytes(), &entry.load);
        // Who ends a session twice has himself to thank.
        if !odd || self.asked.method == Method::DELETE {
            return;
        }
        match self.pool.options.on_loss {
            OnLoss::NotFound | OnLoss::Successor => self.proxy.meter.session_lost(Loss::Forgotten),
            OnLoss::Reinitialize => {} // it is brought back
        }
        if entry.load.session_forgotten() == 1 {
            tracing::warn!(
                backend = %entry.backend.name,
                "the backend does not know a session that it answered a moment ago. Are there several processes behind its \
                 address (uvicorn --workers, gunicorn, node's cluster, PM2, several pods behind one Service)? Run one process \
                 for each backend, and list each as a backend of its own. Else it ends sessions early, or was restarted \
                 unnoticed. Further cases are counted, and not logged"
            );
        }
    }
}

impl Asked {
    /// Whether a 404 to this request means its session, whatever it says: every server of MCP has a route for POST,
    /// and what is left of a session after DELETE is nobody's. Express and Fastify answer 404 to a GET without a route.
    pub(super) fn is_404_of_session(&self) -> bool {
        self.method == Method::POST || self.method == Method::DELETE
    }
}

/// Reads the body, if it is short, and tells whether it says that the session is unknown. What was read is put
/// back.
async fn is_told_by_body(delivered: &mut Delivered) -> Result<bool, ProxyError> {
    let Some(whole) = delivered.read_whole(loss::MAX_LEN, |_| true).await? else {
        return Ok(false);
    };
    delivered.read = whole;
    Ok(loss::is_told_by(
        delivered.response.status(),
        &delivered.read,
    ))
}
