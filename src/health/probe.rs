//! Probes suspects, and nobody else: by a TCP connect, or by a GET of a path that the user has named.
//!
//! Never the MCP endpoint: a GET, HEAD or OPTIONS there leaves a session behind in some SDKs' servers, and a
//! ping without a session is refused by others. Probes report; what follows is for [`super::State`] to say.

use std::{future::poll_fn, io, time::Duration};

use bytes::Bytes;
use http::{Request, Version, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{Observation, Suspect};
use crate::{
    backend::{BackendId, Endpoint},
    net::{self, Instant, Liveness, tls::Socket},
    upstream::{
        connect::{self, ConnectError},
        names::Names,
    },
};

/// Between two probes of one backend: its return is to be seen within half a second.
const INTERVAL: Duration = Duration::from_millis(400);

/// Observations that wait to be taken. Further ones are dropped: there is bad news enough then.
const WAITING: usize = 1024;

/// What was seen of which backend.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// The backend, at one address.
    pub id: BackendId,
    /// What was seen.
    pub seen: Observation,
}

/// Where requests and probes report to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reporter(mpsc::Sender<Report>);

/// Makes the two ends of all reports.
#[must_use]
pub fn reports() -> (Reporter, mpsc::Receiver<Report>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Reporter(sender), receiver)
}

impl Reporter {
    /// Reports, and never waits.
    pub fn report(&self, id: BackendId, seen: Observation) {
        let _full = self.0.try_send(Report { id, seen });
    }
}

/// What a failed connect says of the backend; `None`: nothing, the fault is on this side.
#[must_use]
pub fn seen_in(error: &ConnectError) -> Option<Observation> {
    match error {
        ConnectError::Refused { .. } => Some(Observation::Refused),
        ConnectError::TimedOut { .. } => Some(Observation::Unreachable),
        ConnectError::Failed { source, .. } => {
            is_the_network_s(source).then_some(Observation::Unreachable)
        }
        ConnectError::Unresolved { .. } => Some(Observation::Unresolved),
        // Somebody is there: a connection alone would say that all is well.
        ConnectError::Certificate { .. } | ConnectError::Tls { .. } | ConnectError::Http2(_) => {
            Some(Observation::Reset)
        }
        ConnectError::SeveralAddresses { .. } => None,
    }
}

/// Whether the network has failed, and not this process, which may have run out of descriptors or ports.
fn is_the_network_s(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::TimedOut
    )
}

/// The probes that are under way.
#[derive(Debug)]
pub struct Probes {
    tasks: Vec<(Suspect, AbortHandle)>,
    reporter: Reporter,
    names: Names,
}

impl Probes {
    /// None.
    #[must_use]
    pub fn new(reporter: Reporter, names: Names) -> Self {
        Self {
            tasks: Vec::new(),
            reporter,
            names,
        }
    }

    /// Probes exactly these, and exactly so, from now on.
    pub fn keep(&mut self, suspects: Vec<Suspect>) {
        self.tasks.retain(|(suspect, task)| {
            let keep = suspects.contains(suspect);
            if !keep {
                task.abort();
            }
            keep
        });
        for suspect in suspects {
            if !self.tasks.iter().any(|(known, _)| *known == suspect) {
                let (reporter, names) = (self.reporter.clone(), self.names.clone());
                let task = tokio::task::spawn_local(probe(suspect.clone(), reporter, names));
                self.tasks.push((suspect, task.abort_handle()));
            }
        }
    }
}

async fn probe(suspect: Suspect, reporter: Reporter, names: Names) {
    let mut at = net::now() + INTERVAL;
    loop {
        if let Some(seen) = first_seen(&suspect, &mut at, &names).await {
            reporter.report(suspect.id, seen);
        }
    }
}

/// What is seen first by looks that begin at `at` and from then on once in an interval. One alone would not see a
/// host's return: its packets were lost, and TCP sends the next ones after a second. The others are given
/// up, so that nothing is seen late.
async fn first_seen(suspect: &Suspect, at: &mut Instant, names: &Names) -> Option<Observation> {
    let mut looks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(seen) = looks.join_next() => return seen.ok().flatten(),
            () = net::sleep_until(*at) => {
                *at = net::now() + INTERVAL;
                looks.spawn_local(look(suspect.clone(), names.clone()));
            }
        }
    }
}

async fn look(suspect: Suspect, names: Names) -> Option<Observation> {
    let liveness = Liveness::default();
    let stream = match connect::open(&suspect.endpoint, suspect.limit, liveness, &names).await {
        Ok(stream) => stream,
        Err(error) => return seen_in(&error),
    };
    let Some(path) = &suspect.path else {
        return Some(Observation::Probed);
    };
    let asked = async {
        let socket = connect::speak(stream, &suspect.endpoint, suspect.limit)
            .await
            .ok()?;
        if suspect.endpoint.http2 {
            status_in_http2(socket, &suspect.endpoint, path).await
        } else {
            status_of(socket, &suspect.endpoint, path).await
        }
    };
    let status = net::within(suspect.limit, asked).await.flatten();
    Some(
        if status.is_some_and(|status| suspect.expected.contain(status)) {
            Observation::Probed
        } else {
            Observation::Unready
        },
    )
}

/// What a GET of `path` is answered with; `None` if with nothing.
async fn status_of(socket: Socket, endpoint: &Endpoint, path: &str) -> Option<u16> {
    let request = Request::get(path)
        .header(header::HOST, &*endpoint.authority())
        .header(header::CONNECTION, "close");
    let (Ok(request), Ok((mut sender, mut connection))) = (
        request.body(Empty::<Bytes>::new()),
        http1::handshake(socket).await,
    ) else {
        return None;
    };
    let mut answer = std::pin::pin!(sender.send_request(request));
    let answer = poll_fn(|cx| {
        let _over = std::pin::Pin::new(&mut connection).poll(cx).is_ready();
        answer.as_mut().poll(cx)
    });
    answer.await.ok().map(|response| response.status().as_u16())
}

/// The same in HTTP/2. Without hyper, whose task would hold the connection of a backend that does not answer.
async fn status_in_http2(socket: Socket, endpoint: &Endpoint, path: &str) -> Option<u16> {
    let scheme = if endpoint.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let url = format!("{scheme}://{}{path}", endpoint.authority());
    let request = Request::get(url).version(Version::HTTP_2);
    let io = TokioIo::new(socket);
    let (Ok(request), Ok((mut sender, mut connection))) =
        (request.body(()), h2::client::handshake(io).await)
    else {
        return None;
    };
    let (answer, _no_body) = sender.send_request(request, true).ok()?;
    let mut answer = std::pin::pin!(answer);
    let answer = poll_fn(|cx| {
        let _over = std::pin::Pin::new(&mut connection).poll(cx).is_ready();
        answer.as_mut().poll(cx)
    });
    answer.await.ok().map(|response| response.status().as_u16())
}

#[cfg(test)]
mod tests;
