//! A request's line in the access log, and the span of the whole.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::IpAddr,
};

use http::{Method, StatusCode};
use opentelemetry::{KeyValue, trace::Status};

use super::{Asking, Marks, Record, Stream};
use crate::{
    config::Sample,
    net::Instant,
    observe::{
        ACCESS, request_id,
        spans::Recording,
        tally::Word as _,
        word::{Outcome, Reason, Route},
    },
};

/// What is known of a request beyond what is counted.
pub(super) struct Line {
    client: IpAddr,
    method: Method,
    /// A copy: a part of the target would hold all of the buffer that the request was read into.
    pub(super) path: Box<str>,
    pub(super) pool: OnceCell<String>,
    pub(super) backend: RefCell<Option<String>>,
    /// Who could not be reached before, and why.
    failed: RefCell<String>,
    pub(super) error: OnceCell<String>,
    pub(super) session: OnceCell<String>,
    pub(super) status: Cell<Option<StatusCode>>,
    pub(super) answered: Cell<Option<Instant>>,
    pub(super) reason: Cell<Option<Reason>>,
    pub(super) received: Cell<usize>,
    pub(super) sent: Cell<usize>,
    /// All but the request's id, which those without a line have too.
    pub(super) marks: Marks,
    /// Which lines are written; `None`: not one.
    sample: Option<Sample>,
}

impl Line {
    pub(super) fn new(asking: Asking<'_>, sample: Option<Sample>, marks: Marks) -> Self {
        Self {
            client: asking.client.to_canonical(),
            method: asking.method.clone(),
            path: asking.target.path().into(),
            pool: OnceCell::new(),
            backend: RefCell::default(),
            failed: RefCell::default(),
            error: OnceCell::new(),
            session: OnceCell::new(),
            status: Cell::new(None),
            answered: Cell::new(None),
            reason: Cell::new(None),
            received: Cell::new(0),
            sent: Cell::new(0),
            marks,
            sample,
        }
    }

    /// A backend did not answer. Told once in a row.
    pub(super) fn failed(&self, backend: &str, reason: &str) {
        let mut failed = self.failed.borrow_mut();
        if failed.ends_with(reason)
            && failed
                .trim_end_matches(reason)
                .ends_with(&format!("{backend} "))
        {
            return; // tried again and again
        }
        let separator = if failed.is_empty() { "" } else { ", " };
        failed.extend([separator, backend, " ", reason]);
    }

    /// The request has ended.
    pub(super) fn end(&self, record: &Record, now: Instant) {
        // Chance is asked for nothing that is sure.
        if let Some(sample) = self.sample
            && (sample.share >= 1.0
                || self.is_remarkable(record, sample, now)
                || fastrand::f32() < sample.share)
        {
            self.write(record, now);
        }
        if let Some(recording) = &self.marks.recording {
            self.record(recording, record, now);
        }
    }

    /// Whether it is to be seen in any case: it was not answered well, or not soon, or somebody had to be tried again.
    /// That a client leaves is common; that one leaves before the answer is not.
    fn is_remarkable(&self, record: &Record, sample: Sample, now: Instant) -> bool {
        let is_good = self.status.get().is_some_and(|status| status.is_success());
        let is_whole = match record.outcome.get() {
            Outcome::Complete | Outcome::ClientLeft => true,
            Outcome::BackendGone | Outcome::Idle | Outcome::Drained => false,
        };
        let is_lasting = self.method == Method::GET || record.stream.get() == Stream::Lasting;
        let until = self.answered.get().filter(|_| is_lasting).unwrap_or(now);
        let is_slow = until.saturating_duration_since(record.began) > sample.slow;
        !is_good || !is_whole || is_slow || !self.failed.borrow().is_empty()
    }

    /// The span of the whole.
    fn record(&self, recording: &Recording, record: &Record, now: Instant) {
        let outcome = record.outcome.get();
        let text = |cell: &OnceCell<String>| cell.get().cloned();
        let id = record.request_id.as_ref().map(request_id::text);
        let reason = self.reason.get().map(Reason::as_str);
        let status = self.status.get();
        let route = Some(record.route.get()).filter(|route| *route != Route::None);
        let failed = Some(self.failed.borrow().clone()).filter(|failed| !failed.is_empty());
        let texts = [
            ("http.request.method", Some(self.method.to_string())),
            ("url.path", Some(self.path.clone().into_string())),
            ("client.address", Some(self.client.to_string())),
            ("pinring.pool", text(&self.pool)),
            (
                "pinring.route",
                route.map(|route| route.as_str().to_owned()),
            ),
            ("pinring.backend", self.backend.borrow().clone()),
            ("pinring.failed", failed),
            ("pinring.session", text(&self.session)),
            ("pinring.reason", reason.map(str::to_owned)),
            ("pinring.request_id", id.map(str::to_owned)),
            ("pinring.end", Some(outcome.as_str().to_owned())),
        ];
        let length = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        let code = status.map(|status| i64::from(status.as_u16()));
        let numbers = [
            ("http.response.status_code", code),
            ("http.request.body.size", Some(length(self.received.get()))),
            ("http.response.body.size", Some(length(self.sent.get()))),
        ];
        let texts = texts.into_iter();
        let texts = texts.filter_map(|(key, value)| Some(KeyValue::new(key, value?)));
        let numbers = numbers.into_iter();
        let numbers = numbers.filter_map(|(key, value)| Some(KeyValue::new(key, value?)));
        let is_error = status.is_some_and(|status| status.is_server_error())
            || outcome == Outcome::BackendGone;
        let status = if is_error {
            Status::error(reason.unwrap_or(outcome.as_str()))
        } else {
            Status::Unset
        };
        recording.end(now, status, texts.chain(numbers).collect());
    }

    fn write(&self, record: &Record, now: Instant) {
        let micros =
            |until: Instant| u64::try_from((until - record.began).as_micros()).unwrap_or(u64::MAX);
        let backend = self.backend.borrow();
        let route = Some(record.route.get()).filter(|route| *route != Route::None);
        let failed = self.failed.borrow();
        tracing::info!(
            target: ACCESS,
            client = %self.client,
            method = %self.method,
            path = &*self.path,
            status = self.status.get().map(|status| status.as_u16()),
            pool = self.pool.get().map(String::as_str),
            backend = backend.as_deref(),
            route = route.map(Route::as_str),
            failed = Some(failed.as_str()).filter(|failed| !failed.is_empty()),
            reason = self.reason.get().map(Reason::as_str),
            error = self.error.get().map(String::as_str),
            session = self.session.get().map(String::as_str),
            request_id = record.request_id.as_ref().map(request_id::text),
            trace_id = self.marks.trace.map(|trace| tracing::field::display(format!("{trace:032x}"))),
            head_us = self.answered.get().map(micros),
            total_us = micros(now),
            bytes_in = self.received.get(),
            bytes_out = self.sent.get(),
            end = record.outcome.get().as_str(),
        );
    }
}
