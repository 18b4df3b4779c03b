//! A simulated MCP server: sessions in the memory of its process, and a check of whatever reaches it.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use pinring::net::{Bound, Liveness, simulated::Process, sleep};
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    arrival::{self, Arrival},
    settings::OnLoss,
    world::{self, Shared},
};

pub const SESSION: &str = "mcp-session-id";
pub const NUMBER: &str = "x-number";

/// Between two events of a stream.
const EVENTS: Duration = Duration::from_millis(700);

/// One backend over the lives of its process.
pub struct Backend {
    pub index: usize,
    world: Shared,
    process: RefCell<Option<Process>>,
    lives: Cell<u32>,
    frozen: Cell<bool>,
    slow: Rc<Cell<Duration>>,
    /// Where all backends keep their sessions together: see [`OnLoss::Successor`].
    common: Sessions,
}

type Sessions = Rc<RefCell<BTreeMap<String, Streams>>>;
type Streams = Vec<mpsc::UnboundedSender<Bytes>>;

impl Backend {
    pub fn new(world: &Shared, index: usize, common: &Sessions) -> Self {
        world.history_mut().down[index].begin(Duration::ZERO);
        Self {
            index,
            world: Rc::clone(world),
            process: RefCell::new(None),
            lives: Cell::new(0),
            frozen: Cell::new(false),
            slow: Rc::default(),
            common: Rc::clone(common),
        }
    }

    pub fn is_up(&self) -> bool {
        self.process.borrow().is_some()
    }

    pub fn start(&self) {
        if self.is_up() {
            return;
        }
        self.lives.set(self.lives.get() + 1);
        let server = Rc::new(Server {
            world: Rc::clone(&self.world),
            index: self.index,
            life: self.lives.get(),
            issued: Cell::new(0),
            slow: Rc::clone(&self.slow),
            sessions: match self.world.settings.on_loss {
                OnLoss::Successor => Rc::clone(&self.common),
                OnLoss::NotFound | OnLoss::Reinitialize => Sessions::default(),
            },
        });
        self.world.note(format_args!("b{} starts", self.index));
        let process = Process::start(world::backend(self.index), server.serve());
        self.process.replace(Some(process));
        let now = self.world.now();
        self.world.history_mut().down[self.index].end(now);
    }

    pub fn kill(&self) {
        let Some(process) = self.process.take() else {
            return;
        };
        self.world.note(format_args!("b{} is killed", self.index));
        let now = self.world.now();
        self.world.history_mut().down[self.index].begin(now);
        process.kill();
    }

    /// Stops the process, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        if let Some(process) = &*self.process.borrow() {
            process.freeze(frozen);
        }
        self.frozen.set(frozen);
        self.note_slow();
    }

    /// How much longer than usual its answers take.
    pub fn slow(&self, extra: Duration) {
        self.slow.set(extra);
        self.note_slow();
    }

    fn note_slow(&self) {
        let slow = self.frozen.get() || !self.slow.get().is_zero();
        let now = self.world.now();
        let spans = &mut self.world.history_mut().slow[self.index];
        if slow {
            spans.begin(now);
        } else {
            spans.end(now);
        }
    }
}

/// One life of the process.
struct Server {
    world: Shared,
    index: usize,
    life: u32,
    issued: Cell<u32>,
    slow: Rc<Cell<Duration>>,
    sessions: Sessions,
}

impl Server {
    async fn serve(self: Rc<Self>) {
        let address = world::address(world::backend(self.index));
        let listener = Bound::bind(address).unwrap().into_listener().unwrap();
        loop {
            let (stream, _) = listener.accept(Liveness::default()).await.unwrap();
            let server = Rc::clone(&self);
            let answer = service_fn(move |request| Rc::clone(&server).answer(request));
            tokio::task::spawn_local(http1::Builder::new().serve_connection(stream, answer));
        }
    }

