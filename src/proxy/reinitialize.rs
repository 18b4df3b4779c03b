//! Brings a session of a lost backend back: repeats its recorded handshake at another one, and sends the request on.
//!
//! Only in pools with `on_loss = "reinitialize"` (design, section 4). What the server had in memory is gone; the
//! client keeps its id. [`Part`] is all that the phases of a request see of it, [`Opening`] records how sessions
//! begin, [`Renewal`] decides whether a session is lost, `bring_back` finds it a new place, and `handshake` speaks with the
//! server.

mod bring_back;
mod flights;
mod handshake;
mod renewal;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, HeaderValue, Method, Request, Response, request};

use self::flights::Flights;
pub(super) use self::renewal::Renewal;
use super::{
    asked::Asked,
    body::{Answer, Kept, RequestBody, RequestBodyError},
    classify::Classified,
    deliver::{Delivered, Delivery},
    error::ProxyError,
    headers::{self, Exchanged, Forwarded},
    message_id::MessageId,
};
use crate::{
    config::OnLoss,
    mcp::{RequestKind, era, initialize},
    pin::{self, Kind},
    router::{
        self, Decision, Moved,
        table::{Pool, RoutingTable},
    },
    sessions::store::{Handshake, Key, Known, Store},
};

/// What tells a client that its server has forgotten all but the handshake.
const MARK: HeaderName = HeaderName::from_static("pinring-session");
const REINITIALIZED: HeaderValue = HeaderValue::from_static("reinitialized");

/// What all requests of the process share for bringing sessions back. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Renewals {
    store: Store,
    flights: Flights,
    reinitialized: Arc<AtomicU64>,
}

impl Renewals {
    /// No session was brought back yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            flights: Flights::default(),
            reinitialized: Arc::default(),
        }
    }

    /// How many sessions this process has brought back.
    #[must_use]
    pub fn reinitialized(&self) -> u64 {
        self.reinitialized.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.reinitialized.fetch_add(1, Ordering::Relaxed);
    }

    /// Where the session of a request has moved to, if it has. The shared store is asked only about sessions
    /// whose backend is, or was, lost or unknown here.
    pub(super) async fn moved(
        &self,
        table: &RoutingTable,
        pool: &Pool,
        Classified { kind, asked, .. }: &Classified,
    ) -> Option<Arc<Moved>> {
        let RequestKind::Session(id) = kind else {
            return None;
        };
        let key = Key::of(id.as_bytes());
        match self.store.known(&key) {
            Known::Moved(moved) => Some(moved),
            Known::Ask if router::may_have_moved(table, pool, &asked.asker, id) => {
                Box::pin(self.store.find(&key)).await.ok()?.moved
            }
            Known::Ask | Known::Stays => None,
        }
    }
}

/// What a request has to do with bringing sessions back.
pub(super) enum Part<'a> {
    /// Nothing.
    None,
    /// It may open a session.
    Opens(Box<Opening<'a>>),
    /// It is of a session that may have to be brought back.
    Continues(Box<Renewal<'a>>),
}

/// See [`Part::gather`].
pub(super) type Gathering<'a> = Pin<Box<dyn Future<Output = Result<(), RequestBodyError>> + 'a>>;

/// What comes of a request that was routed.
pub(super) enum Recovered {
    /// It goes there.
    At(Decision),
    /// The new server wants to know first who asks: this is for the client.
    Denied(Box<Delivered>),
}

impl<'a> Delivery<'a> {
    /// What a request has to do with it: nothing, but in pools with `on_loss = "reinitialize"`.
    pub(super) fn part(
        &self,
        head: &request::Parts,
        classified: &'a Classified,
        forwarded: Forwarded<'_>,
    ) -> Part<'a> {
        let Self {
            proxy,
            table,
            pool,
            exchange,
            ..
        } = *self;
        match pool.options.on_loss {
            OnLoss::NotFound | OnLoss::Successor => return Part::None,
            OnLoss::Reinitialize => {}
        }
        let budget = proxy.bodies.up_to(table.limits.body_bytes_total);
        let kept = Kept::up_to(table.limits.replay_bytes, budget);
        match &classified.kind {
            RequestKind::NewWork | RequestKind::Other if head.method == Method::POST => {
                Part::Opens(Box::new(Opening {
                    store: &proxy.renewals.store,
                    path: head.uri.path().to_owned(),
                    kept,
                }))
            }
            RequestKind::Session(id) if pin::Pin::parse(Kind::Session, id.as_bytes()).is_some() => {
                let mut rewritten = head.clone();
                let strip = pool.options.strip_prefix.as_ref();
                headers::to_backend(&mut rewritten, &classified.scan, forwarded, strip, None);
                Part::Continues(Box::new(Renewal {
                    proxy,
                    table,
                    pool,
                    asker: &classified.asked.asker,
                    id,
                    key: Key::of(id.as_bytes()),
                    target: head.uri.clone(),
                    head: rewritten,
                    kept,
                    exchange,
                    has_waited: false.into(),
                    stayed_unknown: false.into(),
                    followed: None.into(),
                }))
            }
            RequestKind::Modern(_)
            | RequestKind::Session(_)
            | RequestKind::Endpoint(_)
            | RequestKind::NewWork
            | RequestKind::Other => Part::None,
        }
    }
}

