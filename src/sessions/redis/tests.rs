use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use super::*;

/// A server that says OK to everything, and its URL.
fn agreeable() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut read) {
            // Each command is an array, and no argument here has a star.
            for _command in read[..length].iter().filter(|byte| **byte == b'*') {
                stream.write_all(b"+OK\r\n").unwrap();
            }
        }
    });
    url
}

#[tokio::test]
async fn who_asks_before_the_first_connection_waits_for_it() {
    let redis = Redis::new(&agreeable());
    let key = Key::of(b"one");
    tokio::select! {
        biased;
        leased = redis.lease(&key) => assert!(leased.unwrap().is_some()),
        () = redis.keep() => unreachable!("it is kept for ever"),
    }
}

#[tokio::test]
async fn who_asks_before_the_first_connection_waits_no_longer_than_for_an_answer() {
    let redis = Redis::new(&agreeable());
    let began = net::now();
    let asked = redis.lease(&Key::of(b"one")).await; // nobody connects
    assert!(matches!(asked, Err(Away::Unreachable(since)) if since <= began));
    let waited = net::now().saturating_duration_since(began);
    assert!(waited >= PATIENCE, "{waited:?}");
}
