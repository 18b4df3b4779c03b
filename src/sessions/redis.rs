//! The session store at a Redis or Valkey server, shared by several proxies.
//!
//! Each session is one hash, `pinring:1:session:KEY`, that lives for a day after the session's last use: the
//! path of its handshake, the digest of the handshake's body, and where it moved to. Bodies have keys of their
//! own, for nearly all are equal: a session costs 273 bytes, and 371 when it has moved (measured at Redis 7.0). A lease is a key that expires. Every change is one script.
//!
//! There is one connection for the process. No request waits for the server for longer than [`PATIENCE`], and as
//! soon as it was away once, none waits at all until it is back. Before the first attempt to connect has ended, requests
//! wait for that: those that come at a restart.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError,
    aio::MultiplexedConnection,
};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::HeaderValue;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, watch};

use super::{
    lock,
    store::{Away, Found, Handshake, Key},
};
use crate::{
    net::{self, Instant},
    ring::Coordinate,
    router::Moved,
};

/// The longest that anybody waits for the server.
const PATIENCE: Duration = Duration::from_millis(500);

/// Between two looks whether it is there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Between two warnings that it refuses something.
const WARN_AGAIN: Duration = Duration::from_secs(60);

/// Seconds that a session lives after its last use. A multiple of how seldom that is told.
const LIFE: u32 = 24 * 3600;

/// Seconds that the body of a handshake lives after the last use of one of its sessions.
const BODY_LIFE: u32 = 2 * LIFE;

/// Milliseconds after which a proxy that repeats a handshake counts as dead: more than it may take.
const LEASE: u32 = 30_000;

const RECORD: &str = "redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[5]) \
    redis.call('DEL', KEYS[1]) \
    redis.call('HSET', KEYS[1], 'path', ARGV[1], 'body', ARGV[3]) \
    return redis.call('EXPIRE', KEYS[1], ARGV[4])";

const FIND: &str = "local found = redis.call('HMGET', KEYS[1], 'path', 'body', 'place', 'session') \
    if found[2] then found[2] = redis.call('GET', ARGV[1] .. found[2]) end \
    return found";

const PROLONG: &str = "local body = redis.call('HGET', KEYS[1], 'body') \
    if not body then return 0 end \
    redis.call('EXPIRE', ARGV[1] .. body, ARGV[3]) \
    return redis.call('EXPIRE', KEYS[1], ARGV[2])";

const MOVED: &str = "if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end \
    redis.call('DEL', KEYS[2]) \
    if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end \
    redis.call('HSET', KEYS[1], 'place', ARGV[2], 'session', ARGV[3]) \
    return redis.call('EXPIRE', KEYS[1], ARGV[4])";

const RELEASE: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
    return redis.call('DEL', KEYS[1])";

const BODIES: &str = "pinring:1:initialize:";

fn session_key(key: &Key) -> String {
    format!("pinring:1:session:{}", HEXLOWER.encode(key.as_bytes()))
}

fn lease_key(key: &Key) -> String {
    format!("pinring:1:lease:{}", HEXLOWER.encode(key.as_bytes()))
}

/// Whose a lease is.
#[derive(Debug)]
pub(super) struct Token(String);

/// The store at one server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Redis(Arc<Line>);

struct Line {
    client: Client,
    // Held for a clone, never across an await.
    state: Mutex<State>,
    /// Whether the first attempt to connect has ended.
    tried: watch::Sender<bool>,
    /// Notified when the connection is of no use any more.
    broken: Notify,
    /// When a refusal, such as that it is full, was last told.
    warned: Mutex<Option<Instant>>,
}

enum State {
    There(MultiplexedConnection),
    AwaySince(Instant),
}

impl Redis {
    pub(super) fn new(url: &str) -> Self {
        Self(Arc::new(Line {
            client: Client::open(url).expect("the configuration's check has parsed it"),
            state: Mutex::new(State::AwaySince(net::now())),
            tried: watch::Sender::new(false),
            broken: Notify::new(),
            warned: Mutex::new(None),
        }))
    }

    /// Connects, and connects again, for ever.
    pub(super) async fn keep(&self) {
        let mut said: Option<bool> = None;
        loop {
            let error = self.serve(&mut said).await;
            self.set_away();
            self.0.tried.send_replace(true);
            if said != Some(false) {
                said = Some(false);
                tracing::error!(
                    %error,
                    "the session store is away: sessions of lost backends are not found until it is back"
                );
            }
            net::sleep(LOOK_AGAIN).await;
        }
    }

