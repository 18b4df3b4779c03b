//! The places of a message that can hold a carrier.

use super::Carrier;

/// Who sent the text: the places differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Answer,
}

/// What a value that is looked for is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// Of requests only: a string or a number.
    Id,
    Carrier(Carrier),
}

/// An object or an array that may hold a carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Message,
    Params,
    Result,
    /// Of `subscriptions/listen` and `notifications/subscriptions/acknowledged`.
    Notifications,
    TaskIds,
}

impl Place {
    /// What it is a member of.
    pub(super) fn parent(self) -> Option<Self> {
        match self {
            Self::Message => None,
            Self::Params | Self::Result => Some(Self::Message),
            Self::Notifications => Some(Self::Params),
            Self::TaskIds => Some(Self::Notifications),
        }
    }

    pub(super) fn is_array(self) -> bool {
        self == Self::TaskIds
    }

    /// What the member `key` is.
    ///
    /// 2026-07-28, Multi Round-Trip Requests; SEP-2663 (extension `io.modelcontextprotocol/tasks`, 2026-07-28),
    /// "Task Creation", "Task Polling" and "Task Status Notifications". `resultType` and `method` are not asked: they
    /// may come after the id, which flows on at once, and no other result or notification of the specification has
    /// such a member.
    pub(super) fn member(self, side: Side, key: &str) -> Value {
        use Carrier::{RequestState, Task};
        match (side, self, key) {
            (_, Self::Message, "params") => Value::Within(Self::Params),
            (Side::Request, Self::Message, "id") => Value::Is(Field::Id),
            (Side::Answer, Self::Message, "result") => Value::Within(Self::Result),
            (Side::Request, Self::Params, "requestState")
            | (Side::Answer, Self::Result, "requestState") => {
                Value::Is(Field::Carrier(RequestState))
            }
            (_, Self::Params, "taskId") | (Side::Answer, Self::Result, "taskId") => {
                Value::Is(Field::Carrier(Task))
            }
            (_, Self::Params, "notifications") => Value::Within(Self::Notifications),
            (_, Self::Notifications, "taskIds") => Value::Within(Self::TaskIds),
            _ => Value::Other,
        }
    }
}

/// What the next value is, if it is of the right type.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    Is(Field),
    Within(Place),
    Other,
}
