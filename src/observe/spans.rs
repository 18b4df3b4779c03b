//! A request as spans of a trace: the request itself, how its route was found, each wait for a backend, and the wait for
//! the first byte.
//!
//! Spans are made when what they are of has ended, and handed to the exporter at once: of a stream that is open for
//! hours, all but the span of the whole is known at its beginning. Names and attributes are those of OpenTelemetry's
//! semantic conventions for HTTP, and `pinring.…` for what only pinring has.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    fmt,
    num::NonZeroU64,
    time::SystemTime,
};

use http::{HeaderMap, StatusCode};
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::{
    otlp::Outbox,
    trace_context::{Context, TRACEPARENT},
};
use crate::net::{self, Instant};

/// One request that is recorded.
pub struct Recording {
    timeline: Timeline,
    parent: Option<NonZeroU64>,
    /// The route is found once, also where several backends are tried.
    is_routed: Cell<bool>,
    attempt: RefCell<Option<Attempt>>,
    head: Cell<Option<Instant>>,
    has_byte: Cell<bool>,
}

/// What all spans of one request share.
#[derive(Clone)]
struct Timeline {
    outbox: Outbox,
    /// The trace, and the request's own span.
    context: Context,
    began: Instant,
    /// The same moment by the calendar.
    date: SystemTime,
}

/// What a span is of.
struct Part {
    name: &'static str,
    kind: SpanKind,
    span: NonZeroU64,
    parent: Option<NonZeroU64>,
    time: (Instant, Instant),
    status: Status,
}

/// A span's id.
#[must_use]
pub fn span_id() -> NonZeroU64 {
    NonZeroU64::new(fastrand::u64(1..)).unwrap_or(NonZeroU64::MIN)
}

impl Timeline {
    fn tell(&self, part: Part, attributes: Vec<KeyValue>, events: Vec<(&'static str, Instant)>) {
        let is_remote = part.kind == SpanKind::Server;
        let flags = TraceFlags::SAMPLED;
        let id = |span: NonZeroU64| SpanId::from(span.get());
        let trace = TraceId::from(self.context.trace.get());
        let mut told = SpanEvents::default();
        for (name, at) in events {
            let event = Event::new(name, self.date(at), Vec::new(), 0);
            told.events.push(event);
        }
        self.outbox.send(SpanData {
            span_context: SpanContext::new(trace, id(part.span), flags, false, TraceState::NONE),
            parent_span_id: part.parent.map_or(SpanId::INVALID, id),
            parent_span_is_remote: is_remote && part.parent.is_some(),
            span_kind: part.kind,
            name: Cow::Borrowed(part.name),
            start_time: self.date(part.time.0),
            end_time: self.date(part.time.1),
            attributes,
            dropped_attributes_count: 0,
            events: told,
            links: SpanLinks::default(),
            status: part.status,
            instrumentation_scope: InstrumentationScope::builder("pinring").build(),
        });
    }

    /// By the clock that only goes forward: a calendar that is set meanwhile makes no span negative.
    fn date(&self, at: Instant) -> SystemTime {
        self.date + at.saturating_duration_since(self.began)
    }

    fn within(&self, name: &'static str, time: (Instant, Instant)) -> Part {
        Part {
            name,
            kind: SpanKind::Internal,
            span: span_id(),
            parent: Some(self.context.span),
            time,
            status: Status::Unset,
        }
    }
}

impl Recording {
    /// Begins one, of which `parent` is the client's span.
    #[must_use]
    pub fn begin(outbox: Outbox, context: Context, parent: Option<NonZeroU64>) -> Self {
        Self {
            timeline: Timeline {
                outbox,
                context,
                began: net::now(),
                date: net::time_of_day(),
            },
            parent,
            is_routed: Cell::new(false),
            attempt: RefCell::default(),
            head: Cell::new(None),
            has_byte: Cell::new(false),
        }
    }

    /// The request leaves for a backend, whose answer's head is waited for. `headers` tell it the trace.
    pub(super) fn departs(&self, backend: &str, route: &'static str, headers: &mut HeaderMap) {
        let attempt = self.attempt(backend, route);
        attempt.departs(headers);
        self.attempt.replace(Some(attempt));
    }

    /// One of several backends is asked.
    pub(super) fn attempt(&self, backend: &str, route: &'static str) -> Attempt {
        let since = net::now();
        if !self.is_routed.replace(true) {
            let time = (self.timeline.began, since);
            let part = self.timeline.within("route", time);
            let route = KeyValue::new("pinring.route", route);
            self.timeline.tell(part, vec![route], Vec::new());
        }
        Attempt {
            timeline: self.timeline.clone(),
            span: span_id(),
            backend: backend.to_owned(),
            since,
            is_told: false,
        }
    }

    /// The backend did not answer.
    pub(super) fn failed(&self, reason: &'static str) {
        if let Some(attempt) = self.attempt.take() {
            attempt.failed(reason);
        }
    }

    /// The head of the answer is there.
    pub(super) fn answered(&self, status: StatusCode) {
        self.head.set(Some(net::now()));
        if let Some(attempt) = self.attempt.take() {
            attempt.answered(status);
        }
    }

    /// Bytes of the answer's body were handed over.
    pub(super) fn sent(&self) {
        if let Some(head) = self.head.get()
            && !self.has_byte.replace(true)
        {
            let part = self.timeline.within("first byte", (head, net::now()));
            self.timeline.tell(part, Vec::new(), Vec::new());
        }
    }

    /// The request has ended.
    pub(super) fn end(&self, now: Instant, status: Status, attributes: Vec<KeyValue>) {
        drop(self.attempt.take());
        let part = Part {
            name: "request",
            kind: SpanKind::Server,
            span: self.timeline.context.span,
            parent: self.parent,
            time: (self.timeline.began, now),
            status,
        };
        let events = self.head.get().map(|_| ("stream end", now));
        self.timeline.tell(part, attributes, Vec::from_iter(events));
    }
}

/// A backend that is waited for. Dropped before it has answered, it is told as it stands.
pub struct Attempt {
    timeline: Timeline,
    span: NonZeroU64,
    backend: String,
    since: Instant,
    is_told: bool,
}

impl Attempt {
    /// Tells the backend whose child its own span is.
    pub fn departs(&self, headers: &mut HeaderMap) {
        let context = self.timeline.context.within(self.span);
        headers.insert(TRACEPARENT, context.to_value());
    }

    /// The head of its answer is there.
    pub fn answered(mut self, status: StatusCode) {
        let code = KeyValue::new("http.response.status_code", i64::from(status.as_u16()));
        let is_error = status.is_client_error() || status.is_server_error();
        let status = if is_error {
            Status::error("")
        } else {
            Status::Unset
        };
        self.tell(status, Some(code));
    }

    /// There is no answer, for this reason.
    pub fn failed(mut self, reason: &'static str) {
        let error = KeyValue::new("error.type", reason);
        self.tell(Status::error(reason), Some(error));
    }

    fn tell(&mut self, status: Status, more: Option<KeyValue>) {
        self.is_told = true;
        let part = Part {
            kind: SpanKind::Client,
            span: self.span,
            status,
            ..self
                .timeline
                .within("upstream wait", (self.since, net::now()))
        };
        let backend = KeyValue::new("pinring.backend", std::mem::take(&mut self.backend));
        let attributes = std::iter::once(backend).chain(more).collect();
        self.timeline.tell(part, attributes, Vec::new());
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_told {
            self.tell(Status::Unset, None); // nobody waits any longer
        }
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").finish_non_exhaustive()
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").finish_non_exhaustive()
    }
}
