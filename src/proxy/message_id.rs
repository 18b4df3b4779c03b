//! The id of a request's message, which errors of pinring's own repeat where the body has been read.

use super::body::Kept;
use crate::mcp::{jsonrpc::Id, splice};

/// Where the id is to be found.
#[derive(Debug)]
pub(super) enum MessageId {
    /// The body has been looked into.
    Read(Id),
    /// In a body that has been looked into, and lies in the buffer of its connection.
    Within(splice::Request),
    /// In a copy of the body, once that is whole, of a request that may open a session.
    Opens(Kept),
    /// The same of one whose session goes on, whatever becomes of the request.
    Continues(Kept),
}

impl MessageId {
    /// Whether the request's session goes on without it.
    pub(super) fn goes_on(&self) -> bool {
        matches!(self, Self::Continues(_))
    }

    /// The id, if it is known by now.
    pub(super) fn known(self) -> Option<Id> {
        match self {
            Self::Read(id) => Some(id),
            Self::Within(request) => Id::try_new(request.id()?),
            Self::Opens(kept) | Self::Continues(kept) => Id::of(&kept.whole()?),
        }
    }
}
