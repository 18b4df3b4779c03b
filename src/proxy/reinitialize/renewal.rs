//! Decides whether a request's session is lost, and what becomes of the request.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, request};

use super::{Recovered, bring_back::Brought, flights::Landed};
use crate::{
    health::Vital,
    mcp::{era, session::ClientSessionId},
    net,
    observe::{Exchange, word::Loss},
    pin::{Kind, Pin},
    proxy::{
        Proxy,
        body::{Kept, RequestBody},
        deliver::{Delivered, Delivery},
        error::ProxyError,
        gone::Gone,
        headers::Exchanged,
    },
    ring::Member,
    router::{
        self, Decision, Moved, Refusal, Why,
        asker::Asker,
        table::{Entry, Pool, Snapshot},
    },
    sessions::store::{Away, Key, Known, Store},
};

/// How long a request waits for a backend to be back, or lost: well below the time-outs of the SDKs' clients.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// A probe sees the loss this much later than it begins, at most.
const MARGIN: Duration = Duration::from_secs(1);

/// For the rest of a request that its backend has answered by the head alone.
const REST_OF_BODY: Duration = Duration::from_secs(2);

/// A request whose session may have to be brought back.
pub(in crate::proxy) struct Renewal<'a> {
    pub(super) proxy: &'a Proxy,
    pub(super) table: &'a Snapshot,
    pub(super) pool: &'a Pool,
    pub(super) asker: &'a Asker,
    pub(super) id: &'a ClientSessionId,
    pub(super) key: Key,
    /// What the client asked for.
    pub(super) target: Uri,
    /// The head as a backend is to see it, without a session.
    pub(super) head: request::Parts,
    pub(super) kept: Kept,
    pub(super) exchange: &'a Exchange,
    /// The session was brought back while the request waited.
    pub(super) has_waited: Cell<bool>,
    /// The place that the session's pin, or what is known of its move, names is unknown here, and will stay so.
    pub(super) stayed_unknown: Cell<bool>,
    /// Where the request was sent, if that is where the session had moved to.
    pub(super) followed: RefCell<Option<Arc<Moved>>>,
}

