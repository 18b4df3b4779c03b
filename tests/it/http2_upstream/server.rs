//! A server that speaks HTTP/2 as it should, by the crate h2.

use std::{
    future::Future,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{Request, Response};
use tokio::sync::watch;

/// A server with a thread of its own, which ends when this is dropped.
pub(super) struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
    orders: watch::Sender<Order>,
}

/// What it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Serve,
    /// GOAWAY to all, and connections end with their streams.
    Leave,
    End,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: Mutex<Vec<Request<()>>>,
    resets: Mutex<Vec<Option<Reason>>>,
}

/// One request.
pub(super) struct Call {
    pub(super) request: Request<RecvStream>,
    answer: SendResponse<Bytes>,
    seen: Arc<Seen>,
    /// The number of its connection, from 1.
    pub(super) connection: usize,
}

impl Call {
    /// The whole body of the request.
    pub(super) async fn body(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let body = self.request.body_mut();
        while let Some(Ok(data)) = body.data().await {
            let _open = body.flow_control().release_capacity(data.len());
            all.extend_from_slice(&data);
        }
        all
    }

    /// Answers with this, whole.
    pub(super) fn reply(mut self, answer: http::response::Builder, body: &str) {
        let answer = answer.body(()).unwrap();
        let Ok(mut stream) = self.answer.send_response(answer, body.is_empty()) else {
            return;
        };
        if !body.is_empty() {
            let _gone = stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true);
        }
    }

    /// Begins an answer.
    pub(super) fn begin(&mut self, answer: http::response::Builder) -> SendStream<Bytes> {
        self.answer
            .send_response(answer.body(()).unwrap(), false)
            .unwrap()
    }

    /// Begins a stream of events with one, keeps it open until it is reset, and notes that.
    pub(super) async fn stream(mut self) {
        let mut stream =
            self.begin(Response::builder().header("content-type", "text/event-stream"));
        let _gone = stream.send_data(Bytes::from_static(b"data: hello\n\n"), false);
        self.until_reset(&mut stream).await;
    }

    /// Waits until the stream is reset, and notes it.
    pub(super) async fn until_reset(&self, stream: &mut SendStream<Bytes>) {
        let reset = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
        self.seen.resets.lock().unwrap().push(reset.ok());
    }

    /// Waits until the stream is reset before it was answered, and notes it.
    pub(super) async fn until_reset_unanswered(&mut self) {
        let reset = std::future::poll_fn(|cx| self.answer.poll_reset(cx)).await;
        self.seen.resets.lock().unwrap().push(reset.ok());
    }
}

impl Server {
    /// Answers as `serve` does.
    pub(super) fn start<F: Future<Output = ()> + 'static>(
        serve: impl Fn(Call) -> F + Clone + Send + 'static,
    ) -> Self {
        Self::start_with(h2::server::Builder::new(), serve)
    }

    pub(super) fn start_with<F: Future<Output = ()> + 'static>(
        settings: h2::server::Builder,
        serve: impl Fn(Call) -> F + Clone + Send + 'static,
    ) -> Self {
        Self::start_at(crate::support::anywhere(), settings, serve)
    }

    pub(super) fn start_at<F: Future<Output = ()> + 'static>(
        at: SocketAddr,
        settings: h2::server::Builder,
        serve: impl Fn(Call) -> F + Clone + Send + 'static,
    ) -> Self {
        let listener = crate::support::listening(at);
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (orders, ordered) = watch::channel(Order::Serve);
        let seen: Arc<Seen> = Arc::default();
        let sees = Arc::clone(&seen);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(tokio::runtime::LocalOptions::default())
                .unwrap();
            runtime.block_on(accept(listener, settings, serve, sees, ordered));
        });
        Self {
            address,
            seen,
            orders,
        }
    }

    /// Echoes bodies, and gives an id to who has none.
    pub(super) fn echoing() -> Self {
        Self::start(|mut call| async move {
            let body = call.body().await;
            let id = call.request.headers().get("mcp-session-id").cloned();
            let id = id.unwrap_or_else(|| "id".parse().unwrap());
            let answer = Response::builder()
                .header("content-type", "application/json")
                .header("mcp-session-id", id);
            call.reply(answer, &String::from_utf8_lossy(&body));
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// How many of them have not ended.
    pub(super) fn open_connections(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }

    /// The heads of all requests.
    pub(super) fn requests(&self) -> Vec<Request<()>> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// With what streams were reset that waited for it; `None` is the end of the connection.
    pub(super) fn resets(&self) -> Vec<Option<Reason>> {
        self.seen.resets.lock().unwrap().clone()
    }

    /// Stops gracefully: no more requests on connections that are there.
    pub(super) fn leave(&self) {
        self.orders.send_replace(Order::Leave);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.orders.send_replace(Order::End);
    }
}

async fn accept<F: Future<Output = ()> + 'static>(
    listener: TcpListener,
    settings: h2::server::Builder,
    serve: impl Fn(Call) -> F + Clone + 'static,
    seen: Arc<Seen>,
    mut ordered: watch::Receiver<Order>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            end = ordered.wait_for(|order| *order == Order::End) => {
                drop(end);
                return;
            }
        };
        stream.set_nodelay(true).unwrap();
        let number = seen.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let (settings, serve, seen) = (settings.clone(), serve.clone(), Arc::clone(&seen));
        let mut ordered = ordered.clone();
        tokio::task::spawn_local(async move {
            seen.open.fetch_add(1, Ordering::SeqCst);
            if let Ok(mut connection) = settings.handshake::<_, Bytes>(stream).await {
                ordered.mark_unchanged(); // who comes after it was told to leave comes to its successor
                let mut is_leaving = false;
                loop {
                    tokio::select! {
                        accepted = connection.accept() => {
                            let Some(Ok((request, answer))) = accepted else {
                                break;
                            };
                            let (head, body) = request.into_parts();
                            let known = Request::from_parts(head.clone(), ());
                            seen.requests.lock().unwrap().push(known);
                            let request = Request::from_parts(head, body);
                            let seen = Arc::clone(&seen);
                            let call = Call { request, answer, seen, connection: number };
                            tokio::task::spawn_local(serve(call));
                        }
                        changed = ordered.changed(), if !is_leaving => {
                            if changed.is_err() || *ordered.borrow() == Order::End {
                                break;
                            }
                            is_leaving = true;
                            connection.graceful_shutdown();
                        }
                    }
                }
            }
            seen.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Waits without end.
pub(super) async fn forever() {
    tokio::time::sleep(Duration::from_secs(3600)).await;
}
