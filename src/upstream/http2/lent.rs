//! A request's body in the hands of hyper, which can be taken back.
//!
//! A backend that takes no more requests may say so when hyper has begun to send one. The specification promises that
//! it has not looked at it, and hyper gives nothing back by then: so what has gone is kept for as long as that can
//! happen, up to a bound. And when the answer is given up, the rest of the request is called off, too: the stream is
//! reset only when nobody holds it any longer.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::connection::{Multiplexed, Reserved};

/// What is kept of a body until its answer begins. Nearly all are shorter; a longer one is not sent again.
const KEPT: usize = 64 * 1024;

/// A request's body that can be made whole again.
pub trait Replay: Body<Data = Bytes> {
    /// Puts back what was read of it: it comes again, before the rest.
    fn put_back(&mut self, read: Bytes);
}

/// The body of one request, for hyper. The stream counts until it is dropped.
pub(in crate::upstream) struct Lent<B>(Rc<Stream<B>>);

/// The other end of it: belongs to the answer. When dropped, the request is given up, unless all went well.
pub(in crate::upstream) struct Unfinished<B>(Rc<Stream<B>>);

struct Stream<B> {
    body: RefCell<State<B>>,
    is_over: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    connection: Reserved<B>,
}

struct State<B> {
    /// `None`: it was taken back, or broke off.
    body: Option<B>,
    /// What has gone of it, while it may be wanted back.
    gone: Option<Vec<Bytes>>,
    broken_off: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Lends `body` to be sent over this connection.
pub(super) fn lend<B>(body: B, connection: Reserved<B>) -> (Unfinished<B>, Lent<B>) {
    let stream = Rc::new(Stream {
        body: RefCell::new(State {
            body: Some(body),
            gone: Some(Vec::new()),
            broken_off: None,
        }),
        is_over: Cell::new(false),
        waker: RefCell::new(None),
        connection,
    });
    (Unfinished(Rc::clone(&stream)), Lent(stream))
}

impl<B> Unfinished<B> {
    pub(in crate::upstream) fn connection(&self) -> &Multiplexed<B> {
        &self.0.connection
    }

    /// The backend has begun to answer: the request is not taken back any more.
    pub(super) fn is_taken(&self) {
        self.0.body.borrow_mut().gone = None;
    }

    /// Why the body broke off, if it did.
    pub(super) fn broken_off(&self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        self.0.body.borrow_mut().broken_off.take()
    }

    /// The answer has ended. What hyper still sends of the request goes on.
    pub(in crate::upstream) fn finish(self) {
        self.0.is_over.set(true); // there is nothing to be called off any more
    }
}

impl<B: Replay> Unfinished<B> {
    /// The body as it was, if too much of it has not gone.
    pub(super) fn take_back(&self) -> Option<B> {
        let mut state = self.0.body.borrow_mut();
        let gone = state.gone.take()?;
        let mut body = state.body.take()?;
        match &gone[..] {
            [] => {}
            [one] => body.put_back(one.clone()),
            several => body.put_back(several.concat().into()),
        }
        Some(body)
    }
}

impl<B> Drop for Unfinished<B> {
    fn drop(&mut self) {
        if !self.0.is_over.replace(true) {
            self.0.body.borrow_mut().body = None;
            if let Some(waker) = self.0.waker.take() {
                waker.wake();
            }
        }
    }
}

impl<B> Stream<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        // hyper makes a reset with this reason of it.
        let called_off = || Some(Err(h2::Reason::CANCEL.into()));
        let mut state = self.body.borrow_mut();
        let Some(body) = &mut state.body else {
            return Poll::Ready(called_off());
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Pending => {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    state.keep(data);
                }
                self.connection.wire().heard();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                state.broken_off = Some(error.into());
                state.body = None;
                Poll::Ready(called_off())
            }
            Poll::Ready(None) => Poll::Ready(None),
        }
    }
}

impl<B> State<B> {
    fn keep(&mut self, data: &Bytes) {
        let Some(gone) = &mut self.gone else {
            return;
        };
        let before: usize = gone.iter().map(Bytes::len).sum();
        if before + data.len() <= KEPT {
            gone.push(data.clone());
        } else {
            self.gone = None;
        }
    }
}

impl<B> Body for Lent<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        self.0.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.body.borrow();
        state.body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.0.body.borrow();
        state.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
