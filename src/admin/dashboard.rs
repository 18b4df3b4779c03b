//! The page for a person's eyes: how the process stands, drawn anew each second. It reads, and changes nothing.
//!
//! Everything is in the binary; the page asks nobody else. What it draws comes as events over one stream, so that
//! nobody who does not look costs anything.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, request};
use http_body_util::BodyExt as _;
use hyper::body::{self, Frame};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    Admin, Answered,
    api::{self, Body, Fault},
};
use crate::{net, observe::metrics::Glance, ring::Coordinate, router::table};

/// Between two events.
const EACH: Duration = Duration::from_secs(1);

/// Parts that the ring is drawn by: each has the colour of whoever owns its middle.
const SLICES: u16 = 2048;

/// Nothing but what this listener itself serves, and nobody may show the page within another.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A part of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asset {
    Page,
    Style,
    Script,
}

/// What the page is told.
#[derive(Debug, Serialize)]
struct Event {
    /// Of the process: its clock, and the sign of another one.
    uptime_ms: u64,
    #[serde(flatten)]
    status: api::Status,
    #[serde(flatten)]
    glance: Glance,
}

/// Who owns what of a pool's ring.
#[derive(Debug, Serialize)]
struct Drawn<'a> {
    backends: Vec<&'a str>,
    /// From the ring's beginning on, by number; empty where nobody is.
    slices: Vec<u32>,
}

pub(super) fn asset(asset: Asset) -> Response<Body> {
    let (media_type, text) = match asset {
        Asset::Page => (
            "text/html; charset=utf-8",
            include_str!("dashboard/index.html"),
        ),
        Asset::Style => (
            "text/css; charset=utf-8",
            include_str!("dashboard/dashboard.css"),
        ),
        Asset::Script => (
            "text/javascript; charset=utf-8",
            include_str!("dashboard/dashboard.js"),
        ),
    };
    let mut response = api::whole(StatusCode::OK, media_type, text);
    let policy = HeaderValue::from_static(POLICY);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    response
}

impl Admin {
    /// A stream of how the process stands, until whoever looks has gone or the process ends.
    pub(super) fn events(&self) -> Response<Body> {
        let (sender, events) = mpsc::channel(1);
        let admin = self.clone();
        tokio::spawn(async move {
            while let Ok(event) = admin.event().await {
                if sender.send(event).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = net::sleep(EACH) => {}
                    () = sender.closed() => return,
                }
            }
        });
        let mut response = Response::new(Stream(events).boxed_unsync());
        let headers = response.headers_mut();
        let stream = HeaderValue::from_static("text/event-stream");
        headers.insert(header::CONTENT_TYPE, stream);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    async fn event(&self) -> Result<Bytes, Fault> {
        let up = net::now().saturating_duration_since(self.began);
        let event = Event {
            uptime_ms: u64::try_from(up.as_millis()).unwrap_or(u64::MAX),
            status: self.look().await?,
            glance: self.process.metrics.glance(),
        };
        let data = serde_json::to_string(&event).expect("plain data has a form in JSON");
        Ok(format!("event: status\ndata: {data}\n\n").into())
    }

    /// The ring of the pool that the query names as `pool=`, to be drawn.
    pub(super) fn ring(&self, head: &request::Parts) -> Answered {
        let wanted = head
            .uri
            .query()
            .and_then(|query| query.strip_prefix("pool="));
        let table = self.process.tables.current();
        let pools = &table.pools;
        let pool = pools
            .iter()
            .find(|pool| Some(&*pool.options.name) == wanted);
        let pool = pool.ok_or_else(|| {
            let names = pools.iter().map(|pool| pool.options.name.as_str());
            Fault::no_pool(&names.collect::<Vec<_>>())
        })?;
        Ok(api::json(StatusCode::OK, &drawn(pool)))
    }
}

fn drawn(pool: &table::Pool) -> Drawn<'_> {
    let width = u64::MAX / u64::from(SLICES);
    let owner = |slice: u16| {
        let middle = u64::from(slice) * width + width / 2;
        pool.unpinned_owner(Coordinate(middle))
    };
    Drawn {
        backends: pool
            .entries()
            .iter()
            .map(|entry| entry.backend.name.as_str())
            .collect(),
        slices: (0..SLICES).map_while(owner).collect(),
    }
}

/// The events as a body.
struct Stream(mpsc::Receiver<Bytes>);

impl body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let event = ready!(self.0.poll_recv(cx));
        Poll::Ready(event.map(|event| Ok(Frame::data(event))))
    }
}
