//! Readiness of many sockets, to the nanosecond: timers of asynchronous runtimes are too coarse for a load at a rate.

use std::{net::TcpStream, os::fd::OwnedFd, time::Duration};

use rustix::event::{Timespec, epoll};

/// An epoll of its own.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poller {
    pub(crate) fn new() -> Self {
        Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll"),
            events: Vec::with_capacity(1024),
        }
    }

    /// Watches `source` for what can be read, under `key`.
    pub(crate) fn watch(&self, source: &impl std::os::fd::AsFd, key: usize) {
        let key = epoll::EventData::new_u64(key as u64);
        epoll::add(&self.epoll, source, key, epoll::EventFlags::IN).expect("a socket");
    }

    /// Watches `stream` for room to write too, or no longer.
    pub(crate) fn watch_room(&self, stream: &TcpStream, key: usize, wanted: bool) {
        let key = epoll::EventData::new_u64(key as u64);
        let flags = if wanted {
            epoll::EventFlags::IN | epoll::EventFlags::OUT
        } else {
            epoll::EventFlags::IN
        };
        epoll::modify(&self.epoll, stream, key, flags).expect("a socket");
    }

    /// The keys of what is ready, or none when `timeout` is over.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> Vec<usize> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        self.events.clear();
        let room = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("epoll: {error}"),
        }
        let keys = self.events.iter().map(|event| event.data.u64() as usize);
        keys.collect()
    }
}
