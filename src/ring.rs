//! The consistent-hash ring: sorted virtual nodes, from a coordinate or a key to the backend that owns it.
//!
//! A ring is built once for each routing table and never changes. It knows no health, no weight and
//! no clock; who is asked after is the caller's choice ([`Ring::walk`]). The result does not depend
//! on the order in which members are given. Contract (design: "names and virtual nodes"): every pin
//! that a client holds is a position on this ring.

pub mod hash;

use std::fmt;

use crate::backend::Name;

/// Virtual nodes of every backend, whatever its weight: a change of weight must not orphan pins.
pub const VIRTUAL_NODES: usize = 160;

/// The exact position of one virtual node: a 64-bit number on the ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coordinate(pub u64);

impl fmt::Display for Coordinate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Coordinate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The virtual nodes of one backend, in the order of their numbers. Derived from its name alone.
#[derive(Clone)]
pub struct Nodes {
    name: Name,
    points: Box<[Coordinate; VIRTUAL_NODES]>,
}

impl Nodes {
    /// Computes the virtual nodes of the backend called `name`.
    #[must_use]
    pub fn of(name: &Name) -> Self {
        let mut points = Box::new([Coordinate(0); VIRTUAL_NODES]);
        for (point, position) in points.iter_mut().zip(hash::virtual_nodes(name)) {
            *point = position;
        }
        Self {
            name: name.clone(),
            points,
        }
    }

    /// The backend whose nodes these are.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    fn each(&self, member: Member) -> impl Iterator<Item = (u64, Member)> + '_ {
        self.points.iter().map(move |point| (point.0, member))
    }

    /// All positions, by number.
    #[must_use]
    pub fn points(&self) -> &[Coordinate; VIRTUAL_NODES] {
        &self.points
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Nodes").field(&self.name).finish()
    }
}

/// A part of a ring has 2^PART to twice as many virtual nodes: one or two cache lines. With one or two nodes in each, the
/// index is no longer in a core's own cache: then a lookup takes 350 ns.
const PART: u32 = 3;

/// Which member of a ring: the index that its builder gave it.
pub type Member = u32;

/// Sorted virtual nodes of at least one backend, with an index by their highest bits.
///
/// Positions are hashes, and so spread evenly: a lookup goes to its part of the ring and looks at the few nodes there.
/// With 10,000 backends it takes 55 ns, of which one waits for memory, where a binary search took 400.
#[derive(Clone)]
pub struct Ring {
    /// In the order of the ring. The highest `bits` bits of a position are the number of its part, which leaves their room
    /// to the member: 8 bytes are all that a virtual node takes.
    nodes: Box<[u64]>,
    /// Where each of the 2^`bits` parts begins, and the end of the last.
    starts: Box<[u32]>,
    bits: u32,
    /// Whether two of the members had a virtual node at one position.
    had_equals: bool,
}

