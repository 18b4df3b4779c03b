//! An answer's body as HTTP holds it, and how it leaves HTTP.
//!
//! hyper keeps 26 KiB for a connection: buffers, and the room for a request. An event stream that waits for its next event
//! needs none of it. So when all that there is of such an answer has been written and its request was taken whole, the
//! connection takes the body back, and goes on without hyper (`chunked`).

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::{Connection, Handler, pace::Busy};

/// An answer under way, which keeps its connection busy until it ends.
#[derive(Debug)]
pub(super) struct Begun<B> {
    pub(super) body: B,
    pub(super) busy: Busy,
}

/// An answer's body, of which is held back what the client does not take.
pub(super) struct Held<H: Handler> {
    /// `None` once it goes on without HTTP.
    begun: Option<Begun<H::Body>>,
    connection: Rc<Connection<H>>,
}

impl<H: Handler> Held<H> {
    pub(super) fn new(begun: Begun<H::Body>, connection: Rc<Connection<H>>) -> Self {
        Self {
            begun: Some(begun),
            connection,
        }
    }
}

impl<H: Handler> Body for Held<H> {
    type Data = Bytes;
    type Error = <H::Body as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { begun, connection } = &mut *self;
        let Some(Begun { body, busy }) = begun else {
            return Poll::Pending;
        };
        let pace = busy.pace();
        ready!(pace.poll_room(cx));
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    pace.taken(data.len());
                }
            }
            Poll::Ready(Some(Err(_)) | None) => {}
            Poll::Pending => {
                if pace.may_leave() {
                    connection.left.set(begun.take().map(Box::new));
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.begun
            .as_ref()
            .is_some_and(|begun| begun.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let begun = self.begun.as_ref();
        begun.map_or_else(SizeHint::default, |begun| begun.body.size_hint())
    }
}
