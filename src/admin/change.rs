//! Changes: drains, what takes them back, and reloads. Each leaves one line in the log.

use std::time::Duration;

use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;
use serde::de::DeserializeOwned;

use super::{
    Admin, Answered,
    api::{self, Fault},
    guard::Visitor,
};
use crate::{
    config, net,
    reload::command::{Command, Stopping},
    router::membership::{Changed, Unchanged},
};

/// For a request's body, once its head is there.
const REQUEST_BODY: Duration = Duration::from_secs(5);

/// The longest body of a request.
const LONGEST_BODY: usize = 64 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Admin {
    pub(super) async fn drain(self, wanted: api::Drain, visitor: Visitor) -> Answered {
        let within = time_left(&wanted)?;
        let backend = wanted.backend;
        let done = self.process.writer.ask(|answer| Command::Drain {
            backend: backend.clone(),
            within,
            answer,
        });
        changed("drain", &backend, done.await?, visitor)
    }

    pub(super) async fn undrain(self, wanted: api::Undrain, visitor: Visitor) -> Answered {
        let backend = wanted.backend;
        let done = self.process.writer.ask(|answer| Command::Undrain {
            backend: backend.clone(),
            answer,
        });
        changed("undrain", &backend, done.await?, visitor)
    }

    /// Drains one of the local backends; what it holds after `wait` is lost.
    pub(super) async fn drain_named(
        &self,
        backend: &str,
        wait: Option<Duration>,
        visitor: Visitor,
    ) -> Result<(), Fault> {
        let wanted = api::Drain {
            backend: backend.to_owned(),
            timeout: wait.map(config::format_duration),
            now: false,
        };
        to_its_end(self.clone().drain(wanted, visitor))
            .await
            .map(drop)
    }

    /// Takes such a drain back, if anybody is left to do it.
    pub(super) async fn take_back(&self, backend: String, visitor: Visitor) {
        let wanted = api::Undrain { backend };
        drop(self.clone().undrain(wanted, visitor).await); // by now the file may say otherwise
    }

    pub(super) async fn reload(self, visitor: Visitor) -> Answered {
        let reloaded = self.process.writer.ask(Command::Reload).await?;
        let told = api::ReloadStatus::of(&reloaded, net::now());
        tracing::info!(
            target: "pinring::audit",
            action = "reload",
            user = visitor.user(),
            peer = visitor.peer().map(tracing::field::display),
            result = &*told.result,
            "changed through the admin listener",
        );
        Ok(api::json(StatusCode::OK, &told))
    }
}

/// After which time what a backend holds is lost; zero is at once, `None` never.
fn time_left(wanted: &api::Drain) -> Result<Option<Duration>, Fault> {
    let timeout = wanted.timeout.as_deref().map(config::parse_duration);
    let timeout = timeout
        .transpose()
        .map_err(|error| Fault::body(&format!("timeout: {error}")))?;
    Ok(if wanted.now {
        Some(Duration::ZERO)
    } else {
        timeout.filter(|timeout| !timeout.is_zero())
    })
}

/// Carries a change through, also when whoever asked for it leaves meanwhile: its line is to be in the log.
pub(super) async fn to_its_end(
    change: impl Future<Output = Answered> + Send + 'static,
) -> Answered {
    let done = tokio::spawn(change).await;
    done.unwrap_or_else(|_| Err(Stopping.into())) // the runtime has ended
}

/// The answer to a change, and its line in the log.
fn changed(
    action: &str,
    backend: &str,
    done: Result<Changed, Unchanged>,
    visitor: Visitor,
) -> Answered {
    let changes = match done {
        Ok(changed) => api::Changes::of(&changed, net::now()),
        Err(why) => return Err(Fault::unchanged(backend, &why)),
    };
    let shown = changes.backends.first();
    tracing::info!(
        target: "pinring::audit",
        action,
        backend,
        user = visitor.user(),
        peer = visitor.peer().map(tracing::field::display),
        state = shown.map(|shown| &*shown.state),
        sessions = shown.map(|shown| shown.sessions),
        lost_in_s = shown.and_then(|shown| shown.lost_in_s),
        open_left = changes.open_left,
        "changed through the admin listener",
    );
    Ok(api::json(StatusCode::OK, &changes))
}

pub(super) async fn read<T: DeserializeOwned>(
    body: impl Body<Error: Into<BoxError>>,
) -> Result<T, Fault> {
    let body = Limited::new(body, LONGEST_BODY).collect();
    let body = net::within(REQUEST_BODY, body).await;
    let body = body.ok_or_else(|| Fault::late(REQUEST_BODY))?;
    let body = body.map_err(|error| Fault::body(&error))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| Fault::body(&error))
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use hyper::body::Frame;

    use super::*;

    /// A body that never comes.
    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_change_is_carried_through_when_who_asked_for_it_leaves() {
        let (done, carried_through) = tokio::sync::oneshot::channel();
        let change = async {
            tokio::task::yield_now().await;
            done.send(()).unwrap();
            Err(Fault::taken())
        };
        tokio::select! {
            biased;
            _ = to_its_end(change) => panic!("it takes longer"),
            () = std::future::ready(()) => {} // and leaves
        }
        carried_through.await.unwrap();
    }

    #[test]
    fn no_time_is_no_deadline_unless_it_is_to_be_now() {
        let left = |timeout: Option<&str>, now| {
            let (backend, timeout) = ("a".to_owned(), timeout.map(str::to_owned));
            time_left(&api::Drain {
                backend,
                timeout,
                now,
            })
        };
        let minute = Some(Duration::from_secs(60));
        assert_eq!(left(Some("1m"), false), Ok(minute));
        assert_eq!(left(Some("0s"), false), Ok(None));
        assert_eq!(left(None, false), Ok(None));
        assert_eq!(left(Some("0s"), true), Ok(Some(Duration::ZERO)));
        assert_eq!(left(None, true), Ok(Some(Duration::ZERO)));
        assert!(left(Some("10"), false).is_err());
    }

    #[test]
    fn a_body_that_does_not_come_is_not_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let a_minute = Duration::from_secs(60);
        let read = net::within(a_minute, read::<api::Undrain>(Silent));
        let read = runtime.block_on(read).expect("it has a deadline");
        assert_eq!(read, Err(Fault::late(REQUEST_BODY)));
    }
}
