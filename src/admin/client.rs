//! The other end of the admin listener: one request and its answer.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    client::conn::http1,
    rt::{Read, Write},
};
use serde::{Serialize, de::DeserializeOwned};

use super::api::{Failed, Fault, Status};
use crate::{
    config::{AdminPlace, ConfigErrors, DEFAULT_ADMIN, Token},
    net::{self, Liveness},
};

/// For a whole request: the other end has nothing to wait for.
const LIMIT: Duration = Duration::from_secs(10);

/// More than thousands of backends take.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;

/// Why there is no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there to be asked.
    #[error("no pinring listens at {place}: is it running, with this as its server.admin?")]
    NobodyListens {
        /// Where.
        place: AdminPlace,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody else's socket.
    #[error("{place} is not for this user: ask as the user that pinring runs as, or as root")]
    Permission {
        /// Where.
        place: AdminPlace,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection cannot be made, for another reason.
    #[error("cannot connect to {place}")]
    Connect {
        /// Where.
        place: AdminPlace,
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
    /// Another process has the default address.
    #[error(
        "the pinring that listens at {DEFAULT_ADMIN} has another configuration ({theirs}) than {}: name a server.admin of its own there",
        ours.display()
    )]
    Another {
        /// The file that was asked for.
        ours: PathBuf,
        /// What that process was started with.
        theirs: String,
    },
    /// It was refused.
    #[error("{}", .0.message)]
    Refused(Fault),
    /// It was refused for want of the token, which this user cannot read.
    #[error("{}; and the token of the configuration cannot be had here", fault.message)]
    NoToken {
        /// What was answered.
        fault: Fault,
        /// Why it cannot be had.
        source: Box<ConfigErrors>,
    },
}

/// Asks one running process.
#[derive(Debug)]
pub struct Client {
    places: Vec<AdminPlace>,
    token: Result<Option<Token>, ConfigErrors>,
    /// The one of this file alone is meant.
    file: Option<PathBuf>,
}

impl Client {
    /// One that asks at the first of `places` that can be connected to, and shows the `token` on TCP.
    #[must_use]
    pub fn new(places: Vec<AdminPlace>, token: Result<Option<Token>, ConfigErrors>) -> Self {
        let file = None;
        Self {
            places,
            token,
            file,
        }
    }

    /// The same for who means the process with this configuration and no other, where `file` is one.
    #[must_use]
    pub fn only_of(self, file: Option<PathBuf>) -> Self {
        Self { file, ..self }
    }

    /// Asks, and reads what is answered.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).expect("plain data has a form in JSON");
        let (good, answer) = self.fetch(method, target, body).await?;
        if good {
            return serde_json::from_slice(&answer).map_err(ClientError::Foreign);
        }
        let failed: Failed = serde_json::from_slice(&answer).map_err(ClientError::Foreign)?;
        let fault = failed.error;
        match &self.token {
            Err(errors) if fault.reason == Fault::TOKEN_MISSING => Err(ClientError::NoToken {
                fault,
                source: Box::new(errors.clone()),
            }),
            Ok(_) | Err(_) => Err(ClientError::Refused(fault)),
        }
    }

    /// Asks, and gives what comes, and whether it is good.
    ///
    /// # Errors
    ///
    /// When nothing comes.
    pub async fn fetch(
        &self,
        method: Method,
        target: &str,
        body: Vec<u8>,
    ) -> Result<(bool, Bytes), ClientError> {
        let asked = async {
            if let Some(ours) = &self.file {
                let (_, status) = self.exchange(Method::GET, "/status", Vec::new()).await?;
                let status: Status =
                    serde_json::from_slice(&status).map_err(ClientError::Foreign)?;
                let is_it = status
                    .file
                    .as_ref()
                    .is_some_and(|file| Path::new(file) == ours);
                if !is_it {
                    return Err(ClientError::Another {
                        ours: ours.clone(),
                        theirs: status.file.unwrap_or_else(|| "no file".to_owned()),
                    });
                }
            }
            self.exchange(method, target, body).await
        };
        net::within(LIMIT, asked)
            .await
            .ok_or(ClientError::TimedOut)?
    }

    async fn exchange(
        &self,
        method: Method,
        target: &str,
        body: Vec<u8>,
    ) -> Result<(bool, Bytes), ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::CONTENT_TYPE, "application/json");
        let token = self.token.as_ref().ok().and_then(Option::as_ref);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token.bearer());
        }
        let body = Full::from(body);
        let request = |host: String| {
            let request = request.header(header::HOST, host).body(body);
            request.expect("all parts are valid")
        };
        match self.connect().await? {
            Connected::Unix(stream) => send(stream, request("pinring".to_owned())).await,
            Connected::Tcp(stream, address) => send(stream, request(address.to_string())).await,
        }
    }

    /// Connects to the first place where somebody listens and lets this user in. Else tells of the first, which is
    /// where changes need no token.
    async fn connect(&self) -> Result<Connected, ClientError> {
        let mut first = None;
        for place in &self.places {
            match connect(place).await {
                Ok(connected) => return Ok(connected),
                Err(source) => {
                    first.get_or_insert_with(|| not_connected(place.clone(), source));
                }
            }
        }
        Err(first.expect("there is one place at least"))
    }
}

enum Connected {
    Unix(net::unix::Stream),
    Tcp(net::Stream, SocketAddr),
}

async fn connect(place: &AdminPlace) -> io::Result<Connected> {
    match place {
        AdminPlace::Unix(path) => net::unix::connect(path).await.map(Connected::Unix),
        AdminPlace::Tcp(address) => {
            let address = reachable(*address);
            let stream = net::connect(address, Liveness::default()).await?;
            Ok(Connected::Tcp(stream, address))
        }
    }
}

/// Where to connect to from the same machine, for who listens at `address`, be that all of them.
#[must_use]
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn send(
    stream: impl Read + Write + Unpin,
    request: Request<Full<Bytes>>,
) -> Result<(bool, Bytes), ClientError> {
    let broken = |error: hyper::Error| ClientError::Broken(error.into());
    let (mut sender, connection) = http1::handshake(stream).await.map_err(broken)?;
    let answered = async move {
        let response = sender.send_request(request).await.map_err(broken)?;
        let good = response.status().is_success();
        let body = Limited::new(response.into_body(), LONGEST_ANSWER);
        let body = body.collect().await.map_err(ClientError::Broken)?;
        Ok((good, body.to_bytes()))
    };
    let (answered, _ended) = tokio::join!(answered, connection); // which ends with the sender
    answered
}

fn not_connected(place: AdminPlace, source: io::Error) -> ClientError {
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ClientError::NobodyListens { place, source }
        }
        io::ErrorKind::PermissionDenied => ClientError::Permission { place, source },
        _ => ClientError::Connect { place, source },
    }
}
