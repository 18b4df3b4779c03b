//! One request, followed from its head to the last byte of its answer, and what is counted of it.

mod line;

use std::{
    cell::{Cell, RefCell},
    fmt,
    net::IpAddr,
    num::NonZeroU128,
    rc::Rc,
    sync::Arc,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use self::line::Line;
use super::{
    ACCESS,
    meter::Meter,
    spans::{Attempt, Recording},
    tally::Word as _,
    traffic::Traffic,
    word::{Outcome, Reason, Route},
};
use crate::{
    config::Sample,
    net::{self, Instant},
};

/// Follows one request. Clones are of the same one; when the last is dropped, it has ended, on whatever path.
///
/// It is counted when the head of its answer is known, or when its client has left before that: once.
#[derive(Clone)]
pub struct Exchange(Option<Rc<Record>>); // `None` while it is dropped

/// What is known of a request. Used again for another one when it has ended.
pub(super) struct Record {
    /// Nobody's while the record waits for a request.
    meter: Option<Meter>,
    began: Instant,
    answered: Cell<bool>,
    /// When its end is known by the head of its answer, for all of that came with it: a look at the clock takes 40 ns.
    ended: Cell<Option<Instant>>,
    traffic: RefCell<Option<Arc<Traffic>>>,
    route: Cell<Route>,
    stream: Cell<Stream>,
    outcome: Cell<Outcome>,
    request_id: Option<HeaderValue>,
    /// In a box, for it is large, and only there where somebody reads the access log or the request's spans.
    line: Option<Box<Line>>,
}

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Where the client is.
    pub client: IpAddr,
    /// The request's method.
    pub method: &'a Method,
    /// And its target.
    pub target: &'a Uri,
}

/// What a request is known by elsewhere.
#[derive(Default)]
pub struct Marks {
    /// Its id.
    pub request_id: Option<HeaderValue>,
    /// Its trace.
    pub trace: Option<NonZeroU128>,
    /// Its spans, where they are wanted.
    pub recording: Option<Box<Recording>>,
}

/// Whether the answer is an event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// It is none.
    No,
    /// It is the answer to a call, and ends with that.
    OfCall,
    /// It is to stay open for as long as its client wants: how long it took says nothing.
    Lasting,
}

impl Exchange {
    /// Begins to follow a request. It has a line in the log if anybody reads that, and `sample` has room for it.
    #[must_use]
    pub fn begin(meter: &Meter, asking: Asking<'_>, sample: Sample, mut marks: Marks) -> Self {
        let sample = tracing::enabled!(target: ACCESS, tracing::Level::INFO).then_some(sample);
        let is_wanted = sample.is_some() || marks.recording.is_some();
        let request_id = marks.request_id.take();
        let line = || Box::new(Line::new(asking, sample, marks));
        Self::follow(meter, is_wanted.then(line), request_id)
    }

    /// Begins to follow one that has no line in the log.
    #[must_use]
    pub fn unlogged(meter: &Meter) -> Self {
        Self::follow(meter, None, None)
    }

    fn follow(meter: &Meter, line: Option<Box<Line>>, request_id: Option<HeaderValue>) -> Self {
        let record = Record::new(meter.clone(), line, request_id);
        if let Some(mut spare) = meter.spare()
            && let Some(used) = Rc::get_mut(&mut spare)
        {
            *used = record;
            return Self(Some(spare));
        }
        Self(Some(Rc::new(record)))
    }

    /// The request's id, if it has one.
    #[must_use]
    pub fn request_id(&self) -> Option<&HeaderValue> {
        self.0.as_deref()?.request_id.as_ref()
    }

    /// Which pool it is for.
    pub fn matched(&self, pool: &str, traffic: &Arc<Traffic>) {
        let Some(record) = &self.0 else { return };
        record.traffic.replace(Some(Arc::clone(traffic)));
        if let Some(line) = &record.line {
            line.pool.get_or_init(|| pool.to_owned());
        }
    }

    /// Where the request goes now, and by what rule. The last one counts.
    pub fn routed(&self, backend: &str, traffic: &Arc<Traffic>, route: Route) {
        let Some(record) = &self.0 else { return };
        record.traffic.replace(Some(Arc::clone(traffic)));
        record.route.set(route);
        if let Some(line) = &record.line {
            line.backend.replace(Some(backend.to_owned()));
        }
    }

    /// The request leaves for a backend with these headers, where it has not left yet: they tell whose part it is.
    pub fn departs(&self, backend: &str, headers: Option<&mut HeaderMap>) {
        let Some((record, recording)) = self.recording() else {
            return;
        };
        if let Some(headers) = headers {
            recording.departs(backend, record.route.get().as_str(), headers);
        }
    }

    /// One of several backends is asked, if that is recorded.
    #[must_use]
    pub fn attempt(&self, backend: &str, route: Route) -> Option<Attempt> {
        let (_, recording) = self.recording()?;
        Some(recording.attempt(backend, route.as_str()))
    }

