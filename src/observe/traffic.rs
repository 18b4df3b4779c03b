//! What was asked of one backend, counted over all threads. Each request gets it from the table, with its backend, so
//! that nothing is looked up for it.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use http::StatusCode;

use super::{tally::Word as _, word::Route};

/// What stands for a status where the client left before there was one: nginx's, which dashboards know.
pub const CLIENT_LEFT: u16 = 499;

/// The statuses that are told apart, and no more, for each is a series of every backend and route.
const CODES: [u16; 42] = [
    200,
    201,
    202,
    204,
    206,
    300,
    301,
    302,
    303,
    304,
    307,
    308,
    400,
    401,
    402,
    403,
    404,
    405,
    406,
    408,
    409,
    410,
    411,
    412,
    413,
    414,
    415,
    416,
    417,
    421,
    422,
    426,
    428,
    429,
    431,
    451,
    CLIENT_LEFT,
    500,
    501,
    502,
    503,
    504,
];

/// Where each status is among [`CODES`]. Any other one is the first of its class, and what is of no class a failure
/// of the server (RFC 9110, section 15).
const PLACES: [u8; 600] = {
    let mut places = [0; 600];
    let mut status = 0;
    while status < places.len() {
        let class = if status < 200 {
            500
        } else {
            status / 100 * 100
        };
        let mut place = 0;
        while place < CODES.len() {
            if CODES[place] as usize == class || CODES[place] as usize == status {
                places[status] = place as u8;
            }
            if CODES[place] as usize == status {
                break;
            }
            place += 1;
        }
        status += 1;
    }
    places
};

/// The counters of one backend, or of those requests of a pool or a process that came to none.
///
/// All are relaxed, and shared by all threads: 5 ns each, where two threads do not write them at once.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Made for each route when it is first used: most backends see two or three.
    requests: [OnceLock<Box<Row>>; Route::ALL.len()],
    streams: AtomicU32,
    answers: AtomicU64,
    waited_micros: AtomicU64,
}

/// Requests by the place of their status. On cache lines that nothing else is on.
#[derive(Debug)]
#[repr(align(64))]
struct Row([AtomicU64; CODES.len()]);

impl Default for Row {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Traffic {
    /// Counts a request that was answered so.
    pub fn answered(&self, route: Route, status: StatusCode) {
        self.count(route, status.as_u16());
    }

    /// Counts a request whose client did not wait for an answer.
    pub fn left(&self, route: Route) {
        self.count(route, CLIENT_LEFT);
    }

    fn count(&self, route: Route, status: u16) {
        let row = self.requests[route.number()].get_or_init(Box::default);
        let beyond = PLACES[500]; // as what is of no class
        let place = PLACES.get(usize::from(status)).unwrap_or(&beyond);
        row.0[usize::from(*place)].fetch_add(1, Ordering::Relaxed);
    }

    /// Every combination of route and status that there was, with how often.
    pub fn requests(&self) -> impl Iterator<Item = (Route, u16, u64)> + '_ {
        let rows = Route::ALL.iter().zip(&self.requests);
        let used = rows.filter_map(|(route, row)| Some((*route, row.get()?)));
        let all = used.flat_map(|(route, row)| {
            let counts = CODES.iter().zip(&row.0);
            counts.map(move |(code, count)| (route, *code, count.load(Ordering::Relaxed)))
        });
        all.filter(|(_, _, count)| *count > 0)
    }

    /// The backend began to answer after so many microseconds.
    pub fn began(&self, micros: u64) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.waited_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How often it began to answer.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// For how many microseconds these answers were waited for, all together.
    #[must_use]
    pub fn waited_micros(&self) -> u64 {
        self.waited_micros.load(Ordering::Relaxed)
    }

    /// One more event stream is open.
    pub fn stream_opened(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    /// One less is.
    pub fn stream_ended(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many are.
    #[must_use]
    pub fn streams(&self) -> u32 {
        self.streams.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_is_counted_as_itself_or_as_its_class() {
        for (status, shown) in [
            (200, 200),
            (202, 202),
            (299, 200),
            (399, 300),
            (404, 404),
            (418, 400),
            (499, 499),
            (503, 503),
            (507, 500),
            (599, 500),
            (999, 500),
            (103, 500),
        ] {
            let traffic = Traffic::default();
            traffic.answered(Route::Pinned, StatusCode::from_u16(status).unwrap());
            let counted: Vec<_> = traffic.requests().collect();
            assert_eq!(counted, [(Route::Pinned, shown, 1)], "{status}");
        }
    }

    #[test]
    fn whatever_a_backend_answers_its_series_are_bounded() {
        let traffic = Traffic::default();
        for status in 100..1000 {
            for route in Route::ALL {
                traffic.answered(*route, StatusCode::from_u16(status).unwrap());
            }
        }
        let most = Route::ALL.len() * CODES.len();
        assert_eq!(traffic.requests().count(), most);
        let all: u64 = traffic.requests().map(|(_, _, count)| count).sum();
        assert_eq!(all, 900 * Route::ALL.len() as u64);
    }
}
