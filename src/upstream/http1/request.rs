//! A request on its way to the backend: its head in bytes, and its body as it comes.

use std::{
    io::Write as _,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Method, Request, header};
use hyper::body::{Body, Frame};

use super::connection::{Connection, Shared};
use crate::upstream::{Failure, Replay};

/// A frame up to this size leaves together with what is before it; a larger one is not copied for that.
const TOGETHER: usize = 16 * 1024;

/// How the backend sees where the body ends.
#[derive(Debug, Clone, Copy)]
enum Framed {
    /// So many bytes are left.
    Length(u64),
    InChunks,
}

/// The rest of a request.
pub(super) struct Sending<B> {
    /// Of the body, what the client has not been asked for yet.
    body: Option<B>,
    framed: Framed,
    /// What is to be written, one after the other.
    unwritten: [Bytes; 3],
    /// The backend takes nothing any more, and may have said why: the rest is read off the client's hands.
    is_deaf: bool,
}

impl<B> Sending<B>
where
    B: Replay + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Writes the head, and as much of the body as is there, in one piece. `request` is taken, unless the connection
    /// takes not a byte: then the backend has seen nothing, and there is an error.
    ///
    /// # Errors
    ///
    /// When nothing could be written, or the body breaks off.
    pub(super) fn begin(
        request: &mut Option<Request<B>>,
        connection: &mut Connection,
        shared: &Shared,
        cx: &mut Context<'_>,
    ) -> Result<Self, Failure> {
        let asked = request.as_mut().expect("a request is sent once");
        let mut bytes = shared.writing.borrow_mut();
        bytes.clear();
        let framed = put_head(&mut bytes, asked);
        let mut first = Bytes::new();
        let mut sending = Self {
            body: None,
            framed,
            unwritten: [const { Bytes::new() }; 3],
            is_deaf: false,
        };
        let body = asked.body_mut();
        let mut is_over = body.is_end_stream();
        if !is_over && let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            match sending.data_of(frame) {
                Ok(Some(data)) => first = data,
                Ok(None) => is_over = true,
                Err(error) => {
                    *request = None; // nobody is waiting for its answer
                    return Err(error);
                }
            }
            is_over |= asked.body().is_end_stream();
        }
        if let Err(error) = sending.frame(&mut bytes, first.clone(), is_over) {
            *request = None;
            return Err(error);
        }
        let written = match connection.poll_write(cx, &bytes) {
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(error)) => {
                if !first.is_empty() {
                    asked.body_mut().put_back(first);
                }
                return Err(Failure::Closed(error.into()));
            }
            Poll::Pending => 0,
        };
        if written < bytes.len() {
            sending.unwritten[0] = Bytes::copy_from_slice(bytes.split_at(written).1);
        }
        let (head, body) = request.take().expect("it is here").into_parts();
        sending.body = (!is_over).then_some(body);
        shared.keep(head.headers);
        Ok(sending)
    }

    /// Sends what is left. Ready when all has gone, or the backend does not want it.
    ///
    /// # Errors
    ///
    /// When the body breaks off.
    pub(super) fn poll(
        &mut self,
        connection: &mut Connection,
        shared: &Shared,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        loop {
            ready!(self.poll_unwritten(connection, cx));
            let Some(body) = &mut self.body else {
                return match connection.poll_flush(cx) {
                    Poll::Pending if !self.is_deaf => Poll::Pending,
                    Poll::Pending | Poll::Ready(_) => Poll::Ready(Ok(())),
                };
            };
            let frame = ready!(Pin::new(body).poll_frame(cx));
            let data = self.data_of(frame)?;
            let is_over = data.is_none() || self.body.as_ref().is_none_or(Body::is_end_stream);
            if is_over {
                self.body = None;
            }
            let mut bytes = shared.writing.borrow_mut();
            bytes.clear();
            self.frame(&mut bytes, data.unwrap_or_default(), is_over)?;
            self.unwritten[0] = Bytes::copy_from_slice(&bytes);
        }
    }

    /// Whether the backend has taken all of what has gone.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_deaf
    }

    fn poll_unwritten(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Poll<()> {
        for piece in &mut self.unwritten {
            while !piece.is_empty() {
                if self.is_deaf {
                    piece.clear();
                    break;
                }
                match ready!(connection.poll_write(cx, piece)) {
                    Ok(written) => piece.advance(written),
                    // A server that refuses a request by its head answers and closes while the body is still on its
                    // way: its answer, such as 413, may be there.
                    Err(_) => self.is_deaf = true,
                }
            }
        }
        Poll::Ready(())
    }

    /// What a frame of the body has; `None` at its end. Trailers stop here.
    fn data_of(
        &self,
        frame: Option<Result<Frame<Bytes>, B::Error>>,
    ) -> Result<Option<Bytes>, Failure> {
        match frame {
            None => Ok(None),
            Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
            Some(Err(error)) => Err(Failure::RequestBody(error.into())),
        }
    }

    /// Puts `data` behind `bytes` as the backend is to see them, or into `unwritten` if they are long.
    fn frame(&mut self, bytes: &mut Vec<u8>, data: Bytes, is_over: bool) -> Result<(), Failure> {
        let is_long = data.len() > TOGETHER;
        match &mut self.framed {
            Framed::Length(left) => {
                let length = data.len() as u64;
                *left = left.checked_sub(length).ok_or_else(other_length)?;
                if is_over && *left > 0 {
                    return Err(other_length());
                }
                if is_long {
                    self.unwritten[1] = data;
                } else {
                    bytes.extend_from_slice(&data);
                }
            }
            Framed::InChunks => {
                let end: &[u8] = if is_over { b"0\r\n\r\n" } else { b"" };
                if data.is_empty() {
                    bytes.extend_from_slice(end);
                    return Ok(());
                }
                write!(bytes, "{:x}\r\n", data.len())
                    .expect("memory takes all that is written to it");
                if is_long {
                    self.unwritten[1] = data;
                    let end: &'static [u8] = if is_over { b"\r\n0\r\n\r\n" } else { b"\r\n" };
                    self.unwritten[2] = Bytes::from_static(end);
                } else {
                    bytes.extend_from_slice(&data);
                    bytes.extend_from_slice(b"\r\n");
                    bytes.extend_from_slice(end);
                }
            }
        }
        Ok(())
    }
}

fn other_length() -> Failure {
    Failure::RequestBody("it is not as long as its Content-Length says".into())
}

/// The head in bytes: the target in origin form, and how the body is framed.
fn put_head<B: Body>(bytes: &mut Vec<u8>, request: &Request<B>) -> Framed {
    let target = request.uri().path_and_query();
    bytes.extend_from_slice(request.method().as_str().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(target.map_or("/", |target| target.as_str()).as_bytes());
    bytes.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in request.headers() {
        if *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
    }
    let framed = match request.body().size_hint().exact() {
        Some(length) => {
            if length > 0 || says_length(request.method(), request.headers()) {
                bytes.extend_from_slice(b"content-length: ");
                bytes.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
                bytes.extend_from_slice(b"\r\n");
            }
            Framed::Length(length)
        }
        None => {
            bytes.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Framed::InChunks
        }
    };
    bytes.extend_from_slice(b"\r\n");
    framed
}

/// Whether a request says of its body that there is none (RFC 9110, section 8.6): where the client does, and where one is
/// expected.
fn says_length(method: &Method, headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_LENGTH)
        || matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}
