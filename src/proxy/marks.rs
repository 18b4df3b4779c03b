//! Gives each request what it is known by elsewhere: its id, and its place in a trace.
//!
//! Before the first phase, so that a refusal has both; into the head once that has been judged as it came. The id is the
//! client's own where it can be used. Of the trace context, what is good goes on; what is malformed, or not to be
//! trusted, is replaced by a trace that begins here.

use std::num::NonZeroU128;

use http::{HeaderMap, HeaderValue};

use super::{Proxy, classify::Arrival, headers::Seen};
use crate::{
    config::{Sampling, TraceTrust},
    identity::trusted::Client,
    observe::{
        Marks,
        request_id::{self, REQUEST_ID},
        spans::{Recording, span_id},
        trace_context::{self, Context, Incoming, TRACEPARENT, TRACESTATE},
    },
    router::table::RoutingTable,
};

/// The trace context that a request goes on with, as far as that is not the one that it came with.
pub(super) struct Replaced {
    parent: Option<HeaderValue>,
    drops_state: bool,
}

impl Arrival {
    /// Puts into its head what it is known by.
    pub(super) fn tell_marks(&mut self) {
        let headers = &mut self.head.headers;
        if let Some(id) = self.exchange.request_id() {
            headers.insert(REQUEST_ID, id.clone());
        }
        if let Some(context) = self.context.take() {
            if context.drops_state {
                headers.remove(TRACESTATE);
            }
            if let Some(parent) = context.parent {
                headers.insert(TRACEPARENT, parent);
            }
        }
    }
}

impl Proxy {
    /// Marks a request with this head, of which this was seen.
    pub(super) fn mark(
        &self,
        table: &RoutingTable,
        headers: &HeaderMap,
        seen: Seen,
        client: Client,
    ) -> (Marks, Option<Box<Replaced>>) {
        let request_id = table.log.request_id.then(|| {
            // A copy: a clone would hold all of the buffer that the request was read into.
            let given = seen
                .has(Seen::REQUEST_ID)
                .then(|| request_id::given(headers));
            let given = given
                .flatten()
                .and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok());
            given.unwrap_or_else(|| request_id::made_of(self.random.borrow_mut().u128(..)))
        });
        let mut marks = Marks {
            request_id,
            ..Marks::default()
        };
        let context = table
            .tracing
            .map(|sampling| Box::new(self.trace(sampling, headers, client, &mut marks)));
        (marks, context)
    }

    fn trace(
        &self,
        sampling: Sampling,
        headers: &HeaderMap,
        client: Client,
        marks: &mut Marks,
    ) -> Replaced {
        let is_trusted = match sampling.trust {
            TraceTrust::Anyone => true,
            TraceTrust::TrustedProxies => client.by_trusted,
        };
        let (context, client_s) = match trace_context::incoming(headers) {
            Incoming::Of(context) if is_trusted => (context.within(span_id()), Some(context.span)),
            Incoming::Of(_) | Incoming::Malformed | Incoming::None => {
                let mut random = self.random.borrow_mut();
                let trace = NonZeroU128::new(random.u128(1..)).unwrap_or(NonZeroU128::MIN);
                let is_sampled = random.f32() < sampling.share;
                (Context::begin(trace, span_id(), is_sampled), None)
            }
        };
        marks.trace = Some(context.trace);
        let outbox = self.outbox.as_ref().filter(|_| context.is_sampled());
        if let Some(outbox) = outbox {
            let recording = Recording::begin(outbox.clone(), context, client_s);
            marks.recording = Some(Box::new(recording));
        }
        // Where nobody records it here, the client's span stays the parent of the backend's.
        let is_changed = client_s.is_none() || outbox.is_some();
        Replaced {
            parent: is_changed.then(|| context.to_value()),
            drops_state: client_s.is_none() || !trace_context::has_good_state(headers),
        }
    }
}
