//! Many requests on one connection.

use http::Response;

use super::{server::forever, *};

#[test]
fn a_session_lives_on_one_connection_and_its_head_is_that_of_http2() {
    let server = Server::echoing();
    let pinring = before(&[server.address()], "");
    let id = Client::initialize(pinring.address());
    assert!(id.starts_with("id-"));
    for call in ["one", "two"] {
        let headers =
            format!("Mcp-Session-Id: {id}\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\n");
        let answer = Client::once(pinring.address(), "POST", &headers, call);
        assert_eq!((answer.status, answer.text().as_str()), (200, call));
        assert_eq!(answer.header("mcp-session-id"), Some(&*id));
    }
    assert_eq!(server.connections(), 1);
    let requests = server.requests();
    let last = requests.last().unwrap();
    assert_eq!(last.uri(), "http://pinring.test/mcp");
    assert_eq!(last.headers()["mcp-session-id"], "id");
    for name in ["host", "connection", "x-hop", "transfer-encoding", "te"] {
        assert!(!last.headers().contains_key(name), "{name}");
    }
}

#[test]
fn the_authority_is_rewritten_where_the_pool_says_so() {
    let server = Server::echoing();
    let pinring = before(&[server.address()], "[pool]\nhost = \"rewrite\"\n");
    Client::initialize(pinring.address());
    let authority = server.address().to_string();
    assert_eq!(server.requests()[0].uri().authority().unwrap(), &*authority);
}

#[test]
fn a_body_in_chunks_arrives_whole() {
    let server = Server::echoing();
    let pinring = before(&[server.address()], "");
    let mut client = Client::connect(pinring.address());
    client.send("POST /mcp HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    eventually("the head is there", || !server.requests().is_empty());
    let answer = client.send("6\r\n world\r\n0\r\n\r\n").answer();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "hello world")
    );
    assert!(
        !server.requests()[0]
            .headers()
            .contains_key("content-length")
    );
}

/// Streams for GET, echoes for the others.
async fn stream_or_echo(mut call: Call) {
    if call.request.method() == "GET" {
        call.stream().await;
    } else {
        let body = call.body().await;
        call.reply(Response::builder(), &String::from_utf8_lossy(&body));
    }
}

fn open_stream(pinring: &Pinring) -> Client {
    let mut client = Client::connect(pinring.address());
    client.send(request("GET", "", ""));
    assert!(client.head().starts_with("HTTP/1.1 200"));
    assert_eq!(client.chunk(), Chunk::Data(b"data: hello\n\n".to_vec()));
    client
}

#[test]
fn many_streams_and_calls_share_one_connection() {
    let server = Server::start(stream_or_echo);
    let pinring = before(&[server.address()], "");
    let streams: Vec<Client> = (0..50).map(|_| open_stream(&pinring)).collect();
    for _ in 0..20 {
        assert_eq!(Client::once(pinring.address(), "POST", "", "x").text(), "x");
    }
    assert_eq!((server.connections(), streams.len()), (1, 50));
}

