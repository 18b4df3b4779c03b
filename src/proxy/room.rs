//! Room for the sessions that requests open, where their number is limited.
//!
//! New work takes it before it is sent. Any other request without a session may open one too, whatever its head says
//! of the client: only the answer tells, and then room is taken late. Where there is none, the client is refused and
//! the session ended. So metadata, browsers and modern requests are never refused for want of sessions that they
//! do not open.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header, request};

use super::{
    body::RequestBody,
    classify::Classified,
    deliver::{Delivered, Delivery},
    error::ProxyError,
    headers,
    liveness::options,
};
use crate::{
    backend::{BackendId, Endpoint},
    mcp::{RequestKind, era, sse},
    net::Deadline,
    router::{
        Decision, Refusal,
        asker::Asker,
        placement::{self, Load},
        table::{Entry, RoutingTable},
    },
    sessions,
    upstream::{self, Target},
};

/// For the backend to answer the DELETE of a session that it has opened in vain. Nobody waits for that.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Counts as a session until it is known whether it is one.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Of its backend.
    #[expect(dead_code, reason = "it counts by being there")]
    pub(super) of_backend: Option<placement::Opening>,
    /// Of whoever asks.
    pub(super) of_principal: Option<sessions::Opening>,
}

/// A request that may open a session, and is not to: its head as far as it says who asks.
pub(super) type Unannounced = Box<request::Parts>;

/// Whether the number of sessions is limited at all.
pub(super) fn is_limited(table: &RoutingTable) -> bool {
    let limits = &table.limits;
    limits.sessions_per_backend.is_some() || limits.sessions_per_principal.is_some()
}

/// What is kept of a request, as a backend is to see it, in case that it opens a session for which no room was taken,
/// or which would be nobody's.
pub(super) fn unannounced(
    table: &RoutingTable,
    Classified { kind, asked, .. }: &Classified,
    head: &request::Parts,
    decision: &Decision,
) -> Option<Unannounced> {
    let (may_open, has_room) = match kind {
        RequestKind::NewWork => (true, true),
        RequestKind::Modern(_) => (decision.session.is_none(), false),
        RequestKind::Other => (true, false),
        RequestKind::Session(_) | RequestKind::Endpoint(_) => (false, false),
    };
    let is_nobody_s = asked.asker == Asker::Nobody;
    (may_open && (is_nobody_s || (!has_room && is_limited(table)))).then(|| Box::new(head.clone()))
}

impl Delivery<'_> {
    /// Takes room for a session of whoever asks, where there is a limit.
    ///
    /// # Errors
    ///
    /// When he has as many as he may have.
    fn open(&self) -> Result<Option<sessions::Opening>, ProxyError> {
        let Some((credential, most, owner)) = self.asked.owner(self.table) else {
            return Ok(None);
        };
        self.proxy
            .sessions
            .open(owner, &credential.as_bytes(), most)
            .map(Some)
            .map_err(|_full| ProxyError::Refused(Refusal::PrincipalSessionsFull))
    }

    /// Takes room for the session that new work may open.
    ///
    /// # Errors
    ///
    /// See [`Delivery::open`].
    pub(super) fn announced(
        &self,
        kind: &RequestKind,
    ) -> Result<Option<sessions::Opening>, ProxyError> {
        match kind {
            RequestKind::NewWork => self.open(),
            RequestKind::Modern(_)
            | RequestKind::Session(_)
            | RequestKind::Endpoint(_)
            | RequestKind::Other => Ok(None),
        }
    }

    /// Takes room for what the answer to an unannounced request has opened, if it has.
    ///
    /// # Errors
    ///
    /// When there is none, or it would be nobody's. The session is ended.
    pub(super) fn admit(
        &self,
        delivered: &mut Delivered,
        head: Unannounced,
    ) -> Result<(), ProxyError> {
        match self.asked.asker {
            Asker::Nobody => return self.withhold(delivered, head),
            Asker::Anybody | Asker::Principal(_) => {}
        }
        let answer = delivered.response.headers();
        let id = answer.get(era::SESSION_ID);
        let opens_stream = self.asked.may_open.is_some() && sse::announced(answer);
        if !delivered.response.status().is_success() || (id.is_none() && !opens_stream) {
            return Ok(());
        }
        let entry = self.pool.entry(delivered.member);
        let room = self.open().and_then(|of_principal| {
            Ok(Room {
                of_backend: room_at(self.table, &entry.load)?,
                of_principal,
            })
        });
        match room {
            Ok(room) => delivered.room = room,
            Err(full) => {
                // A session of HTTP+SSE ends with its stream.
                if let Some(id) = id {
                    self.end_session(entry, head, id.clone());
                }
                return Err(full);
            }
        }
        Ok(())
    }

    /// Ends a session at its backend, in a task of its own.
    pub(super) fn end_session(&self, entry: &Entry, mut head: Unannounced, id: HeaderValue) {
        if self.asked.needs_host(self.pool) {
            headers::set_host(&mut head.headers, &entry.backend.endpoint.authority());
        }
        let client = self.proxy.client.clone();
        let undoing = Undoing {
            client,
            deadline: self.proxy.ticker.deadline(),
            options: options(self.table),
            backend: entry.id,
            endpoint: entry.backend.endpoint.clone(),
            head,
        };
        undoing.end(id);
    }
}

/// What ends a session that should not be, if a request opens one.
pub(super) struct Undoing {
    pub(super) client: upstream::Client<RequestBody>,
    pub(super) deadline: Deadline,
    pub(super) options: upstream::Options,
    pub(super) backend: BackendId,
    pub(super) endpoint: Endpoint,
    /// The request's, as the backend has seen it.
    pub(super) head: Unannounced,
}

impl Undoing {
    /// Ends it at its backend, in a task of its own.
    pub(super) fn end(self, id: HeaderValue) {
        let Self {
            client,
            deadline,
            options,
            backend,
            endpoint,
            mut head,
        } = self;
        headers::keep_credentials(&mut head.headers);
        let any = HeaderValue::from_static("*/*");
        head.headers.insert(header::ACCEPT, any);
        head.headers.insert(era::SESSION_ID, id);
        head.method = Method::DELETE;
        tokio::task::spawn_local(async move {
            let target = Target {
                id: backend,
                endpoint: &endpoint,
            };
            let body = RequestBody::Whole(Bytes::new());
            let mut request = Some(Request::from_parts(*head, body));
            let limit = (&deadline, END_WITHIN);
            let ended = client.send(target, &mut request, || options, limit).await;
            if let Err(error) = ended {
                tracing::debug!(%error, "a session that should not be was not ended");
            }
        });
    }
}

fn room_at(
    table: &RoutingTable,
    load: &Arc<Load>,
) -> Result<Option<placement::Opening>, ProxyError> {
    let Some(most) = table.limits.sessions_per_backend else {
        return Ok(None);
    };
    match load.open_session(most) {
        Some(opening) => Ok(Some(opening)),
        None => Err(ProxyError::Refused(Refusal::SessionsFull)),
    }
}
