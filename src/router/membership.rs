//! Who belongs to each pool, and since when: joining, listed, departed, lost.
//!
//! The memory behind the routing tables. It takes configurations and the time and builds tables; it knows
//! no file and no clock. Design, section 2, "known before used, kept after gone".

mod drain;
mod view;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use self::drain::Drain;
pub use self::{
    drain::{Changed, Lost, Unchanged, WhyLost},
    view::{Shown, View},
};
use crate::{
    backend::{Admission, Backend, BackendId, Name},
    config::{self, Config},
    health::{self, Observation, Patience, Suspect, Vital},
    observe::traffic::Traffic,
    pin::{KeyId, Verified},
    ring::Nodes,
    router::{
        placement::Load,
        table::{Entry, Pool, Rings, RoutingTable, Standing},
    },
};

/// Backends of one pool that are gone for good and still remembered, so that their sessions are *lost*
/// and not *unknown*: 1.3 KiB each.
const LOST_CAPACITY: usize = 1024;

/// A probe's connect, however long requests may take: the clocks of loss run by observations without long gaps.
const LONGEST_PROBE: Duration = Duration::from_secs(3);

/// Who belongs to each pool of this process.
#[derive(Debug, Default)]
pub struct Membership {
    pools: HashMap<String, Members>,
    retired: Vec<KeyId>,
    verified: Verified,
    ids: u64,
    /// Whether the first configuration was taken.
    has_begun: bool,
}

#[derive(Debug, Default)]
struct Members {
    // In the order of the list, the departed behind: a table's member numbers mean nothing else.
    known: Vec<Known>,
    lost: Vec<Arc<Nodes>>,
    /// Of all these.
    rings: Arc<Rings>,
    /// What was asked of the pool and came to none of them.
    traffic: Arc<Traffic>,
    patience: Patience,
}

#[derive(Debug, Clone)]
struct Known {
    id: BackendId,
    backend: Backend,
    nodes: Arc<Nodes>,
    load: Arc<Load>,
    traffic: Arc<Traffic>,
    state: State,
    drain: Drain,
    health: health::State,
    was_lost: bool,
    /// Since when each of its sessions that shows itself is counted and not forgotten again.
    counted_since: Instant,
    /// How it stands, and since when: for operators.
    shown_since: Option<(Shown, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Listed,
    Joining { until: Instant },
    Departed { until: Instant },
}

impl State {
    fn standing(self) -> Standing {
        match self {
            Self::Listed => Standing::Listed,
            Self::Joining { .. } => Standing::Joining,
            Self::Departed { .. } => Standing::Departed,
        }
    }

    fn until(self) -> Option<Instant> {
        match self {
            Self::Listed => None,
            Self::Joining { until } | Self::Departed { until } => Some(until),
        }
    }
}

impl Membership {
    /// Nobody, before the first configuration.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a configuration over that holds from `now` on. `before` is the one that held until now.
    ///
    /// Backends of the first configuration are listed at once, later ones join.
    pub fn update(&mut self, config: &Config, before: Option<&Config>, now: Instant) {
        self.retire(config, before);
        let mut earlier = std::mem::take(&mut self.pools);
        let kept = |pool: &config::Pool| earlier.remove(&pool.name).unwrap_or_default();
        let kept: Vec<Members> = config.pools.iter().map(kept).collect();
        // Which pool will get the requests of one that was removed is not known: its backends depart in all,
        // but for those that were moved to another pool.
        let orphans: Vec<Members> = earlier.into_values().collect();
        let is_listed = |name: &Name| config.pools.iter().any(|pool| lists(pool, name));
        for (pool, mut members) in config.pools.iter().zip(kept) {
            members.adopt(&orphans, |name| lists(pool, name) || !is_listed(name));
            let members = self.updated(members, pool, now);
            self.pools.insert(pool.name.clone(), members);
        }
        self.has_begun = true;
    }

    fn retire(&mut self, config: &Config, before: Option<&Config>) {
        if let Some(before) = before {
            self.retired.extend(before.keys.ids());
        }
        let configured: Vec<KeyId> = config.keys.ids().collect();
        self.retired.retain(|id| !configured.contains(id));
        self.retired.sort_unstable_by_key(|id| id.0);
        self.retired.dedup();
    }

