//! Where a request goes whose backend has not answered it: to another one, to the same again, or nowhere.

use std::time::Duration;

use http::Request;

use super::Delivery;
use crate::{
    config::OnLoss,
    health::Vital,
    mcp::Era,
    net::{self, Instant},
    proxy::{body::RequestBody, error::ProxyError},
    ring::Member,
    router::{
        self, Decision, Refusal,
        table::{Entry, Pool},
    },
    upstream::Failure,
};

/// Between two rounds of connects: who refuses may be about to listen again.
const CONNECT_AGAIN: Duration = Duration::from_millis(100);

impl Delivery<'_> {
    /// Where a request goes whose backend has lost all that it held: elsewhere, as long as nobody has seen it.
    pub(super) async fn after_loss(
        &self,
        decision: &Decision,
        request: &mut Option<Request<RequestBody>>,
        tried: &[Member],
    ) -> Result<Decision, ProxyError> {
        if request.is_none() {
            return Err(self.lost());
        }
        let random = self.proxy.random.borrow_mut().u64(..);
        if let Ok(next) = router::reroute(self.pool, decision, random, tried) {
            return Ok(next);
        }
        if self.waits_for_loss.is_none() {
            return Err(self.lost_unsent());
        }
        keep(request).await;
        Err(ProxyError::Refused(Refusal::BackendRemoved))
    }

    /// The backend was drained while it had the request, which is never sent twice. The session is
    /// gone, unless somebody else can serve it next time.
    fn lost(&self) -> ProxyError {
        if self.is_of_session() && self.pool.options.on_loss == OnLoss::NotFound {
            ProxyError::Refused(Refusal::BackendRemoved)
        } else {
            ProxyError::Drained
        }
    }

    /// The backend was drained before it had seen anything of the request, and no other one is left for it. It is
    /// told what it would be a moment later, or to come back then.
    fn lost_unsent(&self) -> ProxyError {
        if !self.is_of_session() {
            return ProxyError::Refused(Refusal::NoBackend);
        }
        match self.pool.options.on_loss {
            OnLoss::NotFound => ProxyError::Refused(Refusal::BackendRemoved),
            OnLoss::Successor | OnLoss::Reinitialize => ProxyError::NotReinitialized,
        }
    }

    fn is_of_session(&self) -> bool {
        self.asked.era == Era::Legacy && self.asked.has_session
    }

    /// Where an unsent request goes next, if anywhere: elsewhere at once, and when all were tried, round
    /// again after a while.
    pub(super) async fn next(
        &self,
        entry: &Entry,
        earlier: &Decision,
        failure: &Failure,
        tried: &mut Vec<Member>,
        give_up: Instant,
    ) -> Option<Decision> {
        if net::now() >= give_up {
            return None;
        }
        let random = self.proxy.random.borrow_mut().u64(..);
        if let Ok(next) = router::reroute(self.pool, earlier, random, tried) {
            // All are down, and this one has cost the client its wait: those that are left are probed already.
            let waited = self.is_long_down(entry) && !failure.may_pass();
            if waited && self.is_long_down(self.pool.entry(next.member)) {
                return None;
            }
            tracing::debug!(backend = %entry.backend.name, error = %failure, "goes to another backend");
            return Some(next);
        }
        let waits = self.waits_for_loss.is_some();
        if (self.is_long_down(entry) && !waits)
            || !failure.may_pass()
            || net::now() + CONNECT_AGAIN >= give_up
        {
            return None;
        }
        net::sleep(CONNECT_AGAIN).await;
        tried.clear();
        Some(router::reroute(self.pool, earlier, random, tried).unwrap_or_else(|_| earlier.clone()))
    }

    /// How long the backends are tried.
    pub(super) fn patience(&self) -> Duration {
        let connect = self.table.timeouts.connect;
        self.waits_for_loss
            .map_or(connect, |wait| wait.max(connect))
    }

    /// Whether the backend has been found to be lost since the request began.
    pub(super) fn is_lost_by_now(&self, entry: &Entry) -> bool {
        let newest = self.proxy.tables.snapshot();
        let mut entries = newest.pools.iter().flat_map(Pool::entries);
        entries.any(|now| now.id == entry.id && (now.drained || now.vital == Vital::Lost))
    }

    /// Whether it has been down for longer than a request would wait for it.
    pub(super) fn is_long_down(&self, entry: &Entry) -> bool {
        let patience = self.table.timeouts.connect;
        entry
            .down_since
            .is_some_and(|since| net::now().saturating_duration_since(since) > patience)
    }
}

/// Reads what nobody was sent, so that it is kept where it is to be kept.
pub(super) async fn keep(unsent: &mut Option<Request<RequestBody>>) {
    if let Some(unsent) = unsent.take() {
        Box::pin(unsent.into_body().keep()).await;
    }
}
