//! Judges what reaches a backend by who has sent it, and what it was.

use std::time::Duration;

use super::{
    history::{Asked, At, History, Manner},
    oracle::{self, Case},
    renewals::{Known, Replay},
    settings::{OnLoss, Settings},
    world::World,
};

/// Between two moments at which a backend may have been lost: one that was, was so for longer.
const LOOKED_AT: Duration = Duration::from_millis(20);

/// What has reached a backend.
pub enum Arrival {
    /// What a client has asked for.
    Request,
    /// An `initialize` that a proxy repeats, and its place among the replays.
    Replay(usize),
    /// What follows it.
    Initialized,
}

/// Takes note of a request at backend `own`, which was sent there with the session id `got`.
pub fn reached(world: &World, own: usize, number: u64, got: Option<&str>) -> Arrival {
    world.note(format_args!("b{own} gets {number}"));
    let now = world.now();
    let mut history = world.history_mut();
    let Some(asked) = history.requests.get(&number) else {
        drop(history);
        world.wrong(format_args!("request {number} at b{own} was never sent"));
        return Arrival::Request;
    };
    let case = Case::new(&world.settings, &history, asked, now);
    let look = Look {
        own,
        number,
        now,
        settings: &world.settings,
        history: &history,
        asked,
        case,
    };
    let initialized = got.and_then(|got| look.initialized(got));
    let (arrival, wrong) = match (&asked.session, got, initialized) {
        (Some(_), Some(_), Some(replay)) => (Arrival::Initialized, {
            let replay = &mut history.renewals.replays[replay];
            replay.initialized = Some(now);
            None
        }),
        (Some(_), None, _) if world.settings.on_loss == OnLoss::Reinitialize => {
            let wrong = look.replay().err();
            let (of, led_by) = (asked.known(), number);
            let replays = &mut history.renewals.replays;
            replays.push(Replay {
                of,
                backend: own,
                led_by,
                at: now,
                id: String::new(),
                initialized: None,
                settled: None,
            });
            (Arrival::Replay(replays.len() - 1), wrong)
        }
        (_, _, _) => {
            let wrong = look.request(got).err();
            note(&mut history, world, own, number, got);
            (Arrival::Request, wrong)
        }
    };
    drop(history);
    if let Some(wrong) = wrong {
        world.wrong(format_args!("b{own} gets {number}: {wrong}"));
    }
    arrival
}

fn note(history: &mut History, world: &World, own: usize, number: u64, got: Option<&str>) {
    let now = world.now();
    let History {
        requests, renewals, ..
    } = history;
    if let Some(asked) = requests.get_mut(&number) {
        asked.reached.push((own, got.map(str::to_owned)));
        asked.not_found = false;
    }
    let replay = got.and_then(|got| renewals.find(got));
    if let Some(replay) = replay {
        let replay = &mut renewals.replays[replay];
        if replay.settled.is_none() {
            replay.settled = Some(now);
            world.count("a session brought back");
        }
    }
}

/// All that the judgement takes.
struct Look<'a> {
    own: usize,
    number: u64,
    now: At,
    settings: &'a Settings,
    history: &'a History,
    asked: &'a Asked,
    case: Case<'a>,
}

type Judged = Result<(), String>;

