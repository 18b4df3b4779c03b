//! The body of an answer, read as its reader asks for it.

use std::{
    io, mem,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use hyper::body::SizeHint;

use super::{
    connection::{Connection, Shared},
    framing::Framing,
    request::Sending,
};
use crate::{
    backend::BackendId,
    upstream::{Failure, Interrupted, Replay},
};

/// A read of so many bytes is followed by one into memory of its own: more of that kind is to be expected, and it is not
/// copied. Small ones share a buffer, so that a quiet stream has none.
const BULK: usize = 8 * 1024;

/// A connection in use.
pub(super) struct Lease<B> {
    pub(super) connection: Connection,
    pub(super) shared: Rc<Shared>,
    pub(super) id: BackendId,
    /// How long it may idle afterwards; `None` if it ends with the answer.
    pub(super) keep_alive: Option<Duration>,
    /// What of the request has not gone yet: an answer may begin before. In a box, for most go at once.
    pub(super) sending: Option<Box<Sending<B>>>,
}

impl<B> Lease<B>
where
    B: Replay + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Begins to send a request: see [`Sending::begin`].
    pub(super) fn ask(
        &mut self,
        request: &mut Option<Request<B>>,
        cx: &mut Context<'_>,
    ) -> Result<(), Failure> {
        let (connection, shared) = (&mut self.connection, &self.shared);
        let mut sending = Sending::begin(request, connection, shared, cx)?;
        match sending.poll(connection, shared, cx) {
            Poll::Ready(sent) => {
                if !sending.is_whole() {
                    self.keep_alive = None;
                }
                sent
            }
            Poll::Pending => {
                self.sending = Some(Box::new(sending));
                Ok(())
            }
        }
    }

    /// Sends more of the request, as far as it goes.
    ///
    /// # Errors
    ///
    /// When its body breaks off.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        let Some(sending) = &mut self.sending else {
            return Ok(());
        };
        match sending.poll(&mut self.connection, &self.shared, cx) {
            Poll::Pending => return Ok(()),
            Poll::Ready(sent) => sent?,
        }
        if !sending.is_whole() {
            self.keep_alive = None;
        }
        self.sending = None;
        Ok(())
    }

    /// The answer has been read. The connection is free when the request has gone, too.
    fn end(self) {
        let Self {
            mut connection,
            shared,
            id,
            keep_alive,
            sending,
        } = self;
        let Some(keep_alive) = keep_alive else { return };
        let Some(mut sending) = sending else {
            return shared.pool.give_back(id, connection, keep_alive);
        };
        tokio::task::spawn_local(async move {
            let sent = std::future::poll_fn(|cx| sending.poll(&mut connection, &shared, cx)).await;
            if sent.is_ok() && sending.is_whole() {
                shared.pool.give_back(id, connection, keep_alive);
            }
        });
    }
}

/// The body of an answer over HTTP/1.1. Dropped before its end, it closes the backend's connection at once.
pub(in crate::upstream) struct Answer<B> {
    /// Until the answer has ended. In a box: most end with their head, and what is moved about is small without it.
    lease: Option<Box<Lease<B>>>,
    framing: Framing,
    /// What was read, and is to be given.
    data: Bytes,
    /// Why it does not go on, once that is given.
    broken: Option<Interrupted>,
    is_bulk: bool,
    /// Its end was given.
    is_ended: bool,
}

impl<B> Answer<B> {
    /// Whether all of it has come, or broke off.
    pub(in crate::upstream) fn is_read(&self) -> bool {
        self.lease.is_none()
    }
}