    /// A backend did not answer; another, or the same again, may be tried.
    pub fn failed(&self, backend: &str, reason: Reason) {
        if let Some(line) = self.line() {
            line.failed(backend, reason.as_str());
            if let Some(recording) = &line.marks.recording {
                recording.failed(reason.as_str());
            }
        }
    }

    /// Why the answer is one of pinring's own, with all causes.
    pub fn error(&self, text: impl FnOnce() -> String) {
        if let Some(line) = self.line() {
            line.error.get_or_init(text);
        }
    }

    /// Which session it belongs to, as a short hash.
    pub fn session(&self, hash: impl FnOnce() -> String) {
        if let Some(line) = self.line() {
            line.session.get_or_init(hash);
        }
    }

    /// The head of the backend's answer is there, and all the rest of it if `is_whole`.
    pub fn answered(&self, status: StatusCode, is_whole: bool) {
        let Some((record, meter)) = self.meter() else {
            return;
        };
        let now = net::now();
        record.count(meter, status);
        // Who reads the times of a request one by one wants each.
        let is_known = is_whole && record.line.is_none();
        record.ended.set(is_known.then_some(now));
        let waited = now.saturating_duration_since(record.began);
        meter.began(waited);
        if let Some(traffic) = &*record.traffic.borrow() {
            traffic.began(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX));
        }
        if let Some(line) = &record.line {
            line.status.set(Some(status));
            line.answered.set(Some(now));
            if let Some(recording) = &line.marks.recording {
                recording.answered(status);
            }
        }
    }

    /// pinring answers itself, and why, if it refuses.
    pub fn answered_here(&self, status: StatusCode, reason: Option<Reason>) {
        let Some((record, meter)) = self.meter() else {
            return;
        };
        record.count(meter, status);
        if let Some(reason) = reason {
            meter.refused(reason);
        }
        if let Some(line) = &record.line {
            line.status.set(Some(status));
            line.answered.set(Some(net::now()));
            line.reason.set(reason);
            if let Some(recording) = &line.marks.recording {
                recording.answered(status);
            }
        }
    }

    /// The answer is an event stream, and counts as one of its backend's until it ends.
    pub fn streams(&self, stream: Stream) {
        let Some(record) = &self.0 else { return };
        if record.stream.replace(stream) == Stream::No
            && let Some(traffic) = &*record.traffic.borrow()
        {
            traffic.stream_opened();
        }
    }

    /// Bytes of the request's body came.
    pub fn received(&self, bytes: usize) {
        let Some((record, meter)) = self.meter() else {
            return;
        };
        meter.received(bytes);
        if let Some(line) = &record.line {
            line.received.set(line.received.get() + bytes);
        }
    }

    /// Bytes of the answer's body were handed over.
    pub fn sent(&self, bytes: usize) {
        let Some((record, meter)) = self.meter() else {
            return;
        };
        meter.sent(bytes);
        if let Some(line) = &record.line {
            line.sent.set(line.sent.get() + bytes);
            if let Some(recording) = &line.marks.recording {
                recording.sent();
            }
        }
    }

    /// The answer ended.
    pub fn end(&self, outcome: Outcome) {
        if let Some(record) = &self.0 {
            record.outcome.set(outcome);
        }
    }

    fn meter(&self) -> Option<(&Record, &Meter)> {
        let record = self.0.as_deref()?;
        Some((record, record.meter.as_ref()?))
    }

    fn recording(&self) -> Option<(&Record, &Recording)> {
        let record = self.0.as_deref()?;
        let line = record.line.as_deref()?;
        Some((record, line.marks.recording.as_deref()?))
    }

    fn line(&self) -> Option<&Line> {
        self.0.as_deref()?.line.as_deref()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Some(mut record) = self.0.take() else {
            return;
        };
        let Some(last) = Rc::get_mut(&mut record) else {
            return; // others follow it
        };
        if let Some(meter) = last.end() {
            meter.keep(record);
        }
    }
}

impl Record {
    fn new(meter: Meter, line: Option<Box<Line>>, request_id: Option<HeaderValue>) -> Self {
        Self {
            meter: Some(meter),
            began: net::now(),
            answered: Cell::new(false),
            ended: Cell::new(None),
            traffic: RefCell::new(None),
            route: Cell::new(Route::None),
            stream: Cell::new(Stream::No),
            outcome: Cell::new(Outcome::ClientLeft),
            request_id,
            line,
        }
    }

    /// Counts the request, once.
    fn count(&self, meter: &Meter, status: StatusCode) {
        if !self.answered.replace(true) {
            let traffic = self.traffic.borrow();
            let traffic = traffic.as_ref().unwrap_or(meter.nowhere());
            traffic.answered(self.route.get(), status);
        }
    }

