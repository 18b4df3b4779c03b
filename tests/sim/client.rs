//! A simulated MCP client behind a balancer: each request goes to any proxy. What it is told, it has judged.

mod answers;

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use pinring::{
    net::{Liveness, connect, simulated::Process, sleep, within},
    pin::{Kind, Pin},
};
use serde_json::json;

use super::{
    backend::{NUMBER, SESSION},
    history::{Asked, At, Manner},
    proxy::Proxy,
    settings::{CONNECT, HEALTHY, OPEN_HEAD, OnLoss, RESPONSE_HEAD},
    world::{self, Shared, World},
};

/// Longer than any answer may take: a wait for an unknown backend, rounds of connects, the backend's time.
const LONGEST: Duration = Duration::from_millis(2500)
    .saturating_add(RESPONSE_HEAD)
    .saturating_add(CONNECT.saturating_mul(2));

/// Until a balancer looks again for a proxy that is running.
const NOBODY: Duration = Duration::from_millis(50);

/// A handshake that is repeated, and perhaps again elsewhere, and so that of another request before.
const LONGEST_HANDSHAKES: Duration = OPEN_HEAD.saturating_add(CONNECT).saturating_mul(2 * 2 * 2);

pub struct Client {
    pub index: usize,
    world: Shared,
    proxies: Rc<Vec<Rc<Proxy>>>,
    random: RefCell<Rng>,
    connections: RefCell<BTreeMap<usize, SendRequest<Full<Bytes>>>>,
    /// The numbers that the keys' ids stand for.
    keys: Rc<BTreeMap<u8, usize>>,
    health: RefCell<Health>,
}

#[derive(Default)]
struct Health {
    last_failure: At,
    served: Vec<At>,
}

/// A session as its client knows it.
#[derive(Debug, Clone)]
struct Session {
    /// With the pin.
    id: HeaderValue,
    own: String,
    key: usize,
    /// The proxy that it was opened through.
    proxy: usize,
}

/// What came of a request.
enum Outcome {
    Served(HeaderMap, usize),
    Gone,
    Failed,
}

impl Client {
    pub fn start(
        world: &Shared,
        index: usize,
        proxies: &Rc<Vec<Rc<Proxy>>>,
        keys: &Rc<BTreeMap<u8, usize>>,
        seed: u64,
    ) -> (Rc<Self>, Process) {
        let client = Rc::new(Self {
            index,
            world: Rc::clone(world),
            proxies: Rc::clone(proxies),
            random: RefCell::new(Rng::with_seed(seed)),
            connections: RefCell::default(),
            keys: Rc::clone(keys),
            health: RefCell::default(),
        });
        let process = Process::start(world::client(index), Rc::clone(&client).live());
        (client, process)
    }

    /// Whether it has been served for long enough without a failure.
    pub fn is_well(&self) -> bool {
        let health = self.health.borrow();
        let since = self.world.now().saturating_sub(HEALTHY);
        let served = health.served.iter().rev().take_while(|at| **at >= since);
        health.last_failure < since && served.count() >= 3
    }

