//! Makes a connection that speaks HTTP/2, or says why there is none.
//!
//! It is ready only when the backend has greeted: else a request would be on its way to one that does not understand
//! it, and nobody could say whether it was seen.

use std::{cell::RefCell, future::poll_fn, pin::Pin, rc::Rc, task::Poll, time::Duration};

use hyper::{client::conn::http2, rt::Executor};

use super::{
    connection::Multiplexed,
    lent::{Lent, Replay},
    wire::{Io, Wire},
};
use crate::{
    backend::Endpoint,
    net,
    upstream::{
        Open, Options,
        connect::{self, ConnectError},
        names::Names,
    },
};

/// What a backend may send of one answer before somebody has read it: what a client costs that does not read.
pub(super) const STREAM_WINDOW: u32 = 64 * 1024;

/// The same of all answers of a connection together: no bound, for a client that does not read would hold up all the
/// others. What there is of streams bounds it (RFC 9113, section 6.9.2: the most that is allowed).
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// What is taken of a request's body before the backend has room for it.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that were given up are remembered, for what is still on its way to them. Beyond that, and after that time,
/// the backend is told again.
const GIVEN_UP: usize = 1024;
const GIVEN_UP_FOR: Duration = Duration::from_secs(10);

/// Why a backend that accepts connections cannot be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoHttp2 {
    /// It answered in HTTP/1.
    #[error("it speaks HTTP/1")]
    Http1,
    /// It was offered h2 by ALPN, and has not chosen it.
    #[error("it has not chosen \"h2\" in the TLS handshake (ALPN)")]
    NotChosen,
    /// It sent something else.
    #[error("it begins with something else")]
    Other,
    /// It closed the connection without a greeting.
    #[error("it closes the connection when it is greeted in HTTP/2")]
    Closed,
    /// It is silent: it may also be stuck.
    #[error("it said nothing for {0:?} when it was greeted in HTTP/2")]
    Silent(Duration),
    /// It speaks HTTP/2, and allows no requests.
    #[error("it allows no streams (SETTINGS_MAX_CONCURRENT_STREAMS is 0)")]
    NoStreams,
}

/// hyper's own tasks run on the thread of their connection.
#[derive(Clone, Copy)]
pub(super) struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// What hyper does for one connection.
type Driven<B> = http2::Connection<Io, Lent<B>, Local>;

/// The same, until it is over, for the task that lets it happen and for those who want to know how much it can take.
type Shared<B> = Rc<RefCell<Option<Driven<B>>>>;

/// Connects to a backend within `options.connect`, TLS and greeting included. Cancel safe.
pub(super) async fn connect<B>(
    endpoint: &Endpoint,
    options: &Options,
    names: &Names,
    counted: &Open,
) -> Result<Multiplexed<B>, ConnectError>
where
    B: Replay + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let began = net::now();
    let left = || {
        options
            .connect
            .saturating_sub(net::now().saturating_duration_since(began))
    };
    let stream = connect::open(endpoint, options.connect, options.liveness, names).await?;
    let socket = connect::speak(stream, endpoint, left()).await?;
    let wire = Wire::new(socket);
    let shaking = net::within(left(), shake_hands(Rc::clone(&wire), options, counted));
    let silent = ConnectError::Http2(NoHttp2::Silent(options.connect));
    let (sender, driven) = shaking.await.ok_or(silent)??;
    let most_streams = Box::new(move || {
        let driven = driven.borrow();
        driven.as_ref().map_or(0, Driven::current_max_send_streams)
    });
    if most_streams() == 0 {
        return Err(ConnectError::Http2(NoHttp2::NoStreams));
    }
    Ok(Multiplexed::new(
        sender,
        most_streams,
        wire,
        options.keep_alive,
    ))
}

async fn shake_hands<B>(
    wire: Rc<Wire>,
    options: &Options,
    counted: &Open,
) -> Result<(http2::SendRequest<Lent<B>>, Shared<B>), ConnectError>
where
    B: Replay + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(net::Timer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(options.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_reset_streams(GIVEN_UP)
        .reset_stream_duration(GIVEN_UP_FOR)
        .max_local_error_reset_streams(None);
    if let Some((silence, patience)) = options.pings {
        builder
            .keep_alive_interval(silence)
            .keep_alive_timeout(patience);
    }
    let closed = |_error| ConnectError::Http2(NoHttp2::Closed);
    let (sender, driven) = builder
        .handshake(Io(Rc::clone(&wire)))
        .await
        .map_err(closed)?;
    let driven = Rc::new(RefCell::new(Some(driven)));
    let (drives, its_wire, entered) = (Rc::clone(&driven), Rc::clone(&wire), counted.enter());
    tokio::task::spawn_local(async move {
        let _until_it_ends = entered;
        drive(drives, its_wire).await;
    });
    poll_fn(|cx| wire.poll_greeted(cx))
        .await
        .map_err(ConnectError::Http2)?;
    Ok((sender, driven))
}

async fn drive<B>(driven: Shared<B>, wire: Rc<Wire>)
where
    B: Replay + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let ended = poll_fn(|cx| match &mut *driven.borrow_mut() {
        Some(driven) => Pin::new(driven).poll(cx),
        None => Poll::Ready(Ok(())),
    });
    // Its errors reach whoever waits for an answer or reads one.
    if let Err(error) = ended.await {
        tracing::debug!(%error, "upstream connection ended");
    }
    // It holds the requests that it has not taken, and gives them back with its end.
    let over = driven.borrow_mut().take();
    drop(over);
    wire.ended();
}
