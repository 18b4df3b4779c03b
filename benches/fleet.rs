//! A fleet: 10^8 sessions, 1,000 proxies that know nothing of each other, 10,000 backends. How even it is, who moves when
//! backends come and go, and what a proxy needs of memory.
//!
//! ```sh
//! cargo bench --bench fleet     # a minute or two on two cores; prints the table that the README has
//! ```
//!
//! Sessions are placed by the proxies' own code, every one of them. A proxy's placements depend on what it has placed
//! itself and on chance, so proxies are gone through one after the other. Pinned sessions are checked without drawing any:
//! each is at one of its backend's 160 virtual nodes, and all of these are looked up.

use std::{fs, path::Path, sync::Arc, thread, time::Instant};

use pinring::{
    backend::{Name, Weight},
    config::{Config, Overrides, source::Source},
    ring::{Coordinate, Member, Nodes, Ring, hash},
    router::{
        membership::Membership,
        placement::{Candidate, Candidates, Load},
    },
    sessions::Sessions,
};

const SESSIONS: usize = 100_000_000;
const PROXIES: usize = 1_000;
const BACKENDS: usize = 10_000;

/// Backends after a scale-out.
const MORE: usize = 11_000;

/// Every twentieth is lost.
const LOST: usize = 20;

/// Keys of which it is looked up to whom they belong: enough to tell shares to a hundredth of a percent.
const KEYS: u64 = 10_000_000;

fn main() {
    let begin = Instant::now();
    let memory = Memory::measure();
    println!("| {SESSIONS} sessions, {PROXIES} proxies, {BACKENDS} backends | |");
    println!("|---|---|");
    balance();
    rings();
    memory.print();
    eprintln!("after {:.0} s", begin.elapsed().as_secs_f64());
}

fn balance() {
    let [placed, renewed] = placed();
    let sessions = "sessions of a backend over the mean:";
    row(
        &format!("{sessions} each proxy takes the lighter of two by its own count"),
        &evenness(&placed),
    );
    row(
        &format!("{sessions} after as many have ended by chance and others begun"),
        &evenness(&renewed),
    );
    row(
        &format!("{sessions} did every proxy know all"),
        &evenness(&all_knowing()),
    );
    row(
        &format!("{sessions} by chance alone"),
        &evenness(&by_chance()),
    );
}

/// How many sessions each backend has when all are placed, and when as many have ended and been replaced.
fn placed() -> [Vec<u32>; 2] {
    let threads = thread::available_parallelism().map_or(1, Into::into);
    let mut sums = [vec![0; BACKENDS], vec![0; BACKENDS]];
    thread::scope(|scope| {
        let part = |thread: usize| move || (thread..PROXIES).step_by(threads).map(proxy);
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mut sums = [vec![0; BACKENDS], vec![0; BACKENDS]];
                    part(thread)().for_each(|counts| add(&mut sums, &counts));
                    sums
                })
            })
            .collect();
        for worker in workers {
            add(&mut sums, &worker.join().expect("it does not panic"));
        }
    });
    sums
}

fn add(sums: &mut [Vec<u32>; 2], counts: &[Vec<u32>; 2]) {
    for (sums, counts) in sums.iter_mut().zip(counts) {
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
    }
}

/// What one proxy has placed, and what it has when each of its sessions has ended once.
fn proxy(number: usize) -> [Vec<u32>; 2] {
    let (candidates, loads) = backends();
    let mut random = fastrand::Rng::with_seed(number as u64);
    let mut place = || {
        let member = candidates.two_choices(random.u64(..), &[], None);
        let member = member.expect("all take new work");
        loads[member as usize].session_begins();
        member
    };
    let mut sessions: Vec<Member> = (0..SESSIONS / PROXIES).map(|_| place()).collect();
    let placed = counts(&loads);
    let mut random = fastrand::Rng::with_seed(!number as u64);
    for _ in 0..sessions.len() {
        let session = &mut sessions[random.usize(..SESSIONS / PROXIES)];
        loads[*session as usize].session_ends();
        *session = place();
    }
    [placed, counts(&loads)]
}

