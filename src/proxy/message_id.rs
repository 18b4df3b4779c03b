//! The id of a request's message, which errors of pinring's own repeat where the body has been read.

use super::body::Kept;
use crate::mcp::jsonrpc::Id;

/// Where the id is to be found.
#[derive(Debug)]
pub(super) enum MessageId {
    /// Nobody has looked into the body.
    Unread,
    /// It has been looked into.
    Read(Option<Id>),
    /// In a copy of the body, once that is whole.
    Kept(Kept),
}

impl MessageId {
    /// The id, if it is known by now.
    pub(super) fn known(self) -> Option<Id> {
        match self {
            Self::Unread => None,
            Self::Read(id) => id,
            Self::Kept(kept) => Id::of(&kept.whole()?),
        }
    }
}
