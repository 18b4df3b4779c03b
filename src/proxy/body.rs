//! Bodies on their way through: streams with a deadline, a count and a guard. Collected are only short ones that are
//! looked into.
//!
//! A frame leaves the moment it arrives, and nothing is read that the other side does not take: hyper
//! asks for the next frame only when there is room. Trailers stop here.

mod carriers;
mod endpoint;
mod event_stream;
mod held;
mod kept;
mod pieces;
mod request;
mod response;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, SizeHint};

pub use self::{
    carriers::{Carriers, Mint},
    endpoint::Endpoint,
    event_stream::{Ending, EventStream, Silence},
    held::{Bodies, Budget, Held},
    kept::Kept,
    pieces::Pieces,
    request::{Collected, Passing, RequestBody, RequestBodyError},
    response::{Answer, BrokenOff, Departure, Merged, Relay, Work},
};
use crate::net;

/// What is read of a request's body that nobody wants, so that its client reads the answer.
const DISCARD_BYTES: usize = 256 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// Reads the rest of a body in a task of its own and drops it, within limits: a client that is still
/// sending would get a reset instead of the answer that says why. Beyond them hyper closes the connection.
pub fn discard<B: Body<Data = Bytes> + Unpin + 'static>(body: B) {
    if !body.is_end_stream() {
        tokio::task::spawn_local(read_on(body, DISCARD_BYTES, DISCARD_TIME));
    }
}

/// Reads `body` to its end, for at most `time` and `bytes`. Dropping it unread ends its connection.
async fn read_on<B: Body<Data = Bytes> + Unpin>(mut body: B, mut bytes: usize, time: Duration) {
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            bytes = match bytes.checked_sub(length) {
                Some(left) => left,
                None => return,
            };
        }
    };
    // Out of time, the rest is given up as well.
    let _in_time = net::within(time, read).await;
}

/// The length of what has `more` bytes before it.
fn longer(rest: &SizeHint, more: usize) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(rest.lower() + more as u64);
    if let Some(upper) = rest.upper() {
        hint.set_upper(upper + more as u64);
    }
    hint
}
