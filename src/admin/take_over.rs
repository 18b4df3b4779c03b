//! Lets another process take this one's place: see [`crate::takeover`].

use std::sync::Arc;

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;

use super::{Admin, Answered, api::Fault, guard::Visitor};
use crate::{
    reload::command::Stopping,
    takeover::{self, Claim},
};

impl Admin {
    /// Lets the connection become the one over which another process takes over.
    pub(super) fn take_over(&self, request: Request<Incoming>, visitor: Visitor) -> Answered {
        if matches!(visitor, Visitor::Remote(_)) {
            return Err(Fault::by_socket_alone());
        }
        let wanted = request.headers().get(header::UPGRADE);
        if wanted.is_none_or(|wanted| wanted != takeover::PROTOCOL) {
            return Err(Fault::no_upgrade());
        }
        let alone = Arc::clone(&self.claimed).try_acquire_owned();
        let alone = alone.map_err(|_| Fault::taken())?;
        if self.process.claims.is_closed() {
            return Err(Stopping.into());
        }
        let claims = self.process.claims.clone();
        tokio::spawn(async move {
            let Ok(upgraded) = hyper::upgrade::on(request).await else {
                return; // it has gone
            };
            if let Ok(parts) = upgraded.downcast() {
                let claim = Claim {
                    stream: parts.io,
                    alone,
                };
                drop(claims.send(claim).await); // else this process is stopping
            }
        });
        let mut response = Response::new(Empty::new().boxed_unsync());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let protocol = HeaderValue::from_static(takeover::PROTOCOL);
        response.headers_mut().insert(header::UPGRADE, protocol);
        let upgrade = HeaderValue::from_static("upgrade");
        response.headers_mut().insert(header::CONNECTION, upgrade);
        Ok(response)
    }
}
