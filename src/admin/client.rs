//! The other end of the admin socket: one request and its answer.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use serde::{Serialize, de::DeserializeOwned};

use super::api::{Failed, Fault};
use crate::net;

/// For a whole request: the other end has nothing to wait for.
const LIMIT: Duration = Duration::from_secs(10);

/// More than thousands of backends take.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;

/// Why there is no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there to be asked.
    #[error("no pinring listens at unix:{path}: is it running, with this path as its server.admin?", path = path.display())]
    NobodyListens {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody else's socket.
    #[error("unix:{path} is not for this user: ask as the user that pinring runs as, or as root", path = path.display())]
    Permission {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection cannot be made, for another reason.
    #[error("cannot connect to unix:{path}", path = path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It ended in the middle.
    #[error("pinring broke off: it may be stopping")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It said nothing.
    #[error("pinring did not answer within {LIMIT:?}")]
    TimedOut,
    /// What answers there speaks otherwise.
    #[error("what answers there is no pinring of this version")]
    Foreign(#[source] serde_json::Error),
    /// It was refused.
    #[error("{}", .0.message)]
    Refused(Fault),
}

/// Asks at the admin socket `path`.
///
/// # Errors
///
/// See [`ClientError`].
pub async fn ask<T: DeserializeOwned>(
    path: &Path,
    method: Method,
    target: &str,
    body: &(impl Serialize + Sync),
) -> Result<T, ClientError> {
    let asked = net::within(LIMIT, exchange(path, method, target, body));
    let (good, answer) = asked.await.ok_or(ClientError::TimedOut)??;
    if good {
        return serde_json::from_slice(&answer).map_err(ClientError::Foreign);
    }
    let failed: Failed = serde_json::from_slice(&answer).map_err(ClientError::Foreign)?;
    Err(ClientError::Refused(failed.error))
}

async fn exchange(
    path: &Path,
    method: Method,
    target: &str,
    body: &impl Serialize,
) -> Result<(bool, Bytes), ClientError> {
    let connected = net::unix::connect(path).await;
    let stream = connected.map_err(|source| not_connected(path, source))?;
    let broken = |error: hyper::Error| ClientError::Broken(error.into());
    let (mut sender, connection) = http1::handshake(stream).await.map_err(broken)?;
    tokio::spawn(connection); // it ends with the answer
    let body = serde_json::to_vec(body).expect("plain data has a form in JSON");
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "pinring")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::<Bytes>::from(body))
        .expect("all parts are valid");
    let response = sender.send_request(request).await.map_err(broken)?;
    let good = response.status().is_success();
    let body = Limited::new(response.into_body(), LONGEST_ANSWER);
    let body = body.collect().await.map_err(ClientError::Broken)?;
    Ok((good, body.to_bytes()))
}

fn not_connected(path: &Path, source: io::Error) -> ClientError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ClientError::NobodyListens { path, source }
        }
        io::ErrorKind::PermissionDenied => ClientError::Permission { path, source },
        _ => ClientError::Connect { path, source },
    }
}
