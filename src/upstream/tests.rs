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
use tokio::task::{LocalSet, yield_now};

use super::*;
use crate::{backend::Url, net::Ticker};

const KEEP_ALIVE: Duration = Duration::from_secs(60);

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
    };
    let request = Request::builder().header("host", "a");
    let mut request = Some(request.body(Full::default()).unwrap());
    let deadline = Ticker::new().deadline();
    let head = (&deadline, Duration::from_secs(5));
    let answer = client.send(target, &mut request, &options, head).await;
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
        let pooled = loop {
            match client.pool.checkout(BackendId(1)) {
                Some(pooled) => break pooled,
                None => yield_now().await,
            }
        };
        client.pool.give_back(BackendId(1), pooled, KEEP_ALIVE);
        ask_for_more.send(()).unwrap();
        is_sent.recv().unwrap(); // the runtime does not learn of it meanwhile
        assert_eq!(ask(&client, &endpoint).await, "two");
    };
    LocalSet::new().run_until(test).await;
    backend.join().unwrap();
}

#[test]
fn an_answer_that_says_too_much_of_its_body_leaves_its_connection_in_doubt() {
    let in_doubt = |status: u16, headers: &[(&str, &str)], of_head| {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        is_in_doubt(&answer.body(()).unwrap(), of_head)
    };
    let (length, none) = (("content-length", "5"), ("content-length", "0"));
    let coded = ("transfer-encoding", "chunked");
    assert!(!in_doubt(200, &[length], false) && !in_doubt(200, &[coded], false));
    assert!(in_doubt(200, &[length, coded], false));
    for (status, of_head) in [(200, true), (204, false), (304, false)] {
        assert!(in_doubt(status, &[length], of_head), "{status}");
        assert!(in_doubt(status, &[coded], of_head), "{status}");
        assert!(!in_doubt(status, &[none], of_head), "{status}");
        assert!(!in_doubt(status, &[], of_head), "{status}");
    }
    let old = Response::builder().version(Version::HTTP_10);
    assert!(is_in_doubt(&old.body(()).unwrap(), false));
}
