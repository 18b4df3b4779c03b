//! Where the backends of a pool are on its rings: built when somebody joins or leaves, and shared by all tables until then.
//!
//! Health and drains come and go more often than backends, and move nobody: with 10,000 backends a new table then takes
//! 1 ms. Where one joins it takes 46 ms, half of it for the sorting (`benches/core.rs`).

use std::sync::Arc;

use super::Standing;
use crate::ring::{Member, Nodes, Ring};

/// The rings of one pool.
#[derive(Debug, Default)]
pub struct Rings {
    members: Vec<(Arc<Nodes>, Standing)>,
    pub(super) lost_nodes: Vec<Arc<Nodes>>,
    /// All that are known: listed, joining, departed. `None`: nobody is.
    pub(super) exact: Option<Arc<Ring>>,
    /// Those on the list past their `join_delay`, draining ones included: where ids without a pin are.
    pub(super) unpinned: Option<Arc<Ring>>,
    /// Those whose time after departure has run out.
    pub(super) lost: Option<Arc<Ring>>,
}

impl Rings {
    /// The rings of `members` from now on, in their order, and of those that were known and are `lost` for good.
    #[must_use]
    pub fn follow(
        self: &Arc<Self>,
        members: Vec<(Arc<Nodes>, Standing)>,
        lost: &[Arc<Nodes>],
    ) -> Arc<Self> {
        let has_same_members = are_same(
            members.iter().map(|(nodes, _)| nodes),
            self.members.iter().map(|(nodes, _)| nodes),
        );
        let standings = members.iter().map(|(_, standing)| standing);
        let has_moved_nobody =
            has_same_members && standings.eq(self.members.iter().map(|(_, standing)| standing));
        let has_same_lost = are_same(lost.iter(), self.lost_nodes.iter());
        if has_moved_nobody && has_same_lost {
            return Arc::clone(self);
        }
        let exact = if has_same_members {
            self.exact.clone()
        } else {
            Ring::try_new(numbered(&members, |_| true)).map(Arc::new)
        };
        let unpinned = if has_moved_nobody {
            self.unpinned.clone()
        } else {
            exact.as_ref().map(|exact| unpinned(exact, &members))
        };
        let gone = if has_same_lost {
            self.lost.clone()
        } else {
            Ring::try_new((0..).zip(lost.iter().map(|nodes| &**nodes))).map(Arc::new)
        };
        Arc::new(Self {
            members,
            lost_nodes: lost.to_vec(),
            exact,
            unpinned,
            lost: gone,
        })
    }
}

fn are_same<'a>(
    one: impl ExactSizeIterator<Item = &'a Arc<Nodes>>,
    other: impl ExactSizeIterator<Item = &'a Arc<Nodes>>,
) -> bool {
    one.len() == other.len() && one.zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}

fn numbered<'a>(
    members: &'a [(Arc<Nodes>, Standing)],
    wanted: impl Fn(Standing) -> bool + 'a,
) -> impl Iterator<Item = (Member, &'a Nodes)> {
    let numbered = (0..).zip(members);
    numbered
        .filter(move |(_, (_, standing))| wanted(*standing))
        .map(|(member, (nodes, _))| (member, &**nodes))
}

fn unpinned(exact: &Arc<Ring>, members: &[(Arc<Nodes>, Standing)]) -> Arc<Ring> {
    let ring_of = |wanted: fn(Standing) -> bool| {
        if members.iter().all(|(_, standing)| wanted(*standing)) {
            Some(Arc::clone(exact))
        } else {
            exact.part(numbered(members, wanted)).map(Arc::new)
        }
    };
    // When the whole list is new, waiting for other proxies would be an outage.
    ring_of(|standing| standing == Standing::Listed)
        .or_else(|| ring_of(|standing| standing != Standing::Departed))
        .unwrap_or_else(|| Arc::clone(exact))
}
