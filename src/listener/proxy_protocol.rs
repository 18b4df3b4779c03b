//! The header of the PROXY protocol, by which a balancer that speaks no HTTP tells whose connection it passes on.
//!
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>, versions 1 and 2. It comes before everything else,
//! TLS too. Nothing behind it is read, and nothing is guessed: where it is switched on, every connection begins with
//! one. Whose header is believed, and how long it may take, is the caller's business.

use std::{io, net::SocketAddr};

use hyper_util::rt::TokioIo;
use proxy_header::{ParseConfig, Protocol, ProxiedAddress, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::net::Stream;

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";
/// What stands before the addresses of version 2: the signature, version and command, family, length.
const FIXED: usize = 16;
/// The longest line of version 1 (section 2.1).
const LONGEST_LINE: usize = 107;
/// Addresses and extensions of version 2. Cloud balancers add some tens of bytes, HAProxy a client's certificate.
const MOST_BYTES: usize = 4096;

/// Why a connection has no usable header.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// It ended, as those of balancers do that only look whether somebody listens.
    #[error("it ended before its header")]
    Ended(#[source] io::Error),
    #[error(
        "it does not begin with a header of the PROXY protocol: switch that on at the balancer, or server.proxy_protocol off"
    )]
    Missing,
    #[error("its header of the PROXY protocol has {0} bytes; at most {MOST_BYTES} are read")]
    TooLong(usize),
    #[error("its header of the PROXY protocol is malformed")]
    Malformed,
}

/// Reads the header, and gives the client's address; `None` where the balancer names none, as for connections of its
/// own. Not cancel safe: what was read is lost.
///
/// # Errors
///
/// When there is no such header. The connection is of no use then.
pub(super) async fn read(stream: &mut Stream) -> Result<Option<SocketAddr>, Unreadable> {
    client(TokioIo::new(stream)).await
}

async fn client(mut stream: impl AsyncRead + Unpin) -> Result<Option<SocketAddr>, Unreadable> {
    // Each version's shortest header is longer than the other one's beginning.
    let mut header = vec![0; SIGNATURE.len()];
    read_exact(&mut stream, &mut header).await?;
    if header == SIGNATURE {
        read_to(&mut stream, &mut header, FIXED).await?;
        let length = header
            .last_chunk()
            .map_or(0, |bytes| u16::from_be_bytes(*bytes));
        let length = usize::from(length);
        if length > MOST_BYTES {
            return Err(Unreadable::TooLong(length));
        }
        read_to(&mut stream, &mut header, FIXED + length).await?;
    } else if header.starts_with(WORD) {
        while !header.ends_with(b"\n") {
            if header.len() == LONGEST_LINE {
                return Err(Unreadable::Malformed);
            }
            let next = header.len() + 1;
            read_to(&mut stream, &mut header, next).await?;
        }
    } else {
        return Err(Unreadable::Missing);
    }
    let (parsed, length) = ProxyHeader::parse(&header, ParseConfig::default())
        .map_err(|_malformed| Unreadable::Malformed)?;
    if length != header.len() {
        return Err(Unreadable::Malformed);
    }
    // Of other than TCP nothing is known that would help, and HAProxy does the same.
    Ok(match parsed.proxied_address() {
        Some(ProxiedAddress {
            protocol: Protocol::Stream,
            source,
            ..
        }) => Some(*source),
        Some(_) | None => None,
    })
}

async fn read_to(
    stream: &mut (impl AsyncRead + Unpin),
    header: &mut Vec<u8>,
    length: usize,
) -> Result<(), Unreadable> {
    let begun = header.len();
    header.resize(length, 0);
    match header.get_mut(begun..) {
        Some(rest) => read_exact(stream, rest).await,
        None => Ok(()),
    }
}