fn backends() -> (Candidates, Vec<Arc<Load>>) {
    let loads: Vec<Arc<Load>> = (0..BACKENDS).map(|_| Arc::default()).collect();
    let candidate = |(member, load): (Member, &Arc<Load>)| Candidate {
        member,
        weight: Weight::default(),
        load: Arc::clone(load),
    };
    ((0..).zip(&loads).map(candidate).collect(), loads)
}

fn counts(loads: &[Arc<Load>]) -> Vec<u32> {
    loads.iter().map(|load| load.sessions()).collect()
}

fn all_knowing() -> Vec<u32> {
    let (candidates, loads) = backends();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..SESSIONS {
        let member = candidates.two_choices(random.u64(..), &[], None);
        loads[member.expect("all take new work") as usize].session_begins();
    }
    counts(&loads)
}

fn by_chance() -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut counts = vec![0; BACKENDS];
    for _ in 0..SESSIONS {
        counts[random.usize(..BACKENDS)] += 1;
    }
    counts
}

fn rings() {
    let nodes: Vec<Nodes> = (0..MORE).map(|number| Nodes::of(&name(number))).collect();
    let members: Vec<(Member, &Nodes)> = (0..).zip(&nodes).collect();
    let ring_of = |members: &[(Member, &Nodes)]| Ring::try_new(members.iter().copied());
    let ring = ring_of(&members[..BACKENDS]).expect("there are some");
    let more = ring_of(&members).expect("there are more");
    let is_lost = |member: Member| (member as usize).is_multiple_of(LOST);
    let kept = members[..BACKENDS].iter().copied();
    let left = ring.part(kept.filter(|(member, _)| !is_lost(*member)));
    let left = left.expect("some are left");

    let keys = "keys of a backend over the mean (affinity by key, ids without a pin)";
    row(keys, &evenness(&owned(&ring)));
    let grown = format!("{BACKENDS} → {MORE} backends");
    let moved = homeless(&ring, &more, &nodes[..BACKENDS], |_| true);
    row(
        &format!("{grown}: pinned sessions that move"),
        &moved.to_string(),
    );
    let (moved, astray) = moves(&ring, &more, |_, to| to as usize >= BACKENDS);
    let ideal = percent(MORE - BACKENDS, MORE);
    row(
        &format!("{grown}: keys that move (ideal: {ideal}), of them to an old backend"),
        &format!("{moved}, {astray}"),
    );
    let lost = format!("5 % of {BACKENDS} backends are lost");
    let moved = homeless(&ring, &left, &nodes[..BACKENDS], |member| !is_lost(member));
    row(
        &format!("{lost}: pinned sessions of the others that move or are lost"),
        &moved.to_string(),
    );
    let gone: Vec<Coordinate> = (0..)
        .zip(&nodes[..BACKENDS])
        .filter(|(member, _)| is_lost(*member))
        .flat_map(|(_, of)| *of.points())
        .collect();
    let taken = gone.iter().filter(|place| left.exact(**place).is_some());
    row(
        &format!("{lost}: their sessions that reach a backend that does not know them"),
        &taken.count().to_string(),
    );
    let (moved, astray) = moves(&ring, &left, |from, _| is_lost(from));
    row(
        &format!("{lost}: keys that move (ideal: 5.00 %), of them from others"),
        &format!("{moved}, {astray}"),
    );
    row(
        &format!("{lost}: keys of a backend over the mean then"),
        &evenness(&without_lost(owned(&left))),
    );
}

fn without_lost(mut owned: Vec<u32>) -> Vec<u32> {
    owned.retain(|keys| *keys > 0);
    owned
}

