//! Probes suspects, and nobody else: by a TCP connect, or by a GET of a path that the user has named.
//!
//! Never the MCP endpoint: a GET, HEAD or OPTIONS there leaves a session behind in some SDKs' servers, and a
//! ping without a session is refused by others. Probes report; what follows is for [`super::State`] to say.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use tokio::{sync::mpsc, task::AbortHandle};

use super::{Observation, Suspect};
use crate::{
    backend::{BackendId, Endpoint},
    net::{self, Liveness, Stream},
    upstream::connect::{self, ConnectError},
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

/// What a failed connect says of the backend; `None`: nothing, the configuration is at fault.
#[must_use]
pub fn seen_in(error: &ConnectError) -> Option<Observation> {
    match error {
        ConnectError::Refused { .. } => Some(Observation::Refused),
        ConnectError::TimedOut { .. }
        | ConnectError::Failed { .. }
        | ConnectError::Unresolved { .. } => Some(Observation::Unreachable),
        ConnectError::Handshake(_) => Some(Observation::Reset),
        ConnectError::SeveralAddresses { .. } => None,
    }
}

/// The probes that are under way.
#[derive(Debug)]
pub struct Probes {
    tasks: Vec<(Suspect, AbortHandle)>,
    reporter: Reporter,
}

impl Probes {
    /// None.
    #[must_use]
    pub fn new(reporter: Reporter) -> Self {
        Self {
            tasks: Vec::new(),
            reporter,
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
                let task = tokio::spawn(probe(suspect.clone(), self.reporter.clone()));
                self.tasks.push((suspect, task.abort_handle()));
            }
        }
    }
}

async fn probe(suspect: Suspect, reporter: Reporter) {
    loop {
        net::sleep(INTERVAL).await;
        if let Some(seen) = look(&suspect).await {
            reporter.report(suspect.id, seen);
        }
    }
}

async fn look(suspect: &Suspect) -> Option<Observation> {
    let opened = net::within(
        suspect.limit,
        connect::open(&suspect.endpoint, Liveness::default()),
    )
    .await;
    let stream = match opened {
        Some(Ok(stream)) => stream,
        Some(Err(error)) => return seen_in(&error),
        None => return Some(Observation::Unreachable),
    };
    let Some(path) = &suspect.path else {
        return Some(Observation::Probed);
    };
    let answered = net::within(suspect.limit, is_answered(stream, &suspect.endpoint, path)).await;
    Some(if answered == Some(true) {
        Observation::Probed
    } else {
        Observation::Unready
    })
}

/// Whether a GET of `path` is answered by 2xx.
async fn is_answered(stream: Stream, endpoint: &Endpoint, path: &str) -> bool {
    let request = Request::get(path)
        .header(header::HOST, endpoint.to_string())
        .header(header::CONNECTION, "close");
    let (Ok(request), Ok((mut sender, mut connection))) = (
        request.body(Empty::<Bytes>::new()),
        http1::handshake(stream).await,
    ) else {
        return false;
    };
    let mut answer = std::pin::pin!(sender.send_request(request));
    let answer = poll_fn(|cx| {
        let _over = std::pin::Pin::new(&mut connection).poll(cx).is_ready();
        answer.as_mut().poll(cx)
    });
    answer
        .await
        .is_ok_and(|response| response.status().is_success())
}