    fn random<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.random.borrow_mut())
    }

    async fn live(self: Rc<Self>) {
        let mut session: Option<Session> = None;
        loop {
            let pause = self.random(|random| random.u64(20..250));
            sleep(Duration::from_millis(pause)).await;
            let Some(current) = session.take() else {
                session = self.initialize().await;
                continue;
            };
            let outcome = match self.random(|random| random.u8(0..100)) {
                0..4 => {
                    let outcome = self
                        .ask(Method::DELETE, Some(&current), Manner::Ordinary)
                        .await;
                    if matches!(outcome, Outcome::Served(..)) {
                        if self.random(Rng::bool) {
                            self.ask(Method::POST, Some(&current), Manner::AfterEnd)
                                .await;
                        }
                        continue;
                    }
                    outcome
                }
                4..12 => self.open_stream(&current).await,
                12..15 => {
                    self.ask(Method::POST, Some(&current), Manner::Forged).await;
                    Outcome::Failed
                }
                15..18 => {
                    // Who leaves early sees nothing, and whatever he asked may still be done.
                    let early = Duration::from_millis(self.random(|random| random.u64(1..15)));
                    within(early, self.post(&current)).await;
                    Outcome::Failed
                }
                18..28 => self.several_at_once(&current).await,
                _ => self.post(&current).await,
            };
            if !matches!(outcome, Outcome::Gone) {
                session = Some(current);
            }
        }
    }

    async fn post(&self, session: &Session) -> Outcome {
        self.ask(Method::POST, Some(session), Manner::Ordinary)
            .await
    }

    async fn several_at_once(&self, session: &Session) -> Outcome {
        let outcomes = tokio::join!(self.post(session), self.post(session), self.post(session));
        let mut outcomes = <[Outcome; 3]>::from(outcomes).into_iter();
        if outcomes.any(|outcome| matches!(outcome, Outcome::Gone)) {
            Outcome::Gone
        } else {
            Outcome::Failed
        }
    }

    async fn initialize(&self) -> Option<Session> {
        let asked = self.ask(Method::POST, None, Manner::Ordinary).await;
        let Outcome::Served(headers, proxy) = asked else {
            return None;
        };
        let id = headers.get(SESSION).cloned();
        let pin = id
            .as_ref()
            .and_then(|id| Pin::parse(Kind::Session, id.as_bytes()));
        let (Some(id), Some(pin)) = (&id, pin) else {
            self.world
                .wrong(format_args!("c{} got no pinned id: {id:?}", self.index));
            return None;
        };
        Some(Session {
            id: id.clone(),
            own: String::from_utf8_lossy(pin.string).into_owned(),
            key: self.keys[&pin.key.0],
            proxy,
        })
    }

    /// Sends one request to any proxy, and judges what comes of it.
    async fn ask(&self, method: Method, session: Option<&Session>, manner: Manner) -> Outcome {
        let (number, proxy, response) = self.send(&method, session, manner).await;
        match response {
            Ok(response) => self.answered(number, proxy, session, response).await,
            Err(()) => self.broke_off(number, proxy),
        }
    }

    async fn send(
        &self,
        method: &Method,
        session: Option<&Session>,
        manner: Manner,
    ) -> (u64, usize, Result<Response<Incoming>, ()>) {
        let proxy = self.choose(session).await;
        let number = self.world.number();
        let mut request = Request::builder()
            .method(method.clone())
            .uri("/mcp")
            .header(header::HOST, "mcp.example")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header(NUMBER, number);
        if let Some(session) = session {
            let id = match manner {
                Manner::Forged => altered(&session.id),
                Manner::Ordinary | Manner::AfterEnd => session.id.clone(),
            };
            request = request.header(SESSION, id);
        }
        let body = match session {
            None => handshake(self.index, number),
            Some(_) if *method == Method::POST => {
                json!({ "jsonrpc": "2.0", "id": number, "method": "tools/call" }).to_string()
            }
            Some(_) => String::new(),
        };
        let request = request.body(Full::from(body)).unwrap();
        self.note(number, proxy, method, session, manner);
        let _under_way = UnderWay(&self.world, number);
        let longest = match self.world.settings.on_loss {
            OnLoss::NotFound | OnLoss::Successor => LONGEST,
            OnLoss::Reinitialize => LONGEST + LONGEST_HANDSHAKES,
        };
        let sent = within(longest, self.exchange(proxy, request)).await;
        if sent.is_none() {
            self.world.wrong(format_args!(
                "c{}, request {number}: p{proxy} does not answer",
                self.index
            ));
        }
        (number, proxy, sent.unwrap_or(Err(())))
    }

    /// The balancer knows who is not running.
    async fn choose(&self, session: Option<&Session>) -> usize {
        let is_up = |proxy: &&Rc<Proxy>| proxy.is_ready();
        let up = loop {
            let up = self.proxies.iter().filter(is_up);
            let up: Vec<usize> = up.map(|proxy| proxy.index).collect();
            if !up.is_empty() {
                break up;
            }
            sleep(NOBODY).await;
        };
        // Where only that one knows how the session began, the balancer prefers it.
        if self.world.settings.on_loss == OnLoss::Reinitialize
            && let Some(session) = session
            && up.contains(&session.proxy)
            && self.random(|random| random.u8(0..10)) > 0
        {
            return session.proxy;
        }
        self.random(|random| random.choice(up)).unwrap_or(0)
    }

    fn note(
        &self,
        number: u64,
        proxy: usize,
        method: &Method,
        session: Option<&Session>,
        manner: Manner,
    ) {
        let at = self.world.now();
        let own = session.map_or("-", |session| &session.own);
        self.world.note(format_args!(
            "c{} asks p{proxy}: {number} {method} of {own}",
            self.index
        ));
        let mut history = self.world.history_mut();
        let run = history.runs[proxy].len() - 1;
        if let Some(session) = session
            && manner != Manner::Forged
        {
            let pin = session.id.to_str().unwrap().to_owned();
            history.runs[proxy][run].pins.entry(pin).or_insert(at);
        }
        let asked = Asked {
            proxy,
            run,
            at,
            session: session.map(|session| (session.own.clone(), session.key)),
            method: method.clone(),
            manner,
            reached: Vec::new(),
            not_found: false,
            over: None,
        };
        if *method == Method::DELETE {
            history.renewals.may_be_ended.insert(asked.known());
        }
        history.requests.insert(number, asked);
    }

    async fn exchange(
        &self,
        proxy: usize,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ()> {
        let kept = self.connections.borrow_mut().remove(&proxy);
        let mut sender = match kept.filter(|sender| sender.is_ready()) {
            Some(sender) => sender,
            None => {
                let address = world::address(self.proxies[proxy].machine);
                let stream = connect(address, Liveness::default()).await.map_err(drop)?;
                let (sender, connection) = http1::handshake(stream).await.map_err(drop)?;
                tokio::task::spawn_local(connection);
                sender
            }
        };
        let response = sender.send_request(request).await.map_err(drop)?;
        self.connections.borrow_mut().insert(proxy, sender);
        Ok(response)
    }

    /// Opens an event stream, which goes on in a task of its own for a while.
    async fn open_stream(self: &Rc<Self>, session: &Session) -> Outcome {
        let (number, proxy, response) = self
            .send(&Method::GET, Some(session), Manner::Ordinary)
            .await;
        let Ok(response) = response else {
            return self.broke_off(number, proxy);
        };
        self.connections.borrow_mut().remove(&proxy); // it is busy
        let is_stream = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == "text/event-stream");
        if !is_stream {
            return self.answered(number, proxy, Some(session), response).await;
        }
        self.check_id(response.headers(), Some(session), number);
        self.check_mark(response.headers(), number, true);
        self.world.count("a stream opened");
        let time = Duration::from_millis(self.random(|random| random.u64(100..4000)));
        let client = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let read = client.read_stream(response.into_body(), number, proxy);
            within(time, read).await;
        });
        Outcome::Failed
    }
}

/// A request whose client waits for the head of its answer.
struct UnderWay<'a>(&'a World, u64);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let Self(world, number) = self;
        let now = world.now();
        if let Some(asked) = world.history_mut().requests.get_mut(number) {
            asked.over = Some(now);
        }
    }
}

/// An `initialize` that is no other's.
fn handshake(client: usize, number: u64) -> String {
    let client = json!({ "name": format!("c{client}"), "version": number });
    let params =
        json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
    json!({ "jsonrpc": "2.0", "id": number, "method": "initialize", "params": params }).to_string()
}

/// The same id with another last character: the tag no longer verifies.
fn altered(id: &HeaderValue) -> HeaderValue {
    let mut bytes = id.as_bytes().to_vec();
    let last = bytes.last_mut().unwrap();
    *last = if *last == b'a' { b'b' } else { b'a' };
    HeaderValue::from_bytes(&bytes).unwrap()
}
