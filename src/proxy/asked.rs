//! What of a request is needed again when its answer comes, for its head has gone on by then.

use std::num::NonZeroU32;

use http::{HeaderValue, Method, header};

use super::{classify::Arrival, headers::Seen, room};
use crate::{
    config::HostHeader,
    identity::Credential,
    mcp::{Era, RequestKind, endpoint::PinnedQuery, modern::Carries, session::ClientSessionId},
    router::{
        asker::Asker,
        table::{Pool, RoutingTable},
    },
    sessions::Owner,
};

/// What of a request its answer depends on.
pub(super) struct Asked {
    pub(super) era: Era,
    pub(super) method: Method,
    pub(super) has_session: bool,
    /// Whether it is to hear of changes for as long as it likes.
    pub(super) listens: bool,
    pub(super) waits_for_continue: bool,
    /// Those of HTTP/1.0 may have none.
    pub(super) has_host: bool,
    pub(super) client_id: Option<HeaderValue>,
    /// The session that a message to an `endpoint` URL is of.
    pub(super) endpoint: Option<PinnedQuery>,
    /// The Host of a GET whose stream may begin with `endpoint`.
    pub(super) may_open: Option<HeaderValue>,
    /// Who asks, where sessions are counted by it. In a box: few limit that.
    pub(super) credential: Option<Box<Credential>>,
    /// Who asks, where sessions are bound to it: set when its pool is known.
    pub(super) asker: Asker,
}

impl Asked {
    /// Notes it of a request.
    pub(super) fn of(arrival: &Arrival, kind: &RequestKind, table: &RoutingTable) -> Self {
        let head = &arrival.head;
        let (era, session, endpoint) = match kind {
            RequestKind::Modern(modern) => (Era::Modern, modern.session.clone(), None),
            RequestKind::Session(session) => (Era::Legacy, Some(session.clone()), None),
            RequestKind::Endpoint(query) => (Era::Legacy, None, Some(query.clone())),
            RequestKind::NewWork | RequestKind::Other => (Era::Legacy, None, None),
        };
        let client_id = session.map(ClientSessionId::into_value);
        let opens = head.method == Method::GET
            && match kind {
                RequestKind::NewWork => true,
                // Its stream is looked into only where sessions are counted, or somebody's.
                RequestKind::Other => room::is_limited(table) || table.binds_sessions(),
                RequestKind::Modern { .. } | RequestKind::Session(_) | RequestKind::Endpoint(_) => {
                    false
                }
            };
        let host = || head.headers.get(header::HOST).cloned();
        Self {
            era,
            method: head.method.clone(),
            listens: matches!(kind, RequestKind::Modern(modern) if modern.carries == Carries::InFilter),
            has_session: client_id.is_some() || endpoint.is_some(),
            waits_for_continue: arrival.waits_for_continue(),
            has_host: arrival.seen.has(Seen::HOST),
            client_id,
            endpoint,
            // HTTP/1.0 may come without: then URLs that name a host are another's.
            may_open: opens.then(|| host().unwrap_or(HeaderValue::from_static(""))),
            credential: table
                .limits
                .sessions_per_principal
                .as_ref()
                .and_then(|limit| limit.by.credential(&head.headers, arrival.client))
                .map(Box::new),
            asker: Asker::Anybody,
        }
    }

    /// Whether the backend is to see its own address as Host: where that is configured, and where the client sent none.
    pub(super) fn needs_host(&self, pool: &Pool) -> bool {
        match pool.options.host {
            HostHeader::Pass => !self.has_host,
            HostHeader::Rewrite => true,
        }
    }

    /// Who asks, and how many sessions he may have; `None` where nobody counts, or nothing tells.
    pub(super) fn owner(&self, table: &RoutingTable) -> Option<(&Credential, NonZeroU32, Owner)> {
        let limit = table.limits.sessions_per_principal.as_ref()?;
        let credential = self.credential.as_deref()?;
        let principal = limit.by.principal(credential)?;
        let owner = Owner::of(&principal.digest(&limit.by));
        Some((credential, limit.most, owner))
    }
}