impl Look<'_> {
    /// Which handshake this ends, if it must.
    fn initialized(&self, got: &str) -> Option<usize> {
        let renewals = &self.history.renewals;
        let index = renewals.find(got)?;
        let replay = &renewals.replays[index];
        (replay.led_by == self.number && replay.initialized.is_none()).then_some(index)
    }

    /// What a client has asked for.
    fn request(&self, got: Option<&str>) -> Judged {
        let (own, asked) = (self.own, self.asked);
        let again = match &*asked.reached {
            [] => true,
            // Only who knows nothing of the session has done nothing.
            [_] => {
                self.settings.on_loss == OnLoss::Reinitialize
                    && asked.not_found
                    && got != asked.reached_as()
            }
            [..] => false,
        };
        claim(again, || format!("it has reached {:?}", asked.reached))?;
        claim(asked.manner != Manner::Forged, || {
            "its pin is forged".to_owned()
        })?;
        let run = self.history.run(asked.proxy, asked.run);
        claim(!run.drains.surely_over(own, asked.at, self.now), || {
            "its drain is over".to_owned()
        })?;
        match (&asked.session, got) {
            (Some((id, _)), Some(got)) if id == got => self.at_issuer(id),
            (Some(_), Some(got)) => self.moved(got),
            (None, None) => self.new_work(),
            (Some((id, _)), None) => Err(format!("without its session {id}")),
            (None, Some(got)) => Err(format!("with a session {got}")),
        }
    }

    fn new_work(&self) -> Judged {
        let run = self.history.run(self.asked.proxy, self.asked.run);
        let open = run
            .possible(self.asked.at, self.now)
            .any(|list| list.is_open(self.own));
        let drained = run.drains.surely_refuse(self.own, self.asked.at, self.now);
        claim(open && !drained, || {
            "new work, and it takes none".to_owned()
        })
    }

    /// A request with the id that its client has.
    fn at_issuer(&self, id: &str) -> Judged {
        let issuer = oracle::issuer(id);
        let moved = self.settings.on_loss == OnLoss::Successor
            && issuer.is_some_and(|issuer| self.lost(issuer));
        claim(issuer == Some(self.own) || moved, || {
            format!("the session {id} of another")
        })?;
        let (renewals, known) = (&self.history.renewals, self.asked.known());
        // Whoever ended it has made its proxy forget all of it.
        let stale =
            renewals.is_stale(&known, id, self.asked.at) && !renewals.may_be_ended.contains(&known);
        claim(!stale, || format!("the session {id}, which has moved"))
    }

    /// It was sent on its way at some time since it was asked: what goes into a cut link arrives long after, and by then
    /// who was lost may be back.
    fn lost(&self, backend: usize) -> bool {
        let now = self.case.at();
        let since = std::iter::successors(Some(self.asked.at), |at| Some(*at + LOOKED_AT));
        let mut times = since.take_while(|at| *at < now).chain([now]);
        times.any(|at| Case::new(self.settings, self.history, self.asked, at).may_be_lost(backend))
    }

    /// A request with an id that a repeated handshake gave.
    fn moved(&self, got: &str) -> Judged {
        let renewals = &self.history.renewals;
        let replay = renewals.find(got).map(|index| &renewals.replays[index]);
        let right = replay.is_some_and(|replay| {
            replay.of == self.asked.known()
                && replay.backend == self.own
                && replay.initialized.is_some()
        });
        claim(right, || format!("with {got}, of {replay:?}"))?;
        let stale = renewals.is_stale(&self.asked.known(), got, self.asked.at);
        claim(!stale, || format!("with {got}, which has moved on"))
    }

    /// A handshake that is repeated.
    fn replay(&self) -> Judged {
        let (asked, renewals) = (self.asked, &self.history.renewals);
        let known = asked.known();
        self.new_work()?;
        claim(asked.manner != Manner::Forged, || {
            "a handshake for a forged pin".to_owned()
        })?;
        claim(asked.may_be_repeated(), || {
            format!("a handshake for a {}", asked.method)
        })?;
        claim(renewals.is_recorded(&known), || {
            "a handshake that was never seen there".to_owned()
        })?;
        let ended = renewals
            .ended
            .get(&known)
            .is_some_and(|ended| *ended <= asked.at);
        claim(!ended, || {
            format!("a handshake for {}, which was ended", known.2)
        })?;
        let gone = |(backend, id): (usize, &str)| {
            let forgotten: Known = (known.0, known.1, id.to_owned());
            self.lost(backend) || renewals.forgotten.contains(&forgotten)
        };
        let places = renewals.current(&known);
        claim(places.iter().copied().any(gone), || {
            format!("a handshake for {}, which is at {places:?}", known.2)
        })?;
        let under_way = renewals.of(&known).find(|replay| self.is_under_way(replay));
        claim(under_way.is_none(), || {
            format!("a second handshake beside {under_way:?}")
        })
    }

    /// Whether another request waits for this handshake, and nothing has disturbed it.
    fn is_under_way(&self, replay: &Replay) -> bool {
        let leader = &self.history.requests[&replay.led_by];
        let disturbed = self.case.was_disturbed(replay.backend, replay.at);
        replay.led_by != self.number
            && replay.settled.is_none()
            && leader.over.is_none()
            && !disturbed
    }
}

fn claim(holds: bool, otherwise: impl FnOnce() -> String) -> Judged {
    if holds { Ok(()) } else { Err(otherwise()) }
}