impl Part<'_> {
    /// Brings the session back if its backend is lost.
    ///
    /// # Errors
    ///
    /// The one that it was routed with, or that it cannot be brought back for now.
    pub(super) async fn recover(
        &self,
        routed: Result<Decision, ProxyError>,
    ) -> Result<Recovered, ProxyError> {
        match (self, routed) {
            (_, Ok(decision)) => Ok(Recovered::At(decision)),
            (Self::Continues(renewal), Err(error)) if error.is_loss() => {
                Box::pin(renewal.recover(error)).await
            }
            (Self::None | Self::Opens(_) | Self::Continues(_), Err(error)) => Err(error),
        }
    }

    /// Changes the head of a request that goes on elsewhere than it began.
    pub(super) fn prepare(&self, head: &mut request::Parts, decision: &Decision) {
        match self {
            Self::None | Self::Opens(_) => {}
            Self::Continues(renewal) => renewal.prepare(head, decision),
        }
    }

    /// Where the request's body is to be kept.
    pub(super) fn keep(&self) -> Option<Kept> {
        match self {
            Self::None => None,
            Self::Opens(opening) => Some(opening.kept.clone()),
            Self::Continues(renewal) => Some(renewal.kept.clone()),
        }
    }

    /// Waits for the body, if it is still to come, so that all is known that the request's end needs should the backend go
    /// before it has come: many clients send it a moment after the head. In a box, for that is rare.
    pub(super) fn gather<'r>(
        &'r self,
        asked: &Asked,
        request: &'r mut Option<Request<RequestBody>>,
    ) -> Option<Gathering<'r>> {
        let Self::Continues(renewal) = self else {
            return None;
        };
        if asked.waits_for_continue || !renewal.kept.is_coming() {
            return None;
        }
        let body = request.as_mut()?.body_mut();
        Some(Box::pin(body.gather(&renewal.kept)))
    }

    /// Where the id of its message is to be found: in `kept`.
    pub(super) fn message_id(&self, kept: Kept) -> MessageId {
        match self {
            Self::None | Self::Opens(_) => MessageId::Opens(kept),
            Self::Continues(_) => MessageId::Continues(kept),
        }
    }

    /// Heeds what came of a delivery: brings the session back if its backend was lost while the request waited, or
    /// does not know it, and delivers the request then. Else it is the backend's answer, as far as the client may see
    /// it.
    ///
    /// # Errors
    ///
    /// The one of the delivery, that the session cannot be brought back for now, or that the client is to be told in
    /// pinring's words that it is gone.
    pub(super) async fn heed(
        &self,
        delivery: &Delivery<'_>,
        delivered: Result<Delivered, ProxyError>,
        exchanged: Option<Exchanged>,
    ) -> Result<(Delivered, Option<Exchanged>), ProxyError> {
        let (mut delivered, exchanged) = match (self, delivered) {
            (_, Ok(delivered)) => (delivered, exchanged),
            (Self::Continues(renewal), Err(error)) if error.is_loss() => {
                Box::pin(renewal.deliver_elsewhere(delivery, error)).await?
            }
            (Self::None | Self::Opens(_) | Self::Continues(_), Err(error)) => return Err(error),
        };
        let gone = delivery.hear(&mut delivered, exchanged.as_ref()).await?;
        match (self, gone) {
            (_, None) => Ok((delivered, exchanged)),
            (Self::Continues(renewal), Some(gone)) => {
                Box::pin(renewal.deliver_again(delivery, delivered, exchanged, gone)).await
            }
            (Self::None | Self::Opens(_), Some(gone)) => gone.told(delivered, exchanged),
        }
    }

    /// How long the request is to wait for its backend, beyond the usual time: see [`Delivery::waits_for_loss`].
    pub(super) fn waits_for_loss(&self, decision: &Decision) -> Option<Duration> {
        match self {
            Self::None | Self::Opens(_) => None,
            Self::Continues(renewal) => renewal.waits_for_loss(decision.member),
        }
    }

    /// Draws the conclusions from the answer.
    pub(super) async fn conclude(&self, response: &mut Response<Answer>) {
        match self {
            Self::None => {}
            Self::Opens(opening) => opening.conclude(response),
            Self::Continues(renewal) => {
                if renewal.has_waited.get() {
                    response.headers_mut().insert(MARK, REINITIALIZED);
                }
                renewal.note(response.status()).await;
            }
        }
    }
}

/// A request that may open a session.
pub(super) struct Opening<'a> {
    store: &'a Store,
    path: String,
    kept: Kept,
}

impl Opening<'_> {
    /// Records the handshake if this was one.
    fn conclude(&self, response: &Response<Answer>) {
        let issued = response.headers().get(era::SESSION_ID);
        let Some(id) = issued.filter(|_| response.status().is_success()) else {
            return;
        };
        let body = self.kept.whole();
        if let Some(body) = body.and_then(|body| initialize::repeatable(&body)) {
            let path = self.path.clone();
            self.store
                .record(Key::of(id.as_bytes()), Handshake { path, body });
        }
    }
}