impl Ring {
    /// Builds the ring of `members`; `None` if there are none. Where two of them own one point, the
    /// bytewise smaller name has it. Members are to be numbered from 0 on, with few gaps: memory grows with the largest.
    #[must_use]
    pub fn try_new<'a>(members: impl IntoIterator<Item = (Member, &'a Nodes)>) -> Option<Self> {
        let members: Vec<(Member, &Nodes)> = members.into_iter().collect();
        let largest = members.iter().map(|(member, _)| *member).max()?;
        let each = || members.iter().flat_map(|(member, of)| of.each(*member));
        let ring = Self::sorted(members.len() * VIRTUAL_NODES, largest, each);
        if ring.is_strictly_sorted() {
            return Some(ring);
        }
        let mut named: Vec<(u64, &Name, Member)> = members
            .iter()
            .flat_map(|(member, of)| {
                of.each(*member)
                    .map(|(point, _)| (point, &of.name, *member))
            })
            .collect();
        named.sort_unstable();
        named.dedup_by_key(|(point, _, _)| *point);
        let each = || named.iter().map(|(point, _, member)| (*point, *member));
        Some(Self {
            had_equals: true,
            ..Self::sorted(named.len(), largest, each)
        })
    }

    /// The ring of `some` of the members that this one was built of: what [`Ring::try_new`] makes of them, in a fraction
    /// of its time.
    #[must_use]
    pub fn part<'a>(&self, some: impl IntoIterator<Item = (Member, &'a Nodes)>) -> Option<Self> {
        let some: Vec<(Member, &Nodes)> = some.into_iter().collect();
        // Who shares a position with another is not on this ring with it. And a small part wants a small index.
        if self.had_equals || some.len() * VIRTUAL_NODES * 2 < self.nodes.len() {
            return Self::try_new(some);
        }
        let mut is_kept = vec![false; 1 << self.bits];
        for (member, _) in &some {
            is_kept[*member as usize] = true;
        }
        let mut nodes = Vec::with_capacity(some.len() * VIRTUAL_NODES);
        let mut starts = Vec::with_capacity(self.starts.len());
        starts.push(0);
        for part in 0..self.starts.len() - 1 {
            let kept = self.nodes_of(part).iter().copied();
            nodes.extend(kept.filter(|node| is_kept[self.member(*node) as usize]));
            starts.push(nodes.len() as u32);
        }
        Some(Self {
            nodes: nodes.into(),
            starts: starts.into(),
            ..*self
        })
    }

    /// Sorts `count` positions, each with its member: by their parts, as a counting sort does, then within each.
    fn sorted<I: Iterator<Item = (u64, Member)>>(
        count: usize,
        largest: Member,
        each: impl Fn() -> I,
    ) -> Self {
        let for_members = u32::BITS - largest.leading_zeros();
        let bits = (count.ilog2().saturating_sub(PART)).max(for_members).max(1);
        let part_of = |point: u64| (point >> (u64::BITS - bits)) as usize;
        let mut starts = vec![0_u32; (1 << bits) + 1];
        for (point, _) in each() {
            starts[part_of(point) + 1] += 1;
        }
        let mut begin = 0;
        for start in &mut starts[1..] {
            begin += std::mem::replace(start, begin);
        }
        // Each is the beginning of the part before its own until that is filled: then it is the end.
        let mut nodes = vec![0; count];
        for (point, member) in each() {
            let next = &mut starts[part_of(point) + 1];
            nodes[*next as usize] = point << bits | u64::from(member);
            *next += 1;
        }
        for part in starts.windows(2) {
            nodes[part[0] as usize..part[1] as usize].sort_unstable();
        }
        Self {
            nodes: nodes.into(),
            starts: starts.into(),
            bits,
            had_equals: false,
        }
    }

    fn is_strictly_sorted(&self) -> bool {
        let mut parts = (0..self.starts.len() - 1).map(|part| self.nodes_of(part));
        parts.all(|nodes| nodes.is_sorted_by(|one, next| one >> self.bits < next >> self.bits))
    }

    /// The owner of exactly this position, if any member has a virtual node there.
    #[must_use]
    pub fn exact(&self, coordinate: Coordinate) -> Option<Member> {
        let at = |node: &&u64| **node >> self.bits == coordinate.0 << self.bits >> self.bits;
        let node = self.nodes_of(self.part_of(coordinate)).iter().find(at)?;
        Some(self.member(*node))
    }

    /// The owner of the first virtual node at or after `position`; the ring wraps.
    #[must_use]
    pub fn successor(&self, position: Coordinate) -> Member {
        self.member(self.nodes[self.index_at_or_after(position)])
    }

    /// The owners of all virtual nodes from `position` on, once around: members come up repeatedly.
    pub fn walk(&self, position: Coordinate) -> impl Iterator<Item = Member> + '_ {
        let (before, after) = self.nodes.split_at(self.index_at_or_after(position));
        after.iter().chain(before).map(|node| self.member(*node))
    }

    /// What it takes of memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.nodes) + size_of_val(&*self.starts)
    }

    /// The coordinate that a string made by `nodes`' backend, which is `member` here, is pinned to: its
    /// virtual node number (hash of the string) mod 160, or the next that no other backend shadows.
    #[must_use]
    pub fn coordinate_for(&self, member: Member, nodes: &Nodes, string: &[u8]) -> Coordinate {
        let number = (hash::position(string).0 % VIRTUAL_NODES as u64) as usize;
        let (before, after) = nodes.points.split_at(number);
        let mut own = after.iter().chain(before).copied();
        own.find(|point| self.exact(*point) == Some(member))
            .unwrap_or(nodes.points[number])
    }

    /// The share of all positions that each of `members` members owns, from 0 to 1.
    #[must_use]
    pub fn shares(&self, members: usize) -> Vec<f64> {
        let mut shares = vec![0.0; members];
        let mut add = |owner: Member, arc: u64| {
            if let Some(share) = shares.get_mut(owner as usize) {
                *share += arc as f64 / 2_f64.powi(64);
            }
        };
        let mut previous = 0;
        for (point, owner) in self.iter() {
            add(owner, point.0 - previous);
            previous = point.0;
        }
        add(self.member(self.nodes[0]), previous.wrapping_neg());
        shares
    }

    /// All virtual nodes with their owners, from position 0 on.
    fn iter(&self) -> impl Iterator<Item = (Coordinate, Member)> + '_ {
        (0..self.starts.len() - 1).flat_map(move |part| {
            let high = (part as u64) << (u64::BITS - self.bits);
            let nodes = self.nodes_of(part).iter();
            nodes.map(move |node| (Coordinate(high | node >> self.bits), self.member(*node)))
        })
    }

    fn index_at_or_after(&self, position: Coordinate) -> usize {
        let part = self.part_of(position);
        // Of nodes of one part, the one at the position is the first that is no less, whoever its member.
        let before = |node: &u64| *node < position.0 << self.bits;
        let nodes = self.nodes_of(part);
        let within = nodes.iter().take_while(|node| before(node)).count();
        let index = self.starts[part] as usize + within;
        if index == self.nodes.len() { 0 } else { index }
    }

    fn part_of(&self, position: Coordinate) -> usize {
        (position.0 >> (u64::BITS - self.bits)) as usize
    }

    fn nodes_of(&self, part: usize) -> &[u64] {
        &self.nodes[self.starts[part] as usize..self.starts[part + 1] as usize]
    }

    fn member(&self, node: u64) -> Member {
        (node & ((1 << self.bits) - 1)) as Member
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("nodes", &self.nodes.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