    fn updated(&mut self, members: Members, pool: &config::Pool, now: Instant) -> Members {
        let name = |known: &Known| known.backend.name.clone();
        let places: HashMap<Name, usize> = members.known.iter().map(name).zip(0..).collect();
        let was_lost: HashSet<&Name> = members.lost.iter().map(|nodes| nodes.name()).collect();
        let mut earlier: Vec<Option<Known>> = members.known.into_iter().map(Some).collect();
        let mut known = Vec::with_capacity(pool.backends.len());
        for backend in &pool.backends {
            let place = places.get(&backend.name);
            let earlier = place.and_then(|place| earlier[*place].take());
            let join_delay = backend.join_delay.unwrap_or(pool.join_delay);
            let mut listed = self.listed(backend, earlier, join_delay, now);
            listed.was_lost |= was_lost.contains(&backend.name);
            known.push(listed);
        }
        for known in &known {
            known.load.set_session_idle(pool.session_idle);
        }
        let listed: HashSet<&Name> = pool.backends.iter().map(|backend| &backend.name).collect();
        let mut lost = members.lost;
        lost.retain(|nodes| !listed.contains(nodes.name()));
        for mut gone in earlier.into_iter().flatten() {
            if matches!(gone.drain, Drain::Over { .. }) {
                lost.push(gone.nodes); // as it was before
                continue;
            }
            if !matches!(gone.state, State::Departed { .. }) {
                let end = after(now, pool.departed);
                gone.state = State::Departed { until: end };
            }
            known.push(gone);
        }
        let mut members = Members {
            known,
            lost,
            rings: members.rings,
            traffic: members.traffic,
            patience: pool.patience,
        };
        members.place();
        members
    }

    fn listed(
        &mut self,
        backend: &Backend,
        earlier: Option<Known>,
        join_delay: Duration,
        now: Instant,
    ) -> Known {
        let joining = if self.has_begun && !join_delay.is_zero() {
            State::Joining {
                until: after(now, join_delay),
            }
        } else {
            State::Listed
        };
        match earlier {
            Some(known) => {
                let moved = known.backend.endpoint != backend.endpoint;
                Known {
                    id: if moved { self.next_id() } else { known.id },
                    backend: backend.clone(),
                    counted_since: if moved && known.health.vital() == Vital::Lost {
                        now
                    } else {
                        known.counted_since
                    },
                    health: if moved {
                        health::State::default()
                    } else {
                        known.health
                    },
                    // One that departed and is back joins anew: other proxies may still hold it for departed.
                    state: if matches!(known.state, State::Departed { .. }) {
                        joining
                    } else {
                        known.state
                    },
                    ..known
                }
            }
            None => Known {
                id: self.next_id(),
                backend: backend.clone(),
                nodes: Arc::new(Nodes::of(&backend.name)),
                load: Arc::default(),
                traffic: Arc::default(),
                state: joining,
                drain: Drain::None,
                health: health::State::default(),
                was_lost: false,
                // It may have served before: by other proxies, or by this one before it was removed.
                counted_since: now,
                shown_since: None,
            },
        }
    }

    fn next_id(&mut self) -> BackendId {
        self.ids += 1;
        BackendId(self.ids)
    }

    /// Lets the time come to `now`: who has joined long enough is listed, who departed long ago, or was to be
    /// drained by now, is lost. Tells who was lost.
    pub fn advance(&mut self, now: Instant) -> Vec<Lost> {
        let mut newly_lost = Vec::new();
        for (pool, members) in &mut self.pools {
            for known in &mut members.known {
                if matches!(known.state, State::Joining { until } if until <= now) {
                    known.state = State::Listed;
                }
                known.health.advance(now);
            }
            let over = |known: &mut Known| matches!(known.state, State::Departed { until } if until <= now);
            for gone in members.known.extract_if(.., over) {
                newly_lost.push(Lost {
                    name: gone.backend.name,
                    why: WhyLost::Departed,
                    load: gone.load,
                    pool: pool.clone(),
                });
                members.lost.push(gone.nodes);
            }
            members.end_drains(pool, now, &mut newly_lost);
            let surplus = members.lost.len().saturating_sub(LOST_CAPACITY);
            members.lost.drain(..surplus);
            members.place();
        }
        newly_lost
    }

    /// When [`Membership::advance`] will next change something.
    #[must_use]
    pub fn next_change(&self) -> Option<Instant> {
        let known = self.pools.values().flat_map(|members| &members.known);
        known
            .flat_map(|known| {
                let health = known.health.next_change();
                [known.state.until(), known.drain.until(), health]
            })
            .flatten()
            .min()
    }

    /// Takes what was seen of a backend. Gives its name and health where that changed; the inner `None`
    /// where only something else of its [`Entry`] did.
    pub fn observe(
        &mut self,
        id: BackendId,
        seen: Observation,
        now: Instant,
        random: f64,
    ) -> Option<Option<(Name, Vital)>> {
        let mut changed = None;
        for members in self.pools.values_mut() {
            let patience = members.patience;
            for known in members.known.iter_mut().filter(|known| known.id == id) {
                let shown =
                    |health: &health::State| (health.wants_good_news(), health.down_since());
                let (before, shown_before) = (known.health.vital(), shown(&known.health));
                known.health.observe(seen, now, patience, random);
                let vital = known.health.vital();
                known.was_lost |= vital == Vital::Lost;
                // At its loss its sessions were forgotten, and those that outlived it show themselves anew.
                if (before == Vital::Lost) != (vital == Vital::Lost) {
                    known.counted_since = now;
                }
                if before != vital {
                    changed = Some(Some((known.backend.name.clone(), vital)));
                } else if shown_before != shown(&known.health) {
                    changed.get_or_insert(None);
                }
            }
        }
        changed
    }

