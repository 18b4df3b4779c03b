//! How connections come to threads.

use std::{iter, net::TcpStream};

use crate::support::{Backend, Client, Pinring, eventually, ok, request};

const TWO: &str = "[server]\nlisten = \"127.0.0.1:0\"\nthreads = 2\n";

/// Opens so many connections at once, and gives them with how many of them each thread has.
fn burst(pinring: &Pinring, connections: usize) -> (Vec<TcpStream>, Vec<usize>) {
    let before = pinring.sockets_of_threads();
    let connect = || TcpStream::connect(pinring.address()).unwrap();
    let clients = iter::repeat_with(connect).take(connections).collect();
    let mut shares = Vec::new();
    eventually("all are accepted", || {
        let now = pinring.sockets_of_threads();
        let more = now
            .iter()
            .map(|(poller, open)| open.saturating_sub(before[poller]));
        shares = more.collect();
        shares.iter().sum::<usize>() == connections
    });
    (clients, shares)
}

#[test]
fn connections_that_come_at_once_are_spread_over_the_threads() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], TWO);
    let at_rest = pinring.sockets_of_threads();
    let fullest = |_| {
        let (clients, shares) = burst(&pinring, 8);
        let fullest = shares.into_iter().max().unwrap();
        drop(clients);
        eventually("all have left", || pinring.sockets_of_threads() == at_rest);
        fullest
    };
    // A thread that was interrupted while it looked gets nothing: one burst tells little.
    let of_all: Vec<usize> = (0..20).map(fullest).collect();
    assert!(of_all.iter().sum::<usize>() <= 20 * 6, "{of_all:?}");
}

#[test]
fn a_burst_just_before_the_end_is_served() {
    let backend = Backend::answering(ok("", "a"));
    let mut pinring = Pinring::before(&[&backend], TWO);
    let ask = || {
        let mut client = Client::connect(pinring.address());
        client.send(request("POST", "", "{}"));
        client
    };
    let clients: Vec<Client> = iter::repeat_with(ask).take(64).collect();
    pinring.signal("TERM");
    for mut client in clients {
        assert_eq!(client.answer().status, 200);
    }
    assert!(pinring.wait().success());
}
