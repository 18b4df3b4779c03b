//! What a client makes of its answers: whether they are right, and what follows for its session.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::{Client, Outcome, Session};
use crate::{
    backend::SESSION,
    history::Manner,
    oracle::{Case, Told},
};

/// The end of a connection, and what a client sees of it, are not quite at the same moment.
const WAYS: Duration = Duration::from_millis(300);

impl Client {
    /// Reads an answer to its end, and checks it.
    pub(super) async fn answered(
        &self,
        number: u64,
        proxy: usize,
        session: Option<&Session>,
        response: Response<Incoming>,
    ) -> Outcome {
        let (head, body) = response.into_parts();
        let Ok(body) = body.collect().await else {
            return self.broke_off(number, proxy);
        };
        let body = body.to_bytes();
        let status = head.status.as_u16();
        let mut text = std::str::from_utf8(&body).unwrap_or_default();
        if let Some(event) = text.strip_prefix("event: message\ndata: ") {
            text = event.trim_end();
        }
        let content: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let reason = content["error"]["data"]["reason"].as_str().unwrap_or("");
        self.world.note(format_args!(
            "c{} is told {status} {reason} of {number} by p{proxy}",
            self.index
        ));
        self.check_id(&head.headers, session, number);
        self.check_mark(&head.headers, number, reason.is_empty());
        self.note_end(number, status, reason);
        if reason.is_empty() {
            return self.of_backend(number, proxy, status, &content, head.headers);
        }
        self.of_proxy(number, proxy, session, &Told { status, reason })
    }

    /// Has judged what pinring itself answered.
    fn of_proxy(
        &self,
        number: u64,
        proxy: usize,
        session: Option<&Session>,
        told: &Told<'_>,
    ) -> Outcome {
        let (world, at) = (&self.world, self.world.now());
        world.count(&format!("{} {}", told.status, told.reason));
        let history = world.history();
        let asked = &history.requests[&number];
        let manner = asked.manner;
        let pin = session.map_or("", |session| session.id.to_str().unwrap());
        let judged = Case::new(&world.settings, &history, asked, at).judge(pin, told);
        drop(history);
        if let Err(wrong) = judged {
            world.wrong(format_args!(
                "c{}, request {number}, p{proxy}: {wrong}",
                self.index
            ));
        }
        if manner != Manner::Ordinary {
            return Outcome::Failed; // as was to be
        }
        self.health.borrow_mut().last_failure = at;
        if told.status == 404 {
            Outcome::Gone
        } else {
            Outcome::Failed
        }
    }

    /// Checks what a backend answered.
    fn of_backend(
        &self,
        number: u64,
        proxy: usize,
        status: u16,
        content: &serde_json::Value,
        headers: HeaderMap,
    ) -> Outcome {
        self.world.count(&format!("{status} of a backend"));
        let history = self.world.history();
        let asked = &history.requests[&number];
        let told = (content["number"].as_u64(), content["backend"].as_u64());
        let by = asked.reached_backend().map(|backend| backend as u64);
        let own = asked.reached_as();
        let case = Case::new(&self.world.settings, &history, asked, self.world.now());
        let ended = history.renewals.ended.get(&asked.known());
        let was_ended = ended.is_some_and(|ended| *ended <= asked.at);
        // A backend that was away when its session was ended elsewhere has not heard of it.
        let was_ended = was_ended && !history.renewals.has_left(&asked.known(), own);
        let right = told == (Some(number), by)
            && own.is_none_or(|own| content["session"] == own)
            && asked.manner != Manner::Forged
            && match status {
                200 => !asked.not_found && !was_ended,
                404 => {
                    let again = asked.reached.len() > 1;
                    asked.not_found && own.is_some() && (again || !case.must_come_back())
                }
                _ => false,
            };
        let manner = asked.manner;
        drop(history);
        if !right {
            self.world.wrong(format_args!(
                "c{}, request {number}: got {status} {content}",
                self.index
            ));
        }
        let mut health = self.health.borrow_mut();
        if status == 200 {
            health.served.push(self.world.now());
            Outcome::Served(headers, proxy)
        } else if manner != Manner::Ordinary {
            Outcome::Failed // as was to be
        } else {
            health.last_failure = self.world.now();
            Outcome::Gone
        }
    }

    /// Notes that a session is ended, as its proxy must know now.
    fn note_end(&self, number: u64, status: u16, reason: &str) {
        let now = self.world.now();
        let mut history = self.world.history_mut();
        let asked = &history.requests[&number];
        let told = matches!((status, reason), (200 | 404, "") | (404, "backend_lost"));
        if asked.method == Method::DELETE && told {
            let known = asked.known();
            history.renewals.ended.entry(known).or_insert(now);
        }
    }

