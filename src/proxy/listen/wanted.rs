//! Which backends a `subscriptions/listen` is to hear, and what each is asked.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::Value;

use crate::{
    backend::{Admission, Name},
    mcp::{listen::Request, splice::Carrier},
    proxy::carriers::Tasks,
    router::{
        asker::Asker,
        carriers::{self, Says},
        table::{Entry, Pool, RoutingTable, Standing},
    },
};

/// A request, split by the backends that hold the tasks that it names.
pub(super) struct Wanted {
    request: Request,
    /// Whose tasks they are.
    asker: Asker,
    /// Gets what names no backend, as it would without the others.
    first: Name,
    shares: HashMap<Name, Share>,
}

/// What one backend alone is asked about.
#[derive(Default)]
struct Share {
    ids: Vec<Value>,
    /// Those of them that it holds, with the pins that the client knows them by.
    tasks: Tasks,
}

impl Wanted {
    /// Splits a request. A task whose pin is good goes to its own backend alone; what has lost its backend, or names
    /// none, to `first`.
    pub(super) fn split(
        request: Request,
        asker: Asker,
        first: &Name,
        table: &RoutingTable,
        pool: &Pool,
    ) -> Self {
        let mut shares = HashMap::<Name, Share>::new();
        for id in request.task_ids() {
            let judged = id
                .as_str()
                .map(|id| (id, carriers::judge(table, pool, &asker, Carrier::Task, id)));
            let (name, own) = match judged {
                Some((id, judged)) => match judged.says {
                    Says::Here(member) => {
                        let name = &pool.entry(member).backend.name;
                        let tasks = &mut shares.entry(name.clone()).or_default().tasks;
                        if let Some(pin) = id.as_bytes().last_chunk() {
                            tasks.insert(judged.own.into(), *pin);
                        }
                        (name, Value::from(judged.own))
                    }
                    Says::Lost | Says::Unknown(_) => (first, Value::from(judged.own)),
                    Says::Nothing => (first, id.into()),
                },
                None => (first, id.clone()),
            };
            shares.entry(name.clone()).or_default().ids.push(own);
        }
        Self {
            request,
            asker,
            first: first.clone(),
            shares,
        }
    }

    /// Who asks.
    pub(super) fn asker(&self) -> &Asker {
        &self.asker
    }

    /// Whether this one gets what is for one backend only.
    pub(super) fn is_first(&self, name: &Name) -> bool {
        self.first == *name
    }

    /// The body for a backend.
    pub(super) fn body_for(&self, name: &Name) -> Bytes {
        let ids = self.shares.get(name).map_or(&[][..], |share| &share.ids);
        self.request.body_with(ids)
    }

    /// The tasks of a backend that the request names.
    pub(super) fn tasks_of(&self, name: &Name) -> Tasks {
        self.shares
            .get(name)
            .map(|share| share.tasks.clone())
            .unwrap_or_default()
    }

    /// Whether a backend is to be heard, as its pool knows it now: if it is open, and anything is asked of it. One that
    /// drains or has left the list is heard only if it holds a task that the request names.
    pub(super) fn includes(&self, entry: &Entry) -> bool {
        let name = &entry.backend.name;
        let share = self.shares.get(name);
        let is_open =
            entry.backend.admission == Admission::Open && entry.standing != Standing::Departed;
        // One that asks for nothing at all still gets an answer.
        let is_asked = self.request.asks_for_more()
            || share.is_some()
            || (self.shares.is_empty() && self.is_first(name));
        !entry.drained
            && is_asked
            && (is_open || share.is_some_and(|share| !share.tasks.is_empty()))
    }
}
