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
        for (number, point) in (0_u32..).zip(points.iter_mut()) {
            *point = hash::virtual_node(name, number);
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

/// Which member of a ring: the index that its builder gave it.
pub type Member = u32;

/// Sorted virtual nodes of at least one backend.
#[derive(Clone)]
pub struct Ring {
    // Two arrays, so that a search touches positions only: 8 instead of 16 bytes a step.
    points: Box<[u64]>,
    owners: Box<[Member]>,
}

impl Ring {
    /// Builds the ring of `members`; `None` if there are none. Where two of them own one point, the
    /// bytewise smaller name has it.
    #[must_use]
    pub fn try_new<'a>(members: impl IntoIterator<Item = (Member, &'a Nodes)>) -> Option<Self> {
        let mut nodes: Vec<(Coordinate, &Name, Member)> = Vec::new();
        for (member, of) in members {
            nodes.extend(of.points.iter().map(|point| (*point, &of.name, member)));
        }
        nodes.sort_unstable();
        nodes.dedup_by_key(|(point, _, _)| *point);
        (!nodes.is_empty()).then(|| Self {
            points: nodes.iter().map(|(point, _, _)| point.0).collect(),
            owners: nodes.iter().map(|(_, _, member)| *member).collect(),
        })
    }

    /// The owner of exactly this position, if any member has a virtual node there.
    #[must_use]
    pub fn exact(&self, coordinate: Coordinate) -> Option<Member> {
        let index = self.points.binary_search(&coordinate.0).ok()?;
        Some(self.owners[index])
    }

    /// The owner of the first virtual node at or after `position`; the ring wraps.
    #[must_use]
    pub fn successor(&self, position: Coordinate) -> Member {
        self.owners[self.index_at_or_after(position)]
    }

    /// The owners of all virtual nodes from `position` on, once around: members come up repeatedly.
    pub fn walk(&self, position: Coordinate) -> impl Iterator<Item = Member> + '_ {
        let (before, after) = self.owners.split_at(self.index_at_or_after(position));
        after.iter().chain(before).copied()
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
        let mut previous = self.points[self.points.len() - 1];
        for (point, owner) in self.points.iter().zip(&self.owners) {
            // The one point of a ring of a single point owns everything; the arc is then 0, not 2^64.
            let arc = point.wrapping_sub(previous);
            if let Some(share) = shares.get_mut(*owner as usize) {
                *share += arc as f64 / 2_f64.powi(64);
            }
            previous = *point;
        }
        shares
    }

    fn index_at_or_after(&self, position: Coordinate) -> usize {
        let index = self.points.partition_point(|point| *point < position.0);
        if index == self.points.len() { 0 } else { index }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("points", &self.points.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