    /// An answer tells that the session was brought back while its request waited, and no other does.
    pub(super) fn check_mark(&self, headers: &HeaderMap, number: u64, by_backend: bool) {
        let mark = headers.get("pinring-session");
        let history = self.world.history();
        let asked = &history.requests[&number];
        let marked = mark.is_some_and(|mark| mark == "reinitialized");
        let right = history
            .renewals
            .is_mark_right(number, asked, mark.is_some(), by_backend);
        drop(history);
        if marked {
            self.world.count("an answer marked");
        }
        if !right {
            let own = self.index;
            self.world.wrong(format_args!(
                "c{own}, request {number}: the mark is {mark:?}"
            ));
        }
    }

    /// The contract: an answer to a pinned request repeats the id that the client has, or none.
    pub(super) fn check_id(&self, headers: &HeaderMap, session: Option<&Session>, number: u64) {
        let ids: Vec<&HeaderValue> = headers.get_all(SESSION).iter().collect();
        let right = match session {
            Some(session) => ids.iter().all(|id| **id == session.id) && ids.len() <= 1,
            None => ids.len() <= 1,
        };
        if !right {
            self.world.wrong(format_args!(
                "c{}, request {number}: answered with the ids {ids:?}",
                self.index
            ));
        }
    }

    /// The connection to the proxy ended before the answer did: only where the proxy or the backend did.
    pub(super) fn broke_off(&self, number: u64, proxy: usize) -> Outcome {
        let now = self.world.now();
        self.world
            .note(format_args!("c{}: p{proxy} broke {number} off", self.index));
        self.world.count("broken off");
        let (history, own) = (self.world.history(), self.index);
        let asked = &history.requests[&number];
        let from = asked.at.saturating_sub(WAYS);
        let of_backend = asked.reached_backend().is_some_and(|backend| {
            let drains = &history.run(proxy, asked.run).drains;
            history.down[backend].overlap(from, now)
                || history.cut[&(proxy, backend)].overlap(from, now)
                || drains.may_end(backend, from, now)
        });
        let right = history.may_break_off(proxy, asked.run, asked.at, now) || of_backend;
        drop(history);
        if !right {
            self.world
                .wrong(format_args!("c{own}, request {number}: p{proxy} broke off"));
        }
        self.health.borrow_mut().last_failure = now;
        Outcome::Failed
    }

    /// Reads a stream to its end, and checks each event and the end.
    pub(super) async fn read_stream(&self, mut body: Incoming, number: u64, proxy: usize) {
        let began = self.world.now();
        let (run, at, backend, own) = {
            let asked = &self.world.history().requests[&number];
            let own = asked.reached_as().unwrap().to_owned();
            (asked.run, asked.at, asked.reached_backend().unwrap(), own)
        };
        while let Some(Ok(frame)) = body.frame().await {
            let Some(data) = frame.data_ref() else {
                continue;
            };
            let text = std::str::from_utf8(data).unwrap();
            let expected = format!("\"session\":\"{own}\"");
            let events = text.matches("data:").count();
            self.world
                .note(format_args!("c{} hears {events} of {number}", self.index));
            self.world.count("an event heard");
            let drained = {
                let (history, now) = (self.world.history(), self.world.now());
                history.run(proxy, run).drains.surely_end(backend, at, now)
            };
            if text.matches(&expected).count() != events || drained {
                self.world
                    .wrong(format_args!("stream {number} of {own} heard {text}"));
            }
        }
        let now = self.world.now();
        self.world
            .note(format_args!("c{}: stream {number} ends", self.index));
        self.world.count("a stream ended");
        let history = self.world.history();
        let from = began.saturating_sub(WAYS);
        let run = history.run(proxy, run);
        let drained = run.drains.may_end(backend, from, now);
        // In a drain streams are ended one after the other: they can be opened again elsewhere.
        let right = run.killed
            || run.stopping.is_some()
            || history.down[backend].overlap(from, now)
            || history.cut[&(proxy, backend)].overlap(from, now)
            || history.deleted.contains_key(&own)
            || drained;
        drop(history);
        if drained {
            self.world.count("a stream ended by a drain");
        }
        if !right {
            self.world
                .wrong(format_args!("stream {number} of {own} was cut by p{proxy}"));
        }
    }
}