#[test]
fn who_comes_at_once_waits_for_one_connection() {
    let server = Server::start(stream_or_echo);
    let pinring = before(&[server.address()], "");
    let calls: Vec<_> = (0..30)
        .map(|_| {
            let address = pinring.address();
            std::thread::spawn(move || Client::once(address, "POST", "", "x").text())
        })
        .collect();
    assert!(calls.into_iter().all(|call| call.join().unwrap() == "x"));
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_full_connection_gets_a_second_one_beside_it() {
    let mut settings = h2::server::Builder::new();
    settings.max_concurrent_streams(2);
    let server = Server::start_with(settings, stream_or_echo);
    let pinring = before(&[server.address()], "");
    let mut streams: Vec<Client> = (0..4).map(|_| open_stream(&pinring)).collect();
    assert_eq!(server.connections(), 2);
    assert_eq!(Client::once(pinring.address(), "POST", "", "x").text(), "x");
    assert_eq!(server.connections(), 3);
    // A stream that has ended makes room.
    streams.truncate(1);
    eventually("they are closed", || server.resets().len() == 3);
    streams.push(open_stream(&pinring));
    assert_eq!(server.connections(), 3);
}

#[test]
fn who_leaves_ends_his_own_stream_at_once_and_no_other() {
    let server = Server::start(stream_or_echo);
    let pinring = before(&[server.address()], "");
    let (leaving, mut staying) = (open_stream(&pinring), open_stream(&pinring));
    drop(leaving);
    eventually("it is reset", || !server.resets().is_empty());
    assert_eq!(server.resets(), [Some(h2::Reason::CANCEL)]);
    assert!(staying.is_quiet_for(Duration::from_millis(100)));
    assert_eq!(Client::once(pinring.address(), "POST", "", "x").text(), "x");
    assert_eq!(server.connections(), 1);
}

#[test]
fn who_leaves_before_the_answer_has_his_stream_reset() {
    let server = Server::start(|mut call| async move {
        call.until_reset_unanswered().await;
    });
    let pinring = before(&[server.address()], "");
    let mut client = Client::connect(pinring.address());
    client.send(request("POST", "", "{}"));
    eventually("it is there", || server.requests().len() == 1);
    drop(client);
    eventually("it is reset", || !server.resets().is_empty());
    assert_eq!(server.resets(), [Some(h2::Reason::CANCEL)]);
}

#[test]
fn the_short_rest_of_a_legacy_answer_is_read_when_its_client_has_left() {
    let server = Server::start(|mut call| async move {
        let head = Response::builder().header("content-type", "text/event-stream");
        let mut stream = call.begin(head);
        stream.send_data("data: x\n\n".into(), false).unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
        let ended = stream.send_data("data: y\n\n".into(), true).is_ok();
        if !ended {
            call.until_reset(&mut stream).await;
        }
    });
    let pinring = before(&[server.address()], "");
    for _ in 0..20 {
        let mut client = Client::connect(pinring.address());
        client.send(request("POST", "Mcp-Session-Id: x\r\n", "{}"));
        client.head();
        assert_eq!(client.chunk(), Chunk::Data(b"data: x\n\n".to_vec()));
    }
    assert_eq!((server.resets(), server.connections()), (vec![], 1));
}

#[test]
fn a_backend_that_does_not_answer_is_given_up_in_time_and_nothing_else_is() {
    let server = Server::start(|mut call| async move {
        match call.request.method().as_str() {
            "GET" => call.stream().await,
            _ => call.until_reset_unanswered().await,
        }
    });
    let pinring = before(&[server.address()], "[timeouts]\nopen_head = \"300ms\"\n");
    let mut stream = open_stream(&pinring);
    let began = Instant::now();
    let answer = Client::once(pinring.address(), "POST", "", "{}");
    assert_eq!((answer.status, &*answer.reason()), (504, "backend_timeout"));
    assert!(began.elapsed() < Duration::from_secs(3));
    eventually("it is reset", || !server.resets().is_empty());
    assert_eq!(server.resets(), [Some(h2::Reason::CANCEL)]);
    assert!(stream.is_quiet_for(Duration::from_millis(50)));
}

#[test]
fn a_stream_that_ends_ends_as_it_should() {
    let server = Server::start(|mut call| async move {
        let head = Response::builder().header("content-type", "text/event-stream");
        let mut stream = call.begin(head);
        stream.send_data("data: x\n\n".into(), false).unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-trailer", "1".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
        forever().await;
    });
    let pinring = before(&[server.address()], "");
    let answer = Client::once(pinring.address(), "GET", "", "");
    assert!(answer.complete && answer.text() == "data: x\n\n");
    assert!(answer.header("x-trailer").is_none());
}

#[test]
fn a_client_that_leaves_within_its_request_is_seen_as_such() {
    let server = Server::start(|mut call| async move {
        let body = call.body().await;
        if body.len() < 10 {
            call.until_reset_unanswered().await;
        }
    });
    let pinring = before(
        &[server.address()],
        "[timeouts]\nrequest_body_idle = \"300ms\"\n",
    );
    let head = "POST /mcp HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\ncontent-length: 10\r\n\r\nhalf";
    let mut client = Client::connect(pinring.address());
    client.send(head);
    eventually("its head is there", || server.requests().len() == 1);
    drop(client);
    eventually("it is reset", || !server.resets().is_empty());
    let answer = Client::connect(pinring.address()).send(head).answer();
    assert_eq!(
        (answer.status, &*answer.reason()),
        (408, "request_body_timeout")
    );
    eventually("it is reset", || server.resets().len() == 2);
    assert_eq!(server.resets(), [Some(h2::Reason::CANCEL); 2]);
}

#[test]
fn answers_without_a_body_are_whole() {
    let server = Server::start(|call| async move {
        match call.request.method().as_str() {
            "HEAD" => call.reply(Response::builder().header("content-length", "5"), ""),
            "DELETE" => call.reply(Response::builder().status(204), ""),
            _ => call.reply(Response::builder(), ""),
        }
    });
    let pinring = before(&[server.address()], "");
    let mut client = Client::connect(pinring.address());
    for _ in 0..2 {
        client.send(request("HEAD", "", ""));
        let head = client.head();
        assert!(head.contains("200") && head.contains("content-length: 5"));
        let answer = client.call("DELETE", "", "");
        assert_eq!(answer.status, 204);
        let answer = client.call("PUT", "", "{}");
        assert_eq!(
            (answer.status, answer.header("content-length")),
            (200, Some("0"))
        );
    }
    assert_eq!(server.connections(), 1);
}
