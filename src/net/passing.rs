//! Listening sockets on their way from one process to another, over a Unix socket (`SCM_RIGHTS`).
//!
//! Both then accept from one queue, so that closing either's handle resets nobody who waits in it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use rustix::{
    io::retry_on_intr,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};
use socket2::Socket;
use tokio::io::Interest;

use super::{
    Bound,
    unix::{Blocking, Stream},
};

/// Most sockets of one message. The kernel takes 253 (`SCM_MAX_FD`).
const MOST: usize = 128;

/// Descriptors travel beside bytes, and there must be one.
const BYTE: &[u8] = b"\n";

const ROOM: usize = rustix::cmsg_space!(ScmRights(MOST));

/// Sends handles of `sockets`; the sender keeps its own.
///
/// # Errors
///
/// When there are too many, or the other end has gone.
pub async fn send(stream: &Stream, sockets: &[Bound]) -> io::Result<()> {
    let stream = stream.inner();
    let handles: Vec<BorrowedFd<'_>> = sockets.iter().map(|socket| socket.0.as_fd()).collect();
    let sent = stream.async_io(Interest::WRITABLE, || {
        let mut room = [MaybeUninit::uninit(); ROOM];
        let mut message = SendAncillaryBuffer::new(&mut room);
        if !message.push(SendAncillaryMessage::ScmRights(&handles)) {
            let many = format!("only {MOST} sockets can be passed");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, many));
        }
        let bytes = [IoSlice::new(BYTE)];
        Ok(sendmsg(
            stream.as_fd(),
            &bytes,
            &mut message,
            SendFlags::NOSIGNAL,
        )?)
    });
    sent.await.map(drop)
}

/// Receives what [`send`] sent. Blocks.
///
/// # Errors
///
/// When the other end has gone, or what came are no listening sockets.
pub fn receive(stream: &Blocking) -> io::Result<Vec<Bound>> {
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut message = RecvAncillaryBuffer::new(&mut room);
    let mut byte = [0; BYTE.len()];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = retry_on_intr(|| recvmsg(stream, &mut bytes, &mut message, flags))?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut handles: Vec<OwnedFd> = Vec::new();
    for part in message.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = part {
            handles.extend(some);
        }
    }
    let sockets = handles.into_iter().map(Socket::from);
    sockets.map(Bound::listening).collect()
}
