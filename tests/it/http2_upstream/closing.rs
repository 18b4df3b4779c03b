//! Backends that go: gracefully, or not.

use http::Response;

use super::*;

async fn stream_or_echo(mut call: Call) {
    if call.request.method() == "GET" {
        call.stream().await;
    } else {
        let body = call.body().await;
        let answer = Response::builder().header("x-connection", call.connection);
        call.reply(answer, &String::from_utf8_lossy(&body));
    }
}

#[test]
fn what_is_under_way_at_a_backend_that_stops_goes_on_and_new_requests_go_elsewhere() {
    let server = Server::start(stream_or_echo);
    let pinring = before(&[server.address()], "");
    let mut stream = Client::connect(pinring.address());
    stream.send(request("GET", "", ""));
    stream.head();
    assert_eq!(stream.chunk(), Chunk::Data(b"data: hello\n\n".to_vec()));
    server.leave();
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..5 {
        let answer = Client::once(pinring.address(), "POST", "", "x");
        assert_eq!((answer.status, answer.text().as_str()), (200, "x"));
        assert_eq!(answer.header("x-connection"), Some("2"));
    }
    assert!(stream.is_quiet_for(Duration::from_millis(50)));
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_connection_without_streams_is_closed_after_a_while() {
    let server = Server::echoing();
    let pinring = before(
        &[server.address()],
        "[timeouts]\nupstream_keep_alive = \"300ms\"\n",
    );
    Client::initialize(pinring.address());
    assert_eq!(server.open_connections(), 1);
    eventually("it is closed", || server.open_connections() == 0);
    Client::initialize(pinring.address());
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_connection_with_a_stream_is_not_idle() {
    let server = Server::start(stream_or_echo);
    let pinring = before(
        &[server.address()],
        "[timeouts]\nupstream_keep_alive = \"100ms\"\n",
    );
    let mut stream = Client::connect(pinring.address());
    stream.send(request("GET", "", ""));
    stream.head();
    assert_eq!(stream.chunk(), Chunk::Data(b"data: hello\n\n".to_vec()));
    assert!(stream.is_quiet_for(Duration::from_millis(1500)));
    assert_eq!(Client::once(pinring.address(), "POST", "", "x").text(), "x");
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_backend_that_comes_back_is_found_by_a_new_connection() {
    let server = Server::echoing();
    let address = server.address();
    let pinring = before(&[address], "[timeouts]\nconnect = \"300ms\"\n");
    let id = Client::initialize(pinring.address());
    drop(server);
    eventually("nobody listens", || {
        std::net::TcpStream::connect(address).is_err()
    });
    let answer = Client::in_session(pinring.address(), &id);
    assert_eq!((answer.status, &*answer.reason()), (503, "connect_refused"));
    let _server = Server::start_at(address, h2::server::Builder::new(), stream_or_echo);
    eventually("it is back", || {
        Client::in_session(pinring.address(), &id).status == 200
    });
}
