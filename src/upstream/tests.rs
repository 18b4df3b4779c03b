#![allow(
    clippy::unwrap_used,
    reason = "what the tests are built from panics too"
)]

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::mpsc,
};

use http_body_util::{BodyExt as _, Full};
use tokio::task::LocalSet;

use super::*;
use crate::{backend::Url, net::Ticker};

const KEEP_ALIVE: Duration = Duration::from_secs(60);

impl Replay for Full<Bytes> {
    fn put_back(&mut self, read: Bytes) {
        *self = Self::new(read);
    }
}

async fn ask(client: &Client<Full<Bytes>>, endpoint: &Endpoint) -> Bytes {
    let target = Target {
        id: BackendId(1),
        endpoint,
    };
    let options = Options {
        connect: Duration::from_secs(5),
        keep_alive: KEEP_ALIVE,
        liveness: Liveness::default(),
        header_bytes: 4096,
        headers: 10,
        pings: None,
    };
    let request = Request::builder().header("host", "a");
    let mut request = Some(request.body(Full::default()).unwrap());
    let deadline = Ticker::new().deadline();
    let head = (&deadline, Duration::from_secs(5));
    let answer = client.send(target, &mut request, || options, head).await;
    answer
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes()
}

fn answer(stream: &mut TcpStream, body: &str) {
    let asked = stream.read(&mut [0; 1024]).unwrap();
    assert!(asked > 0);
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{body}").unwrap();
}

#[tokio::test]
async fn bytes_that_came_before_a_request_are_not_its_answer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (ask_for_more, asked_for_more) = mpsc::channel();
    let (say_sent, is_sent) = mpsc::channel();
    let backend = std::thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        answer(&mut first, "one");
        asked_for_more.recv().unwrap();
        first
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad")
            .unwrap();
        say_sent.send(()).unwrap();
        let (mut second, _) = listener.accept().unwrap();
        answer(&mut second, "two");
    });
    let test = async {
        let url: Url = url.parse().unwrap();
        let (client, endpoint) = (Client::new(Names::default(), Open::default()), url.endpoint);
        assert_eq!(ask(&client, &endpoint).await, "one");
        ask_for_more.send(()).unwrap();
        is_sent.recv().unwrap();
        net::sleep(Duration::from_millis(1)).await; // the runtime looks at its sockets
        assert_eq!(ask(&client, &endpoint).await, "two");
    };
    LocalSet::new().run_until(test).await;
    backend.join().unwrap();
}

/// The server's half of a connection with HTTP/2, by hand: it reads the request, and answers it.
fn answer_in_http2(stream: &mut TcpStream, body: &str) {
    let head =
        |length: usize, kind: u8, flags: u8, id: u8| [0, 0, length as u8, kind, flags, 0, 0, 0, id];
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).unwrap();
    stream.write_all(&head(0, 4, 0, 0)).unwrap();
    loop {
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).unwrap();
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).unwrap();
        if frame[3] == 1 {
            break; // the head of the request
        }
    }
    stream.write_all(&head(1, 1, 4, 1)).unwrap();
    stream.write_all(&[0x88]).unwrap(); // 200
    stream.write_all(&head(body.len(), 0, 1, 1)).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
}

#[tokio::test]
async fn a_request_is_not_lost_on_an_idle_connection_whose_end_was_not_read_yet() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (ask_to_close, asked_to_close) = mpsc::channel();
    let (say_closed, is_closed) = mpsc::channel();
    let backend = std::thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        answer_in_http2(&mut first, "one");
        asked_to_close.recv().unwrap();
        drop(first);
        say_closed.send(()).unwrap();
        let (mut second, _) = listener.accept().unwrap();
        answer_in_http2(&mut second, "two");
    });
    let test = async {
        let url: Url = url.parse().unwrap();
        let endpoint = Endpoint {
            http2: true,
            ..url.endpoint
        };
        let client = Client::new(Names::default(), Open::default());
        assert_eq!(ask(&client, &endpoint).await, "one");
        ask_to_close.send(()).unwrap();
        is_closed.recv().unwrap(); // the runtime does not learn of it meanwhile
        assert_eq!(ask(&client, &endpoint).await, "two");
    };
    LocalSet::new().run_until(test).await;
    backend.join().unwrap();
}
