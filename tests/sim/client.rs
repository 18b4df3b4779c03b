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

use super::{
    backend::{NUMBER, SESSION},
    history::{Asked, At},
    proxy::Proxy,
    settings::{CONNECT, HEALTHY, RESPONSE_HEAD},
    world::{self, Shared},
};

/// Longer than any answer may take: a wait for an unknown backend, rounds of connects, the backend's time.
const LONGEST: Duration = Duration::from_millis(2500)
    .saturating_add(RESPONSE_HEAD)
    .saturating_add(CONNECT.saturating_mul(2));

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
}

/// What came of a request.
enum Outcome {
    Served(HeaderMap),
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
                    let outcome = self.ask(Method::DELETE, Some(&current), false).await;
                    if matches!(outcome, Outcome::Served(_)) {
                        continue;
                    }
                    outcome
                }
                4..12 => self.open_stream(&current).await,
                12..15 => {
                    self.ask(Method::POST, Some(&current), true).await;
                    Outcome::Failed
                }
                15..18 => {
                    // Who leaves early sees nothing, and whatever he asked may still be done.
                    let early = Duration::from_millis(self.random(|random| random.u64(1..15)));
                    within(early, self.ask(Method::POST, Some(&current), false)).await;
                    Outcome::Failed
                }
                _ => self.ask(Method::POST, Some(&current), false).await,
            };
            if !matches!(outcome, Outcome::Gone) {
                session = Some(current);
            }
        }
    }

    async fn initialize(&self) -> Option<Session> {
        let Outcome::Served(headers) = self.ask(Method::POST, None, false).await else {
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
        })
    }

    /// Sends one request to any proxy, and judges what comes of it.
    async fn ask(&self, method: Method, session: Option<&Session>, forged: bool) -> Outcome {
        let (number, proxy, response) = self.send(&method, session, forged).await;
        match response {
            Ok(response) => self.answered(number, proxy, session, response).await,
            Err(()) => self.broke_off(number, proxy),
        }
    }

    async fn send(
        &self,
        method: &Method,
        session: Option<&Session>,
        forged: bool,
    ) -> (u64, usize, Result<Response<Incoming>, ()>) {
        let proxy = self.choose();
        let number = self.world.number();
        let mut request = Request::builder()
            .method(method.clone())
            .uri("/mcp")
            .header(header::HOST, "mcp.example")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header(NUMBER, number);
        if let Some(session) = session {
            let id = if forged {
                altered(&session.id)
            } else {
                session.id.clone()
            };
            request = request.header(SESSION, id);
        }
        let body = if *method == Method::POST { "{}" } else { "" };
        let request = request.body(Full::from(body)).unwrap();
        self.note(number, proxy, method, session, forged);
        let sent = within(LONGEST, self.exchange(proxy, request)).await;
        if sent.is_none() {
            self.world.wrong(format_args!(
                "c{}, request {number}: p{proxy} does not answer",
                self.index
            ));
        }
        (number, proxy, sent.unwrap_or(Err(())))
    }

    /// The balancer knows who is not running.
    fn choose(&self) -> usize {
        let up = self.proxies.iter().filter(|proxy| proxy.is_ready());
        let up: Vec<usize> = up.map(|proxy| proxy.index).collect();
        self.random(|random| random.choice(up)).unwrap_or(0)
    }

    fn note(
        &self,
        number: u64,
        proxy: usize,
        method: &Method,
        session: Option<&Session>,
        forged: bool,
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
            && !forged
        {
            let pin = session.id.to_str().unwrap().to_owned();
            history.runs[proxy][run].pins.entry(pin).or_insert(at);
        }
        let asked = Asked {
            proxy,
            run,
            at,
            session: session.map(|session| (session.own.clone(), session.key)),
            forged,
            reached: None,
            not_found: false,
        };
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
        let (number, proxy, response) = self.send(&Method::GET, Some(session), false).await;
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
        self.world.count("a stream opened");
        let time = Duration::from_millis(self.random(|random| random.u64(100..4000)));
        let (client, session) = (Rc::clone(self), session.clone());
        tokio::task::spawn_local(async move {
            let read = client.read_stream(response.into_body(), &session, number, proxy);
            within(time, read).await;
        });
        Outcome::Failed
    }
}

/// The same id with another last character: the tag no longer verifies.
fn altered(id: &HeaderValue) -> HeaderValue {
    let mut bytes = id.as_bytes().to_vec();
    let last = bytes.last_mut().unwrap();
    *last = if *last == b'a' { b'b' } else { b'a' };
    HeaderValue::from_bytes(&bytes).unwrap()
}