impl<B> Answer<B>
where
    B: Replay + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// The body behind a head, of which `read` has come already. The beginning of that is `copied`.
    pub(super) fn new(lease: Lease<B>, framing: Framing, read: &mut [u8], copied: &Bytes) -> Self {
        let mut answer = Self {
            lease: None,
            framing,
            data: Bytes::new(),
            broken: None,
            is_bulk: read.len() >= BULK,
            is_ended: false,
        };
        let begins = read.is_empty() && !answer.framing.is_empty();
        let end = if begins {
            None
        } else {
            let decoded = answer.framing.decode(read);
            let is_copied = answer.framing.is_verbatim() && decoded.data.end <= copied.len();
            answer.data = if is_copied {
                copied.slice(decoded.data.clone())
            } else {
                Bytes::copy_from_slice(&read[decoded.data.clone()])
            };
            decoded.end_of(read.len())
        };
        match end {
            None => answer.lease = Some(Box::new(lease)),
            Some(Ok(is_clean)) if is_clean => lease.end(),
            Some(Ok(_)) => {}
            Some(Err(invalid)) => answer.broken = Some(invalid.into()),
        }
        answer
    }

    /// The next piece; `None` at the end. Cancel safe.
    pub(in crate::upstream) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Interrupted>>> {
        loop {
            if !self.data.is_empty() {
                return Poll::Ready(Some(Ok(mem::take(&mut self.data))));
            }
            if let Some(broken) = self.broken.take() {
                return Poll::Ready(Some(Err(broken)));
            }
            let Some(lease) = &mut self.lease else {
                self.is_ended = true;
                return Poll::Ready(None);
            };
            if let Err(error) = lease.poll_send(cx) {
                self.fail(Interrupted::Request(Box::new(error)));
                continue;
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) => self.closed(),
                Ok(length) => self.is_bulk = length >= BULK,
                Err(error) => self.fail(error.into()),
            }
        }
    }

    /// Whether all was given. In chunks, the end is something too: else an answer that had no data would go on with a
    /// length of zero.
    pub(in crate::upstream) fn is_over(&self) -> bool {
        match self.framing {
            Framing::Chunked(_) | Framing::UntilClose if !self.is_ended => false,
            Framing::Chunked(_) | Framing::UntilClose | Framing::Length(_) => {
                self.lease.is_none() && self.data.is_empty() && self.broken.is_none()
            }
        }
    }

    pub(in crate::upstream) fn size_hint(&self) -> SizeHint {
        let given = self.data.len() as u64;
        match &self.framing {
            Framing::Length(left) => SizeHint::with_exact(left + given),
            Framing::Chunked(_) | Framing::UntilClose => {
                let mut hint = SizeHint::new();
                hint.set_lower(given);
                hint
            }
        }
    }

    /// Reads more into `data`, and gives how many bytes came.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let lease = self.lease.as_mut().expect("the answer has not ended");
        let (decoded, length);
        if self.is_bulk {
            let mut own = ready!(lease.connection.poll_read_own(cx))?;
            length = own.len();
            decoded = self.framing.decode(&mut own);
            self.data = own.freeze().slice(decoded.data.clone());
        } else {
            let mut read = lease.shared.reading.borrow_mut();
            length = ready!(lease.connection.poll_read(cx, &mut read))?;
            let (read, _) = read.split_at_mut(length);
            decoded = self.framing.decode(read);
            self.data = Bytes::copy_from_slice(&read[decoded.data.clone()]);
        }
        match decoded.end_of(length).filter(|_| length > 0) {
            None => {}
            Some(Ok(is_clean)) => {
                if let Some(lease) = self.lease.take().filter(|_| is_clean) {
                    lease.end();
                }
            }
            Some(Err(invalid)) => self.fail(invalid.into()),
        }
        Poll::Ready(Ok(length))
    }

    /// The backend has ended the connection, and with it the answer, or not.
    fn closed(&mut self) {
        match self.framing {
            Framing::UntilClose => self.lease = None,
            Framing::Length(_) | Framing::Chunked(_) => self.fail(Interrupted::Closed),
        }
    }

    fn fail(&mut self, why: Interrupted) {
        self.lease = None;
        self.broken = Some(why);
    }
}
