//! Sends spans to a collector, as OTLP over HTTP, from a thread of its own.
//!
//! Requests wait for nothing here: a span for which there is no room is dropped and counted. When the collector
//! cannot be reached, one line says so, and one when it can again.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter as _},
};
use tokio::sync::oneshot;

use crate::{
    backend::Endpoint,
    config::Export,
    net::{self, Liveness},
    upstream::{connect, names::Names},
};

/// Spans that wait: those of some 500 requests, at about 1 KiB each (as the SDKs' batch processors have it).
const WAITING: usize = 2048;

/// Spans of one request to the collector.
const BATCH: usize = 512;

/// How long a span waits for others. Less than the SDKs' 5 s: who looks for a request looks at once.
const COLLECT: Duration = Duration::from_secs(1);

/// For a connection to the collector, and for all that is said over it.
const CONNECT: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(10);

/// For what is left when the process ends.
const LAST: Duration = Duration::from_secs(2);

/// The longest answer that is read.
const LONGEST_ANSWER: usize = 64 * 1024;

/// What became of spans.
#[derive(Debug, Clone, Default)]
pub struct Counts(Arc<[AtomicU64; 2]>);

impl Counts {
    /// How many the collector has taken.
    #[must_use]
    pub fn exported(&self) -> u64 {
        self.0[0].load(Ordering::Relaxed)
    }

    /// How many were lost: there was no room, or the collector did not take them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0[1].load(Ordering::Relaxed)
    }

    fn add_exported(&self, count: usize) {
        self.0[0].fetch_add(count as u64, Ordering::Relaxed);
    }

    fn add_dropped(&self, count: usize) {
        self.0[1].fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Where spans are put. Cheap to clone; the exporter ends when all are gone.
#[derive(Clone)]
pub struct Outbox {
    spans: SyncSender<SpanData>,
    counts: Counts,
}

impl Outbox {
    /// Puts a span in, if there is room.
    pub(super) fn send(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.counts.add_dropped(1);
        }
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

/// The thread that sends.
#[derive(Debug)]
pub struct Exporter(oneshot::Receiver<()>);

impl Exporter {
    /// Starts it. The collector's host is looked up in `names`.
    ///
    /// # Errors
    ///
    /// When the thread cannot be had, or what is to be sent makes no sense.
    pub fn start(export: &Export, names: Names, counts: Counts) -> io::Result<(Self, Outbox)> {
        let (spans, waiting) = sync_channel(WAITING);
        let (done, ended) = oneshot::channel();
        let collector = Arc::new(Collector {
            endpoint: export.endpoint.clone(),
            names,
            why: Mutex::default(),
        });
        let headers = export.headers.iter().filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        });
        let client: Arc<dyn HttpClient> = collector.clone();
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_shared_http_client(client)
            .with_endpoint(export.url.to_string())
            .with_timeout(LIMIT)
            .with_headers(headers.collect())
            .build();
        let mut exporter = exporter.map_err(io::Error::other)?;
        exporter.set_resource(&resource(export));
        let sender = Sender {
            exporter,
            collector,
            counts: counts.clone(),
            lost: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(move || {
                runtime.block_on(sender.run(&waiting));
                runtime.shutdown_background();
                drop(done);
            })?;
        Ok((Self(ended), Outbox { spans, counts }))
    }

    /// Waits until all is sent that was put in, for as long as a process that ends has time for it.
    pub async fn ended(self) {
        let _in_time = net::within(LAST, self.0).await;
    }
}

/// What is said of the process.
fn resource(export: &Export) -> Resource {
    let attributes = export.attributes.iter();
    let attributes = attributes.map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder()
        .with_attribute(version)
        .with_attributes(attributes);
    match &export.service {
        Some(service) => resource.with_service_name(service.clone()).build(),
        None => resource.build(),
    }
}

struct Sender {
    exporter: opentelemetry_otlp::SpanExporter,
    collector: Arc<Collector>,
    counts: Counts,
    /// How many spans were lost before this trouble, while there is trouble.
    lost: Option<u64>,
}

impl Sender {
    async fn run(mut self, waiting: &Receiver<SpanData>) {
        while let Some(batch) = next(waiting) {
            let count = batch.len();
            match self.exporter.export(batch).await {
                Ok(()) => {
                    self.counts.add_exported(count);
                    if let Some(before) = self.lost.take() {
                        let lost = self.counts.dropped() - before;
                        tracing::info!(lost, "spans are exported again");
                    }
                }
                Err(error) => {
                    let before = self.counts.dropped();
                    self.counts.add_dropped(count);
                    if self.lost.is_none() {
                        self.lost = Some(before);
                        let why = self.collector.why();
                        let error = why.unwrap_or_else(|| error.to_string());
                        tracing::warn!(
                            error,
                            "spans cannot be exported and are lost until that is mended; requests go on as before"
                        );
                    }
                }
            }
        }
    }
}

/// The next spans that go together; `None` when no more will come.
fn next(waiting: &Receiver<SpanData>) -> Option<Vec<SpanData>> {
    let mut batch = vec![waiting.recv().ok()?];
    let until = net::now() + COLLECT;
    while batch.len() < BATCH {
        match waiting.recv_timeout(until.saturating_duration_since(net::now())) {
            Ok(span) => batch.push(span),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    Some(batch)
}

/// The collector, asked over a connection for each batch: one a second at most, and none that could be stale.
struct Collector {
    endpoint: Endpoint,
    names: Names,
    /// Why it was not reached: the library tells no more than that it was not.
    why: Mutex<Option<String>>,
}

impl Collector {
    fn why(&self) -> Option<String> {
        let mut why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        why.take()
    }

    async fn ask(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let liveness = Liveness::default();
        let stream = connect::open(&self.endpoint, CONNECT, liveness, &self.names).await?;
        let socket = connect::speak(stream, &self.endpoint, CONNECT).await?;
        let (mut sender, connection) = http1::handshake(socket).await?;
        let host = HeaderValue::try_from(self.endpoint.to_string())?;
        request.headers_mut().insert(header::HOST, host);
        let target = request.uri().path_and_query().cloned();
        *request.uri_mut() = target.map_or_else(Default::default, Into::into);
        let answer = async {
            let response = sender.send_request(request.map(Full::new)).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        tokio::pin!(answer, connection);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            ended = &mut connection => {
                ended?;
                answer.await
            }
        }
    }
}

impl HttpClient for Collector {
    fn send_bytes<'a, 'f>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let answered = net::within(LIMIT, self.ask(request)).await;
            let answered = answered.unwrap_or_else(|| Err("it does not answer in time".into()));
            answered.inspect_err(|error| {
                let why = format!("the collector at {}: {error}", self.endpoint);
                self.why
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .replace(why);
            })
        })
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Collector").field(&self.endpoint).finish()
    }
}
