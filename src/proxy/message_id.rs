//! The id of a request's message, which errors of pinring's own repeat where the body has been read.

use super::body::Kept;
use crate::mcp::jsonrpc::Id;

/// Where the id is to be found.
#[derive(Debug)]
pub(super) enum MessageId {
    /// The body has been looked into.
    Read(Id),
    /// In a copy of the body, once that is whole.
    Kept(Kept),
}

impl MessageId {
    /// Whether the body is kept so that its session can go on elsewhere.
    pub(super) fn is_kept(&self) -> bool {
        matches!(self, Self::Kept(_))
    }

    /// The id, if it is known by now.
    pub(super) fn known(self) -> Option<Id> {
        match self {
            Self::Read(id) => Some(id),
            Self::Kept(kept) => Id::of(&kept.whole()?),
        }
    }
}