    /// What counts the work of a backend at one address, with the name of each pool that knows it.
    pub fn loads(&self, id: BackendId) -> impl Iterator<Item = (&str, &Arc<Load>)> {
        self.pools.iter().flat_map(move |(pool, members)| {
            let known = members.known.iter().filter(move |known| known.id == id);
            known.map(move |known| (pool.as_str(), &known.load))
        })
    }

    /// Who is to be probed.
    #[must_use]
    pub fn suspects(&self, config: &Config) -> Vec<Suspect> {
        let of_pool = |pool: &config::Pool| {
            let known = self
                .pools
                .get(&pool.name)
                .into_iter()
                .flat_map(|members| &members.known);
            let unwell = known.filter(|known| known.health.wants_probe());
            let suspect = |known: &Known| Suspect {
                id: known.id,
                endpoint: known.backend.endpoint.clone(),
                path: pool.probe_path.clone(),
                expected: pool.probe_status.clone(),
                limit: config.timeouts.connect.min(LONGEST_PROBE),
            };
            unwell.map(suspect).collect::<Vec<_>>()
        };
        config.pools.iter().flat_map(of_pool).collect()
    }

    /// The routing table of this moment. `config` is the one of the last [`Membership::update`].
    #[must_use]
    pub fn table(&self, config: &Config) -> RoutingTable {
        let pool = |options: &config::Pool| {
            self.pools
                .get(&options.name)
                .map(|members| members.pool(options))
        };
        let mut pools: Vec<Pool> = config.pools.iter().filter_map(pool).collect();
        // Matched from the front: named hosts before any host, long paths before short ones.
        pools.sort_by_key(|pool| {
            let wanted = &pool.options.matcher;
            (
                wanted.host.is_none(),
                std::cmp::Reverse(wanted.path.as_str().len()),
            )
        });
        RoutingTable {
            pools,
            keys: config.keys.clone(),
            verified: self.verified.clone(),
            retired: self.retired.clone(),
            timeouts: config.timeouts.clone(),
            limits: config.limits.clone(),
            log: config.log.clone(),
            tracing: config.tracing.as_ref().map(|tracing| tracing.sampling),
            trusted_proxies: config.server.trusted_proxies.clone(),
            proxy_protocol: config.server.proxy_protocol,
            health_path: config.server.probes.health_path.clone(),
            allowed_origins: config.server.allowed_origins.clone(),
            cors: config.cors.clone(),
        }
    }
}

impl Members {
    /// Brings its rings up to date.
    fn place(&mut self) {
        let known = self.known.iter();
        let placed = known.map(|known| (Arc::clone(&known.nodes), known.state.standing()));
        self.rings = self.rings.follow(placed.collect(), &self.lost);
    }

    /// Takes in the backends of removed pools that `wanted` says, but those that it has itself.
    fn adopt(&mut self, orphans: &[Self], wanted: impl Fn(&Name) -> bool) {
        for orphan in orphans.iter().flat_map(|members| &members.known) {
            let name = &orphan.backend.name;
            if wanted(name) && !self.known.iter().any(|known| known.backend.name == *name) {
                let traffic = Arc::default(); // each of a pool's own, or sums would count it twice
                self.known.push(Known {
                    traffic,
                    ..orphan.clone()
                });
            }
        }
        for lost in orphans.iter().flat_map(|members| &members.lost) {
            if wanted(lost.name()) && !self.lost.iter().any(|known| known.name() == lost.name()) {
                self.lost.push(Arc::clone(lost));
            }
        }
    }

    fn pool(&self, options: &config::Pool) -> Pool {
        let entry = |known: &Known| Entry {
            id: known.id,
            backend: Backend {
                admission: if known.takes_work() {
                    Admission::Open
                } else {
                    Admission::Draining
                },
                ..known.backend.clone()
            },
            nodes: Arc::clone(&known.nodes),
            load: Arc::clone(&known.load),
            traffic: Arc::clone(&known.traffic),
            standing: known.state.standing(),
            drained: matches!(known.drain, Drain::Over { .. }),
            ends_at: known.ends_at(),
            vital: known.health.vital(),
            was_lost: known.was_lost,
            wants_good_news: known.health.wants_good_news(),
            down_since: known.health.down_since(),
        };
        Pool::new(
            options.clone(),
            self.known.iter().map(entry).collect(),
            Arc::clone(&self.rings),
            Arc::clone(&self.traffic),
        )
    }
}

fn lists(pool: &config::Pool, name: &Name) -> bool {
    pool.backends.iter().any(|backend| backend.name == *name)
}

/// `now` plus `duration`, or a time that never comes.
fn after(now: Instant, duration: Duration) -> Instant {
    const A_CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    now.checked_add(duration).unwrap_or(now + A_CENTURY)
}

#[cfg(test)]
mod tests;