async fn read_exact(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut [u8],
) -> Result<(), Unreadable> {
    let read = stream.read_exact(bytes).await;
    read.map(drop).map_err(Unreadable::Ended)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is made of a connection with these bytes, and what it leaves unread.
    fn read(bytes: &[u8]) -> (Result<Option<SocketAddr>, Unreadable>, Vec<u8>) {
        let mut stream = bytes;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let read = runtime.block_on(client(&mut stream));
        (read, stream.to_vec())
    }

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

    fn v6() -> Vec<u8> {
        let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        let ports = [0x12, 0x34, 0, 80];
        [&address("2001:db8::1")[..], &address("fd00::1"), &ports].concat()
    }

    #[test]
    fn the_client_is_who_the_balancer_names() {
        let extended = [&V4[..], &[0xea, 0, 3, 1, b'v', b'p']].concat();
        for (header, expected) in [
            (version_2(0x21, 0x11, &V4), "192.0.2.1:4660"),
            (version_2(0x21, 0x11, &extended), "192.0.2.1:4660"),
            (version_2(0x21, 0x21, &v6()), "[2001:db8::1]:4660"),
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n".to_vec(),
                "192.0.2.1:4660",
            ),
            (
                b"PROXY TCP6 2001:db8::1 fd00::1 4660 80\r\n".to_vec(),
                "[2001:db8::1]:4660",
            ),
        ] {
            let (client, left) = read(&[&header[..], b"GET / HTTP/1.1\r\n"].concat());
            assert_eq!(
                client.unwrap(),
                Some(expected.parse().unwrap()),
                "{header:?}"
            );
            assert_eq!(left, b"GET / HTTP/1.1\r\n");
        }
    }

    #[test]
    fn a_balancer_may_name_nobody() {
        for header in [
            version_2(0x20, 0x00, b""),
            version_2(0x20, 0x11, &V4), // of itself: what it names is not to be used
            version_2(0x21, 0x00, b""),
            version_2(0x21, 0x00, b"anything"),
            version_2(0x21, 0x31, &[0; 216]),
            version_2(0x21, 0x12, &V4),
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(),
        ] {
            let (client, left) = read(&[&header[..], b"rest"].concat());
            assert_eq!(client.unwrap(), None, "{header:?}");
            assert_eq!(left, b"rest");
        }
    }

    #[test]
    fn whatever_is_no_header_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        for (bytes, expected) in [
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "does not begin"),
            (
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00".to_vec(),
                "does not begin",
            ),
            (version_2(0x31, 0x11, &V4), "malformed"), // version 3
            (version_2(0x22, 0x11, &V4), "malformed"), // no such command
            (version_2(0x21, 0x41, &V4), "malformed"), // no such family
            (version_2(0x21, 0x11, &V4[..11]), "malformed"),
            (version_2(0x21, 0x21, &V4), "malformed"),
            (version_2(0x21, 0x11, &[0; 4097]), "4097 bytes"),
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.1 4660\r\n".to_vec(),
                "malformed",
            ),
            (
                b"PROXY TCP4 192.0.2.256 10.0.0.1 4660 80\r\n".to_vec(),
                "malformed",
            ),
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\nx".to_vec(),
                "malformed",
            ),
            (
                b"PROXY TCP4 2001:db8::1 fd00::1 1 80\r\n".to_vec(),
                "malformed",
            ),
            (long.into_bytes(), "malformed"),
            (version_2(0x21, 0x11, &V4)[..20].to_vec(), "ended"),
            (b"PROXY TCP4 192".to_vec(), "ended"),
            (b"".to_vec(), "ended"),
        ] {
            let told = read(&bytes).0.unwrap_err().to_string();
            assert!(told.contains(expected), "{bytes:?}: {told}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            rest in prop::collection::vec(any::<u8>(), 0..300),
            line in "[ -~\r\n]{0,120}",
        ) {
            let _client = read(&rest);
            let _client = read(&[SIGNATURE, &rest[..]].concat());
            let _client = read(&[WORD, line.as_bytes()].concat());
        }
    }
}
