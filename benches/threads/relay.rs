//! A relay of messages that costs what a proxy's call costs, two reads, two writes and some work of its own: the same code
//! on a runtime for each thread, and on one runtime for all.

use std::{
    cell::RefCell,
    hint::black_box,
    io::{self, BufRead as _},
    mem,
    net::{self, SocketAddr},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{Builder, LocalOptions},
};

use crate::{
    THREADS,
    wire::{self, Head},
};

/// Most bytes that are read at once.
const MOST_READ: usize = 64 * 1024;

/// How a relay uses its threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A single-threaded runtime on each. All accept from one socket, and what one has accepted stays with it.
    Own,
    /// One multi-threaded runtime, whose idle threads take tasks from the others.
    Shared,
}

/// Relays to `backend` until its parent has gone, with so many `rounds` of work for each call. Prints its address, and for
/// each line that it reads how many connections are open: on each thread, where they stay on one.
pub(crate) fn serve(way: Way, backend: SocketAddr, rounds: u32) -> io::Result<()> {
    let listener = net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?);
    let open = match way {
        Way::Own => (0..THREADS)
            .map(|_| own(listener.try_clone()?, backend, rounds))
            .collect::<io::Result<Vec<_>>>()?,
        Way::Shared => vec![shared(listener, backend, rounds)?],
    };
    for line in io::stdin().lock().lines() {
        line?;
        let open = open.iter().map(|open| open.load(Ordering::Relaxed));
        let open: Vec<String> = open.map(|open| open.to_string()).collect();
        println!("{}", open.join("+"));
    }
    Ok(())
}

/// A thread with a runtime, as pinring's are.
fn own(listener: net::TcpListener, backend: SocketAddr, rounds: u32) -> io::Result<Open> {
    let open = Open::default();
    let counted = Arc::clone(&open);
    let runs = async move {
        let site = Site {
            backend,
            rounds,
            pool: OfThread::default(),
        };
        let listener = TcpListener::from_std(listener).expect("a listener");
        let accepting = tokio::task::spawn_local(async move {
            loop {
                let client = accept(&listener).await;
                tokio::task::spawn_local(site.clone().serve(client, Arc::clone(&open)));
            }
        });
        accepting.await.expect("it accepts for ever")
    };
    let _serves = thread::Builder::new().spawn(|| {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        runtime.expect("a runtime").block_on(runs)
    })?;
    Ok(counted)
}

/// One runtime on as many threads.
fn shared(listener: net::TcpListener, backend: SocketAddr, rounds: u32) -> io::Result<Open> {
    let open = Open::default();
    let counted = Arc::clone(&open);
    let site = Site {
        backend,
        rounds,
        pool: OfAll::default(),
    };
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()?;
    runtime.spawn(async move {
        let listener = TcpListener::from_std(listener).expect("a listener");
        loop {
            let client = accept(&listener).await;
            tokio::spawn(site.clone().serve(client, Arc::clone(&open)));
        }
    });
    mem::forget(runtime); // it ends with the process
    Ok(counted)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let (client, _) = listener.accept().await.expect("a connection");
    client.set_nodelay(true).expect("it is TCP");
    client
}

/// How many connections of clients are open.
type Open = Arc<AtomicUsize>;

/// Idle connections to the backend.
trait Pool {
    fn take(&self) -> Option<TcpStream>;
    fn put(&self, idle: TcpStream);
}

#[derive(Debug, Clone, Default)]
struct OfThread(Rc<RefCell<Vec<TcpStream>>>);

impl Pool for OfThread {
    fn take(&self) -> Option<TcpStream> {
        self.0.borrow_mut().pop()
    }

    fn put(&self, idle: TcpStream) {
        self.0.borrow_mut().push(idle);
    }
}

#[derive(Debug, Clone, Default)]
struct OfAll(Arc<Mutex<Vec<TcpStream>>>);

impl Pool for OfAll {
    fn take(&self) -> Option<TcpStream> {
        self.0.lock().expect("nobody panics with it").pop()
    }

    fn put(&self, idle: TcpStream) {
        self.0.lock().expect("nobody panics with it").push(idle);
    }
}

#[derive(Debug, Clone)]
struct Site<P> {
    backend: SocketAddr,
    rounds: u32,
    pool: P,
}

impl<P: Pool> Site<P> {
    async fn serve(self, client: TcpStream, open: Open) {
        open.fetch_add(1, Ordering::Relaxed);
        let _left = self.calls(client).await; // a fault would be seen by the load
        open.fetch_sub(1, Ordering::Relaxed);
    }

    async fn calls(&self, mut client: TcpStream) -> io::Result<()> {
        let mut request = Vec::with_capacity(MOST_READ);
        let mut answer = vec![0; MOST_READ];
        loop {
            request.clear();
            while wire::end_of(&request).is_none() {
                if client.read_buf(&mut request).await? == 0 {
                    return Ok(());
                }
            }
            work(self.rounds);
            let mut backend = match self.pool.take() {
                Some(idle) => idle,
                None => self.connect().await?,
            };
            backend.write_all(&request).await?;
            relay(&mut backend, &mut client, &mut answer).await?;
            self.pool.put(backend);
        }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let backend = TcpStream::connect(self.backend).await?;
        backend.set_nodelay(true)?;
        Ok(backend)
    }
}

/// Writes each piece of an answer on as it comes.
async fn relay(
    backend: &mut TcpStream,
    client: &mut TcpStream,
    piece: &mut [u8],
) -> io::Result<()> {
    let mut left = None;
    while left != Some(0) {
        let read = backend.read(piece).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        client.write_all(&piece[..read]).await?;
        let before = left.unwrap_or_else(|| whole(&piece[..read]));
        left = Some(before - read);
    }
    Ok(())
}

/// How long the answer is that begins with `piece`.
fn whole(piece: &[u8]) -> usize {
    let head = Head::of(piece).expect("the replicas write a head at once");
    head.end + head.length().expect("they say how long it is")
}

/// What stands for a proxy's own work.
pub(crate) fn work(rounds: u32) {
    let mut digest = [0; 32];
    for _ in 0..rounds {
        digest = Sha256::digest(digest).into();
    }
    black_box(digest);
}