    /// The request has ended. Nothing of it is kept but the memory.
    fn end(&mut self) -> Option<Meter> {
        let meter = self.meter.take()?;
        let traffic = self.traffic.take();
        if !self.answered.get() {
            let traffic = traffic.as_ref().unwrap_or(meter.nowhere());
            traffic.left(self.route.get());
        }
        let is_complete = self.outcome.get() == Outcome::Complete;
        let known = self.ended.get().filter(|_| is_complete);
        let now = known.unwrap_or_else(net::now);
        let after = match self.stream.get() {
            Stream::No | Stream::OfCall => Some(now.saturating_duration_since(self.began)),
            Stream::Lasting => None,
        };
        if self.stream.get() != Stream::No
            && let Some(traffic) = &traffic
        {
            traffic.stream_ended();
        }
        meter.ended(self.outcome.get(), after);
        if let Some(line) = self.line.take() {
            line.end(self, now);
        }
        self.request_id = None;
        Some(meter)
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Exchange")
            .field(&self.line().map(|line| &line.path))
            .finish()
    }
}

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Marks")
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::meter::Meters, *};

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn begin(meter: &Meter) -> Exchange {
        let asking = Asking {
            client: ADDRESS,
            method: &Method::POST,
            target: &Uri::from_static("/mcp"),
        };
        let sample = Sample {
            share: 1.0,
            slow: std::time::Duration::from_secs(1),
        };
        Exchange::begin(meter, asking, sample, Marks::default())
    }

    fn counted(traffic: &Traffic) -> Vec<(&'static str, u16, u64)> {
        let counted = traffic.requests();
        counted
            .map(|(route, code, count)| (route.as_str(), code, count))
            .collect()
    }

    #[test]
    fn each_request_counts_once_where_it_went_last() {
        let meters = Meters::new();
        let meter = meters.meter();
        let (pool, one, other) = (Arc::default(), Arc::default(), Arc::default());
        let exchange = begin(&meter);
        exchange.matched("pool", &pool);
        exchange.routed("one", &one, Route::Placed);
        exchange.routed("other", &other, Route::Pinned);
        let clone = exchange.clone();
        exchange.answered(StatusCode::OK, false);
        drop(exchange);
        assert_eq!(meters.totals().ended, [0; 5], "it goes on");
        clone.end(Outcome::Complete);
        drop(clone);
        assert_eq!(counted(&other), [("pinned", 200, 1)]);
        assert_eq!((counted(&one), counted(&pool)), (vec![], vec![]));
        assert_eq!(meters.totals().ended, [1, 0, 0, 0, 0]);
    }

    #[test]
    fn who_leaves_before_the_head_counts_as_499() {
        let meters = Meters::new();
        let meter = meters.meter();
        let backend = Arc::default();
        drop(begin(&meter));
        let exchange = begin(&meter);
        exchange.routed("a", &backend, Route::Home);
        drop(exchange);
        assert_eq!(counted(&backend), [("home", 499, 1)]);
        assert_eq!(counted(meters.nowhere()), [("none", 499, 1)]);
    }

    #[test]
    fn a_stream_is_open_until_its_end_and_its_life_is_no_duration() {
        let meters = Meters::new();
        let meter = meters.meter();
        let backend = Arc::<Traffic>::default();
        for (stream, durations) in [(Stream::OfCall, 1), (Stream::Lasting, 1)] {
            let exchange = begin(&meter);
            exchange.routed("a", &backend, Route::Pinned);
            exchange.answered(StatusCode::OK, false);
            exchange.streams(stream);
            exchange.streams(stream);
            assert_eq!(backend.streams(), 1);
            drop(exchange);
            assert_eq!(backend.streams(), 0);
            let counted: u64 = meters.totals().duration.buckets.iter().sum();
            assert_eq!(counted, durations);
        }
    }

    #[test]
    fn a_record_is_used_again_and_nothing_of_it_is_left() {
        let meters = Meters::new();
        let meter = meters.meter();
        let backend = Arc::<Traffic>::default();
        let exchange = begin(&meter);
        exchange.routed("a", &backend, Route::Pinned);
        exchange.streams(Stream::Lasting);
        exchange.answered_here(StatusCode::BAD_GATEWAY, Some(Reason::BackendClosed));
        let place = exchange.0.as_ref().map(Rc::as_ptr);
        drop(exchange);
        assert_eq!(Arc::strong_count(&backend), 1);
        let next = begin(&meter);
        assert_eq!(next.0.as_ref().map(Rc::as_ptr), place);
        next.answered_here(StatusCode::NOT_FOUND, Some(Reason::NoPool));
        drop(next);
        assert_eq!(counted(&backend), [("pinned", 502, 1)]);
        assert_eq!(counted(meters.nowhere()), [("none", 404, 1)]);
        let refused = meters.refusals().read().filter(|(_, count)| *count > 0);
        assert_eq!(
            refused.collect::<Vec<_>>(),
            [("backend_closed", 1), ("no_pool", 1)]
        );
    }
}