impl Renewal<'_> {
    /// The session's backend is lost, as `error` says: brings it back, if this request may ask for that.
    pub(super) async fn recover(&self, error: ProxyError) -> Result<Recovered, ProxyError> {
        if !self.may_be_repeated() {
            // A token that no backend has looked at may be anybody's: it ends nothing.
            if *self.asker == Asker::Anybody {
                self.note(StatusCode::NOT_FOUND).await;
            }
            return Err(error);
        }
        let stayed_unknown = matches!(error, ProxyError::StayedUnknown(_));
        self.stayed_unknown.set(stayed_unknown);
        match self.bring_back().await {
            Brought::Landed(Landed::At(moved)) => {
                self.has_waited.set(true);
                Ok(Recovered::At(self.arrive(&moved)?))
            }
            Brought::Landed(Landed::Gone) => {
                self.is_lost();
                Err(error)
            }
            Brought::Landed(Landed::Unavailable) => Err(ProxyError::NotReinitialized),
            Brought::Denied(denied) => Ok(Recovered::Denied(denied)),
        }
    }

    /// The backend does not know the session: brings it back, and delivers the request again, if that can be. Else the
    /// client is told so.
    pub(super) async fn deliver_again(
        &self,
        delivery: &Delivery<'_>,
        delivered: Delivered,
        exchanged: Option<Exchanged>,
        gone: Gone,
    ) -> Result<(Delivered, Option<Exchanged>), ProxyError> {
        if !self.may_be_repeated() {
            self.note(StatusCode::NOT_FOUND).await; // whatever its words were
            return gone.told(delivered, exchanged);
        }
        // Only the path that issued the session knows it; others have 404s of their own.
        let recorded = match self.store().find(&self.key).await {
            Ok(found) => found.handshake,
            Err(away) if self.is_worth_waiting(away) => return Err(ProxyError::NotReinitialized),
            Err(_away) => None,
        };
        if recorded.is_none_or(|handshake| handshake.path != self.target.path()) {
            return gone.told(delivered, exchanged);
        }
        let _in_time = net::within(REST_OF_BODY, self.kept.ended()).await;
        let Some(body) = self.kept.whole() else {
            if self.kept.lacks_room() {
                return Err(ProxyError::BodiesFull);
            }
            self.is_lost();
            return gone.told(delivered, exchanged); // too large to be sent again
        };
        let asked = exchanged
            .as_ref()
            .map(|exchanged| exchanged.server.as_bytes());
        match self.bring_back().await {
            Brought::Landed(Landed::At(moved)) => {
                self.has_waited.set(true);
                self.end_visits(&delivered, asked);
                drop(delivered);
                self.deliver_to(delivery, self.arrive(&moved)?, body).await
            }
            Brought::Landed(Landed::Gone) => {
                self.is_lost();
                gone.told(delivered, exchanged)
            }
            Brought::Landed(Landed::Unavailable) => Err(ProxyError::NotReinitialized),
            Brought::Denied(denied) => Ok((*denied, None)),
        }
    }

    /// The session's backend was lost while the request waited for it, as `error` says: brings it back, and delivers
    /// the request, of which no backend has seen anything.
    pub(super) async fn deliver_elsewhere(
        &self,
        delivery: &Delivery<'_>,
        error: ProxyError,
    ) -> Result<(Delivered, Option<Exchanged>), ProxyError> {
        let Some(body) = self.kept.whole() else {
            return Err(if self.kept.lacks_room() {
                ProxyError::BodiesFull
            } else {
                self.is_lost();
                error // too large to be kept
            });
        };
        match self.bring_back().await {
            Brought::Landed(Landed::At(moved)) => {
                self.has_waited.set(true);
                self.deliver_to(delivery, self.arrive(&moved)?, body).await
            }
            Brought::Landed(Landed::Gone) => {
                self.is_lost();
                Err(error)
            }
            Brought::Landed(Landed::Unavailable) => Err(ProxyError::NotReinitialized),
            Brought::Denied(denied) => Ok((*denied, None)),
        }
    }

    async fn deliver_to(
        &self,
        delivery: &Delivery<'_>,
        decision: Decision,
        body: Bytes,
    ) -> Result<(Delivered, Option<Exchanged>), ProxyError> {
        let mut head = self.head.clone();
        let exchanged = decision.session.clone().map(|session| Exchanged {
            client: self.id.clone().into_value(),
            server: session.into_value(),
        });
        if let Some(exchanged) = &exchanged {
            head.headers
                .insert(era::SESSION_ID, exchanged.server.clone());
        }
        self.prepare(&mut head, &decision);
        let mut request = Some(Request::from_parts(head, RequestBody::Whole(body)));
        Ok((delivery.run(decision, &mut request).await?, exchanged))
    }

    /// How long the request is to wait for a backend that refuses connections, with which its session may be lost:
    /// as long as anybody else could take the session.
    pub(super) fn waits_for_loss(&self, member: Member) -> Option<Duration> {
        let takes_it = |(other, entry): (Member, &Entry)| {
            other != member && entry.vital == Vital::Healthy && !entry.drained
        };
        let others = (0..).zip(self.pool.entries()).any(takes_it);
        let lost_within = self.pool.options.patience.refused + MARGIN;
        (others && self.may_be_repeated()).then_some(lost_within.min(LONGEST_WAIT))
    }

    /// Whether the session is to be asked for there: not where it was not known, nor where all is lost.
    pub(super) fn is_news(&self, moved: &Arc<Moved>) -> bool {
        let is_lost = |refusal: Refusal| {
            let stays_unknown = refusal == Refusal::UnknownCoordinate && self.stayed_unknown.get();
            refusal.is_loss() || stays_unknown
        };
        let found = router::follow(self.table, self.pool, self.asker, self.id, moved);
        !self.has_followed(moved) && !found.is_err_and(is_lost)
    }

    /// Whether the request was sent there already, and the session was not known. The next move may be to an equal
    /// place: there are servers that count their sessions, from one at each start.
    pub(super) fn has_followed(&self, moved: &Arc<Moved>) -> bool {
        let followed = self.followed.borrow();
        followed
            .as_ref()
            .is_some_and(|followed| Arc::ptr_eq(followed, moved))
    }

    pub(super) fn without_store(&self, away: Away) -> Landed {
        if self.is_worth_waiting(away) {
            Landed::Unavailable
        } else {
            Landed::Gone
        }
    }

    /// Whether the session may still be found: a store that is away is waited for as long as a backend.
    fn is_worth_waiting(&self, away: Away) -> bool {
        match away {
            Away::Unreachable(since) => {
                net::now().saturating_duration_since(since) < self.pool.options.patience.refused
            }
            Away::Refuses => false,
        }
    }

    fn arrive(&self, moved: &Moved) -> Result<Decision, ProxyError> {
        router::arrive(self.table, self.pool, self.asker, self.id, moved)
            .map_err(ProxyError::Refused)
    }

    /// Notes where the request goes, and changes its head if that is elsewhere than the session began: an event
    /// that its stream there would resume after may be another server's, and some answer 400 to those.
    pub(super) fn prepare(&self, head: &mut request::Parts, decision: &Decision) {
        if decision.why != Why::Reinitialized {
            return;
        }
        if let Known::Moved(moved) = self.store().known(&self.key) {
            self.followed.replace(Some(moved));
        }
        if head.method == Method::GET {
            let last = head.headers.get(era::LAST_EVENT_ID);
            let last = last.map(HeaderValue::as_bytes);
            if self.store().resumes_from_before(&self.key, last) {
                head.headers.remove(era::LAST_EVENT_ID);
            }
        }
    }

    /// Notes how the session was answered: it lives, or its client has ended it.
    pub(super) async fn note(&self, status: StatusCode) {
        let ended = status.is_success() || status == StatusCode::NOT_FOUND;
        if ended && self.head.method == Method::DELETE {
            Box::pin(self.store().remove(&self.key)).await;
        } else if status.is_success() {
            self.store().answered(&self.key);
        }
    }

    /// Counts the session as one that could not be brought back.
    fn is_lost(&self) {
        self.proxy.meter.session_lost(Loss::NotReinitialized);
    }

    /// Where the session was, it counts no longer.
    fn end_visits(&self, delivered: &Delivered, asked: Option<&[u8]>) {
        let load = &self.pool.entry(delivered.member).load;
        let visit = asked.and_then(|asked| self.proxy.sessions.visit_known(asked, load));
        if let Some(visit) = visit {
            visit.end_session();
        }
    }

    pub(super) fn may_be_repeated(&self) -> bool {
        [Method::POST, Method::GET].contains(&self.head.method)
    }

    pub(super) fn pin(&self) -> Option<Pin<'_>> {
        Pin::parse(Kind::Session, self.id.as_bytes())
    }

    /// What the backend that issued the session called it: the log knows it by this.
    pub(super) fn own(&self) -> &[u8] {
        self.pin().map_or(self.id.as_bytes(), |pin| pin.string)
    }

    pub(super) fn store(&self) -> &Store {
        &self.proxy.renewals.store
    }
}