    /// Connects and looks after the connection until it breaks. Gives the reason.
    async fn serve(&self, said: &mut Option<bool>) -> RedisError {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let client = &self.0.client;
        let connected = client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = match connected.await {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        loop {
            let pong: Result<(), RedisError> =
                ::redis::cmd("PING").query_async(&mut connection).await;
            if let Err(error) = pong {
                return error;
            }
            if *said != Some(true) {
                tracing::info!(again = said.is_some(), "the session store is there");
                *said = Some(true);
            }
            self.set_there(&connection);
            self.0.tried.send_replace(true);
            // Who found it broken wants to know at once.
            let _broken = net::within(LOOK_AGAIN, self.0.broken.notified()).await;
        }
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Away> {
        if !*self.0.tried.borrow() {
            let mut tried = self.0.tried.subscribe();
            let _in_time = net::within(PATIENCE, tried.wait_for(|tried| *tried)).await;
        }
        let mut connection = match &*lock(&self.0.state) {
            State::There(connection) => connection.clone(),
            State::AwaySince(since) => return Err(Away::Unreachable(*since)),
        };
        let answer = command.query_async(&mut connection).await;
        answer.map_err(|error| self.failed(&error))
    }

    /// Whether the last that was heard of the server was good.
    pub(super) fn is_there(&self) -> bool {
        matches!(*lock(&self.0.state), State::There(_))
    }

    fn set_there(&self, connection: &MultiplexedConnection) {
        let mut state = lock(&self.0.state);
        if let State::AwaySince(_) = *state {
            *state = State::There(connection.clone());
        }
    }

    /// Gives since when it is.
    fn set_away(&self) -> Instant {
        let mut state = lock(&self.0.state);
        if let State::AwaySince(since) = *state {
            return since;
        }
        let now = net::now();
        *state = State::AwaySince(now);
        now
    }

    fn failed(&self, error: &RedisError) -> Away {
        if error.kind() == ErrorKind::Io {
            let since = self.set_away();
            self.0.broken.notify_one();
            return Away::Unreachable(since);
        }
        let (mut warned, now) = (lock(&self.0.warned), net::now());
        if warned.is_none_or(|last| now.saturating_duration_since(last) >= WARN_AGAIN) {
            *warned = Some(now);
            tracing::warn!(%error, "the session store refuses");
        }
        Away::Refuses
    }

    /// Says what need not arrive: while the server is away, its records die of age, and so do leases.
    async fn tell(&self, command: &Cmd) {
        let _away = self.ask::<i64>(command).await;
    }

    pub(super) async fn record(&self, key: &Key, handshake: &Handshake) {
        let digest = HEXLOWER.encode(&Sha256::digest(&handshake.body));
        let mut command = script(RECORD, &[session_key(key), format!("{BODIES}{digest}")]);
        command
            .arg(&handshake.path)
            .arg(&*handshake.body)
            .arg(digest)
            .arg(LIFE)
            .arg(BODY_LIFE);
        self.tell(&command).await;
    }

    pub(super) async fn find(&self, key: &Key) -> Result<Found, Away> {
        type Row = (
            Option<String>,
            Option<Vec<u8>>,
            Option<String>,
            Option<Vec<u8>>,
        );
        let mut command = script(FIND, &[session_key(key)]);
        command.arg(BODIES);
        let (path, body, place, session): Row = self.ask(&command).await?;
        let handshake = path.zip(body).map(|(path, body)| Handshake {
            path,
            body: Bytes::from(body),
        });
        let moved = place
            .zip(session)
            .and_then(|(place, session)| read_moved(&place, &session));
        Ok(Found {
            handshake: handshake.map(Arc::new),
            moved: moved.map(Arc::new),
        })
    }

    pub(super) async fn prolong(&self, key: &Key) {
        let mut command = script(PROLONG, &[session_key(key)]);
        command.arg(BODIES).arg(LIFE).arg(BODY_LIFE);
        self.tell(&command).await;
    }

    pub(super) async fn lease(&self, key: &Key) -> Result<Option<Token>, Away> {
        let token = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let mut command = ::redis::cmd("SET");
        command
            .arg(lease_key(key))
            .arg(&token)
            .arg("NX")
            .arg("PX")
            .arg(LEASE);
        let given: Option<String> = self.ask(&command).await?;
        Ok(given.map(|_ok| Token(token)))
    }

    /// Gives the lease back with the place that the session moved to; `false` if the lease was another's, or the
    /// session is no longer there.
    pub(super) async fn moved(
        &self,
        key: &Key,
        token: &Token,
        moved: &Moved,
    ) -> Result<bool, Away> {
        let mut command = script(MOVED, &[session_key(key), lease_key(key)]);
        command
            .arg(&token.0)
            .arg(moved.coordinate.to_string())
            .arg(moved.session.as_bytes())
            .arg(LIFE);
        self.ask::<i64>(&command).await.map(|held| held == 1)
    }

    pub(super) async fn release(&self, key: &Key, token: &Token) {
        let mut command = script(RELEASE, &[lease_key(key)]);
        command.arg(&token.0);
        self.tell(&command).await;
    }

    pub(super) async fn remove(&self, key: &Key) {
        let mut command = ::redis::cmd("DEL");
        command.arg(session_key(key));
        self.tell(&command).await;
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive() // the client's URL may hold a password
    }
}

fn script(text: &str, keys: &[String]) -> Cmd {
    let mut command = ::redis::cmd("EVAL");
    command.arg(text).arg(keys.len()).arg(keys);
    command
}

/// `None` for what no pinring wrote.
fn read_moved(place: &str, session: &[u8]) -> Option<Moved> {
    Some(Moved {
        coordinate: Coordinate(u64::from_str_radix(place, 16).ok()?),
        session: HeaderValue::from_bytes(session).ok()?.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests;