    async fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Reply>, Infallible> {
        let text = |name| {
            let value = request.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let number: u64 = text(NUMBER).and_then(|text| text.parse().ok()).unwrap_or(0);
        let session = text(SESSION);
        let arrival = arrival::reached(&self.world, self.index, number, session.as_deref());
        let method = request.method().clone();
        let body = request.into_body().collect().await;
        let body = body.map_or_else(|_| Bytes::new(), |body| body.to_bytes());
        sleep(Duration::from_millis(1 + number % 5) + self.slow.get()).await;
        self.check_handshake(&arrival, number, &body);
        let response = match (method, session) {
            (Method::POST, None) => self.initialize(number, &arrival),
            (_, None) => self.reply(StatusCode::BAD_REQUEST, "", number),
            (_, Some(id)) if matches!(arrival, Arrival::Initialized) => {
                let known = self.sessions.borrow().contains_key(&id);
                let mut response = Response::new(Reply::Parts([].into()));
                *response.status_mut() = if known {
                    StatusCode::ACCEPTED
                } else {
                    StatusCode::NOT_FOUND
                };
                response
            }
            (method, Some(id)) if self.sessions.borrow().contains_key(&id) => {
                self.of_session(&method, &id, number)
            }
            (_, Some(id)) => {
                self.note_not_found(number, &id);
                self.reply(StatusCode::NOT_FOUND, &id, number)
            }
        };
        Ok(response)
    }

    /// A handshake that is repeated is the one that the session began with.
    fn check_handshake(&self, arrival: &Arrival, number: u64, body: &[u8]) {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let history = self.world.history();
        let right = match arrival {
            Arrival::Request => body["method"] != "notifications/initialized",
            Arrival::Initialized => body["method"] == "notifications/initialized",
            Arrival::Replay(replay) => {
                let (_, _, own) = &history.renewals.replays[*replay].of;
                let began = history
                    .renewals
                    .began
                    .get(own)
                    .map(|(_, _, number)| *number);
                body["method"] == "initialize"
                    && began.is_some()
                    && body["params"]["clientInfo"]["version"].as_u64() == began
            }
        };
        drop(history);
        if !right {
            let own = self.index;
            self.world
                .wrong(format_args!("b{own} gets {number}: it is {body}"));
        }
    }

    fn note_not_found(&self, number: u64, id: &str) {
        let mut history = self.world.history_mut();
        let Some(asked) = history.requests.get_mut(&number) else {
            return;
        };
        asked.not_found = true;
        let forgotten = (asked.proxy, asked.run, id.to_owned());
        history.renewals.forgotten.insert(forgotten);
    }

    fn initialize(&self, number: u64, arrival: &Arrival) -> Response<Reply> {
        self.issued.set(self.issued.get() + 1);
        let id = format!("b{}.{}.{}", self.index, self.life, self.issued.get());
        self.sessions
            .borrow_mut()
            .insert(id.clone(), Streams::new());
        let mut history = self.world.history_mut();
        let renewals = &mut history.renewals;
        match arrival {
            Arrival::Replay(replay) => renewals.replays[*replay].id.clone_from(&id),
            Arrival::Request | Arrival::Initialized => {
                let asked = &history.requests[&number];
                let by = (asked.proxy, asked.run, number);
                history.renewals.began.insert(id.clone(), by);
            }
        }
        drop(history);
        let mut response = self.reply(StatusCode::OK, &id, number);
        response
            .headers_mut()
            .insert(SESSION, id.try_into().unwrap());
        response
    }

    fn of_session(&self, method: &Method, id: &str, number: u64) -> Response<Reply> {
        if *method == Method::DELETE {
            self.sessions.borrow_mut().remove(id);
            let now = self.world.now();
            self.world.history_mut().deleted.insert(id.to_owned(), now);
        }
        let mut response = if *method == Method::GET {
            self.stream(id)
        } else {
            self.reply(StatusCode::OK, id, number)
        };
        if self.world.settings.repeat_ids {
            let id = id.to_owned().try_into().unwrap();
            response.headers_mut().insert(SESSION, id);
        }
        response
    }

    fn stream(&self, id: &str) -> Response<Reply> {
        let (sender, receiver) = mpsc::unbounded_channel();
        if let Some(streams) = self.sessions.borrow_mut().get_mut(id) {
            streams.push(sender.clone()); // so that it ends with the session
        }
        let (sender, event) = (sender.downgrade(), self.event(id, 0));
        tokio::task::spawn_local(async move {
            loop {
                sleep(EVENTS).await;
                let sent = sender.upgrade().map(|sender| sender.send(event.clone()));
                if !matches!(sent, Some(Ok(()))) {
                    return;
                }
            }
        });
        let mut response = Response::new(Reply::Events(receiver));
        let kind = "text/event-stream".try_into().unwrap();
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    fn event(&self, id: &str, number: u64) -> Bytes {
        format!("event: message\ndata: {}\n\n", self.content(id, number)).into()
    }

    fn content(&self, id: &str, number: u64) -> String {
        let result = json!({ "protocolVersion": "2025-11-25" });
        json!({
            "jsonrpc": "2.0", "id": 0, "result": result,
            "backend": self.index, "session": id, "number": number
        })
        .to_string()
    }

    /// As one JSON body, or as an event stream that ends: SDK servers do both.
    fn reply(&self, status: StatusCode, id: &str, number: u64) -> Response<Reply> {
        let as_events = status == StatusCode::OK && number.is_multiple_of(3);
        let (kind, body) = if as_events {
            let event = self.event(id, number);
            let half = event.len() / 2;
            let parts = [event.slice(..half), event.slice(half..)];
            ("text/event-stream", Reply::Parts(parts.into()))
        } else {
            let mut body = self.content(id, number);
            if status == StatusCode::NOT_FOUND {
                let error =
                    "\"error\":{\"code\":-32001,\"message\":\"Session not found\"},\"result\"";
                body = body.replacen("\"result\"", error, 1);
            }
            let body = Bytes::from(body);
            ("application/json", Reply::Parts([body].into()))
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let kind = kind.try_into().unwrap();
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// The body of an answer.
enum Reply {
    Parts(VecDeque<Bytes>),
    Events(mpsc::UnboundedReceiver<Bytes>),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = match &mut *self {
            Self::Parts(parts) => Poll::Ready(parts.pop_front()),
            Self::Events(events) => events.poll_recv(cx),
        };
        part.map(|part| part.map(|part| Ok(Frame::data(part))))
    }
}
