//! The body of an answer over HTTP/2. Dropped before its end, it closes its stream.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Incoming, SizeHint};

use super::lent::Unfinished;
use crate::upstream::Interrupted;

pub(in crate::upstream) struct Answer<B> {
    incoming: Incoming,
    /// Until the answer has ended.
    unfinished: Option<Unfinished<B>>,
}

impl<B> Answer<B> {
    pub(super) fn new(incoming: Incoming, unfinished: Unfinished<B>) -> Self {
        let mut answer = Self {
            incoming,
            unfinished: Some(unfinished),
        };
        if answer.incoming.is_end_stream() {
            answer.finish();
        }
        answer
    }

    /// The next piece; `None` at the end. Cancel safe.
    pub(in crate::upstream) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Interrupted>>> {
        loop {
            match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Some(unfinished) = &self.unfinished {
                        unfinished.connection().wire().heard();
                    }
                    if self.incoming.is_end_stream() {
                        self.finish();
                    }
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    } // else trailers: dropped
                }
                Some(Err(error)) => {
                    self.unfinished = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
                // hyper believes a reset that says that all is well, also of an answer that has not ended: RFC 9113,
                // section 8.1, is about those that have.
                None if self.unfinished.is_some() && !self.incoming.is_end_stream() => {
                    self.unfinished = None;
                    return Poll::Ready(Some(Err(Interrupted::Unended)));
                }
                None => {
                    self.finish();
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// Whether all was given.
    pub(in crate::upstream) fn is_over(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(in crate::upstream) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    fn finish(&mut self) {
        if let Some(unfinished) = self.unfinished.take() {
            unfinished.finish();
        }
    }
}
