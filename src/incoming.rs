//! A request's body as its connection hands it over, which tells the connection when all of it was taken.
//!
//! hyper does not say so, and the connection must know: as long as a rest is to come, what is read next is no request.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{self, Body, Frame, SizeHint};

/// Whether all of a request was taken. Clones are of the same connection.
#[derive(Debug, Clone, Default)]
pub struct Taken(Rc<Cell<bool>>);

impl Taken {
    /// Whether it was.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.get()
    }
}

/// A body, as it comes.
#[derive(Debug)]
pub struct Incoming {
    body: body::Incoming,
    /// Until it has been told: a later request of the connection has its own.
    taken: Option<Taken>,
    of_stream: bool,
}

impl Incoming {
    /// The body of a request that begins, which is the only one of its connection.
    #[must_use]
    pub fn new(body: body::Incoming, taken: Taken) -> Self {
        taken.0.set(false);
        let mut incoming = Self {
            body,
            taken: Some(taken),
            of_stream: false,
        };
        incoming.look();
        incoming
    }

    /// The body of one of many requests of a connection that speaks HTTP/2, where nobody waits for its end. It has no
    /// trailers: in HTTP/1.1 an empty section of them is the sign of a broken end, here it is none.
    #[must_use]
    pub fn of_stream(body: body::Incoming) -> Self {
        Self {
            body,
            taken: None,
            of_stream: true,
        }
    }

    fn look(&mut self) {
        if self.body.is_end_stream() {
            self.tell();
        }
    }

    fn tell(&mut self) {
        if let Some(Taken(whole)) = self.taken.take() {
            whole.set(true);
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            // What follows is the end, and whoever asked is asked again.
            Some(Ok(frame)) if self.of_stream && frame.is_trailers() => return Poll::Ready(None),
            Some(Ok(_)) => self.look(),
            Some(Err(_)) => {} // it never will be
            None => self.tell(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