/// How many of the virtual nodes that pins name are another's, or nobody's, on the ring `after`.
fn homeless(
    before: &Ring,
    after: &Ring,
    nodes: &[Nodes],
    counts: impl Fn(Member) -> bool,
) -> usize {
    let members = (0..).zip(nodes).filter(|(member, _)| counts(*member));
    let places = members.flat_map(|(member, of)| of.points().map(|place| (member, place)));
    let pinned = places.filter(|(member, place)| before.exact(*place) == Some(*member));
    pinned
        .filter(|(member, place)| after.exact(*place) != Some(*member))
        .count()
}

/// How many keys have another owner on the ring `after`, and how many of these do not move as is `right`.
fn moves(before: &Ring, after: &Ring, right: impl Fn(Member, Member) -> bool) -> (String, usize) {
    let (mut moved, mut astray) = (0, 0);
    for place in keys() {
        let (from, to) = (before.successor(place), after.successor(place));
        if from != to {
            moved += 1;
            astray += usize::from(!right(from, to));
        }
    }
    (percent(moved, KEYS as usize), astray)
}

fn owned(ring: &Ring) -> Vec<u32> {
    let mut owned = vec![0; BACKENDS];
    for place in keys() {
        owned[ring.successor(place) as usize] += 1;
    }
    owned
}

fn keys() -> impl Iterator<Item = Coordinate> {
    (0..KEYS).map(|key| hash::position(&key.to_be_bytes()))
}

/// The resident memory of this process before and after what a proxy has in it.
struct Memory {
    backends: usize,
    sessions: usize,
}

impl Memory {
    fn measure() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let before = resident();
        let config = configuration(folder.path());
        let mut membership = Membership::new();
        membership.update(&config, None, Instant::now());
        let table = membership.table(&config);
        let between = resident();
        let (sessions, load) = (Sessions::new(), Arc::new(Load::default()));
        for session in 0..SESSIONS / PROXIES {
            drop(sessions.visit(&session.to_be_bytes(), &load));
        }
        let after = resident();
        drop((config, membership, table, sessions));
        Self {
            backends: between - before,
            sessions: after - between,
        }
    }

    fn print(&self) {
        let mib = |bytes: usize| bytes as f64 / (1 << 20) as f64;
        let [backends, sessions] = [mib(self.backends), mib(self.sessions)];
        let each = self.backends as f64 / BACKENDS as f64 / 1024.0;
        row(
            "memory of a proxy: rings, table and configuration",
            &format!("{backends:.1} MiB, {each:.1} KiB for each"),
        );
        let each = self.sessions / (SESSIONS / PROXIES);
        row(
            &format!(
                "memory of a proxy: counts of {} live sessions",
                SESSIONS / PROXIES
            ),
            &format!("{sessions:.1} MiB, {each} bytes for each"),
        );
    }
}

fn configuration(folder: &Path) -> Config {
    let file = folder.join("pinring.toml");
    let backend = |number| format!("[[backends]]\nurl = \"http://{}\"\n", name(number));
    let text: String = (0..BACKENDS).map(backend).collect();
    fs::write(&file, text).expect("the folder is ours");
    let source = Source {
        file: Some(file),
        overrides: Overrides::default(),
    };
    source.load().expect("it has no fault")
}

fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kib.expect("a number") * 1024
}

fn name(number: usize) -> Name {
    let text = format!(
        "10.{}.{}.{}:8080",
        number >> 16,
        number >> 8 & 255,
        number & 255
    );
    Name::try_new(&text).expect("visible ASCII")
}

fn evenness(counts: &[u32]) -> String {
    let mut counts = counts.to_vec();
    counts.sort_unstable();
    let mean = counts.iter().map(|count| f64::from(*count)).sum::<f64>() / counts.len() as f64;
    let at = |part: f64| f64::from(counts[((counts.len() - 1) as f64 * part) as usize]) / mean;
    let [most, p99, least] = [1.0, 0.99, 0.0].map(at);
    format!("at most {most:.3}, p99 {p99:.3}, at least {least:.3}")
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.2} %", part as f64 / whole as f64 * 100.0)
}

fn row(what: &str, figure: &str) {
    println!("| {what} | {figure} |");
}
