//! What probes ask: whether this process lives, and whether it is to get clients. On a listener of their own, and at the
//! admin listener too.
//!
//! Ready says nothing of the backends' health, unless it is asked for: all proxies would be taken out at once when a
//! backend fails. Probes are answered during the drain too, to the end.

use http::{Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;

use super::{
    Admin, Answered,
    api::{self, Body, Fault},
    guard::Visitor,
    listener::{PROBES, accept_all, converse, liveness},
};
use crate::{
    net,
    reload::command::Command,
    router::membership::{Shown, View},
    shutdown::Phase,
};

/// All that probes may ask for, for whoever asks for something else.
const ENDPOINTS: &str = "GET /livez, GET /readyz, GET /metrics, GET /drain";

impl Admin {
    /// Accepts probes and answers them, for ever. Runs within a local task set.
    pub async fn serve_probes(self, listener: net::Listener) {
        let accept = async || listener.accept(liveness()).await;
        let serve = |(stream, peer)| {
            let (admin, visitor) = (self.clone(), Visitor::Remote(peer));
            async move {
                let answer = async |request| admin.answer_probe(request, visitor).await;
                converse(stream, PROBES, answer).await;
            }
        };
        accept_all("the address for probes", PROBES, accept, serve).await;
    }

    async fn answer_probe(&self, request: Request<Incoming>, visitor: Visitor) -> Response<Body> {
        let (head, _body) = request.into_parts();
        let answered = match (&head.method, head.uri.path()) {
            (&Method::GET | &Method::HEAD, path @ ("/livez" | "/readyz" | "/metrics")) => {
                match path {
                    "/livez" => Ok(alive()),
                    "/readyz" => self.readiness(&head).await,
                    _ => Ok(self.metrics()),
                }
            }
            (&Method::GET, "/drain") => self.drain_local(&head, visitor).await,
            (_, path @ ("/livez" | "/readyz" | "/metrics" | "/drain")) => {
                Err(Fault::method(path, &Method::GET))
            }
            (_, path) => Err(Fault::not_found(path, ENDPOINTS)),
        };
        answered.unwrap_or_else(Fault::plain)
    }

    /// Whether this process takes clients; with `?backends=1`, also whether each pool has one that takes new work and
    /// is well.
    pub(super) async fn readiness(&self, head: &request::Parts) -> Answered {
        let phase = self.process.phases.phase();
        let not_yet = !*self.process.discovered.borrow();
        let (mut ready, mut text) = match phase {
            Phase::Running if not_yet => (
                false,
                "starting: not every DNS name that stands for backends was answered yet".to_owned(),
            ),
            Phase::Running => (true, "ready".to_owned()),
            Phase::Leaving | Phase::Draining { .. } | Phase::Forced => {
                (false, phase.as_str().to_owned())
            }
        };
        if ready && head.uri.query() == Some("backends=1") {
            let views = self.process.writer.ask(Command::Backends).await?;
            if let Some(pool) = without_backend(&views) {
                ready = false;
                text = format!("no backend of pool {pool} takes new work and is well");
            }
        }
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        Ok(api::text(status, text + "\n"))
    }
}

/// That it is answered is the answer.
pub(super) fn alive() -> Response<Body> {
    api::text(StatusCode::OK, "alive\n".to_owned())
}

/// A pool of which nobody takes new work and is well.
fn without_backend(views: &[View]) -> Option<&str> {
    let takes_work = |view: &View| matches!(view.state, Shown::Open | Shown::Joining);
    let serves = |pool: &str| {
        views
            .iter()
            .any(|view| view.pool == pool && takes_work(view))
    };
    let mut pools = views.iter().map(|view| view.pool.as_str());
    pools.find(|pool| !serves(pool))
}
