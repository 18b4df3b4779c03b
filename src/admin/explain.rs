//! What this process would do with an id if it came now.

use http::StatusCode;

use super::{
    Admin, Answered,
    api::{self, Fate},
};
use crate::{
    config::Unpinned,
    net,
    observe::tally::Word as _,
    pin::{Kind, Pin},
    reload::command::Command,
    ring::hash,
    router::{
        self,
        membership::View,
        table::{Pool, RoutingTable},
    },
    sessions::store::Key,
};

impl Admin {
    pub(super) async fn explain(&self, wanted: api::Explain) -> Answered {
        let views = self.process.writer.ask(Command::Backends).await?;
        let table = self.process.tables.current();
        let id = wanted.id.trim();
        let pin = Pin::find(id);
        let moved = self.process.store.find(&Key::of(id.as_bytes())).await;
        let moved = moved.ok().and_then(|found| found.moved);
        let coordinate = pin.as_ref().map(|pin| pin.coordinate);
        let of_pool = |pool: &&Pool| {
            coordinate.is_none_or(|at| pool.exact(at).is_some() || pool.has_lost(at))
        };
        let mut pools: Vec<&Pool> = table.pools.iter().filter(of_pool).collect();
        if pools.is_empty() {
            pools = table.pools.iter().collect();
        }
        let moved_in = |pool: &Pool| {
            let member = pool.exact(moved.as_ref()?.coordinate)?;
            Some(pool.entry(member).backend.name.to_string())
        };
        let fate = |pool: &Pool| match (&pin, moved_in(pool)) {
            (_, Some(backend)) => Fate {
                pool: pool.options.name.clone(),
                says: format!("goes to {backend}, where its handshake was repeated"),
                backend: shown(&views, pool, &backend),
                ..Fate::default()
            },
            (Some(pin), None) => self.fate_of_pin(&table, pool, pin, &views),
            (None, None) => self.fate_without_pin(pool, id, &views),
        };
        let named = coordinate.and_then(|at| pools.iter().find_map(|pool| pool.name_at(at)));
        let explanation = api::Explanation {
            kind: pin.as_ref().map(|pin| pin.kind.as_str().to_owned()),
            in_logs: table
                .keys
                .log_hash(pin.as_ref().map_or(id.as_bytes(), |pin| pin.string))
                .to_string(),
            key: pin.as_ref().map(|pin| pin.key.to_string()),
            coordinate: coordinate.map(|at| at.to_string()),
            names: named.map(ToString::to_string),
            fates: pools.into_iter().map(fate).collect(),
        };
        Ok(api::json(StatusCode::OK, &explanation))
    }

    fn fate_of_pin(
        &self,
        table: &RoutingTable,
        pool: &Pool,
        pin: &Pin<'_>,
        views: &[View],
    ) -> Fate {
        let fate = Fate {
            pool: pool.options.name.clone(),
            ..Fate::default()
        };
        match router::foresee(table, pool, pin) {
            Ok((member, why)) => {
                let name = pool.entry(member).backend.name.to_string();
                let bound = if pool.options.bind.is_some() {
                    ", if the request is of the one who opened the session (bind); else it is answered 404"
                } else {
                    ""
                };
                Fate {
                    says: format!("goes to {name} ({}){bound}", why.route().as_str()),
                    backend: shown(views, pool, &name),
                    ..fate
                }
            }
            Err(refusal) => {
                let (status, reason) = (self.process.verdict)(refusal);
                let status = status.as_u16();
                let is_session = matches!(pin.kind, Kind::Session | Kind::Endpoint);
                let says = if is_session {
                    format!("is answered {status}, reason {reason}: {refusal}")
                } else {
                    format!(
                        "is placed as if it had no pin, or answered 503 while that may pass: {refusal}"
                    )
                };
                let named = pool.name_at(pin.coordinate);
                Fate {
                    says,
                    status: Some(status),
                    reason: Some(reason.to_owned()),
                    backend: named.and_then(|name| shown(views, pool, name.as_str())),
                    ..fate
                }
            }
        }
    }

    /// As a session id, since nothing else is looked at.
    fn fate_without_pin(&self, pool: &Pool, id: &str, views: &[View]) -> Fate {
        let fate = Fate {
            pool: pool.options.name.clone(),
            ..Fate::default()
        };
        match pool.options.unpinned {
            Unpinned::Reject => {
                let (status, reason) = (self.process.verdict)(router::Refusal::Unpinned);
                Fate {
                    says: format!(
                        "is answered {}, reason {reason}: it has no pin",
                        status.as_u16()
                    ),
                    status: Some(status.as_u16()),
                    reason: Some(reason.to_owned()),
                    ..fate
                }
            }
            Unpinned::Ring => {
                let owner = pool.unpinned_owner(hash::position(id.as_bytes()));
                let owner = owner.map(|owner| pool.entry(owner).backend.name.to_string());
                let Some(name) = owner else {
                    let says = "has no pin, and the ring has nobody yet: no backend was discovered";
                    return Fate {
                        says: says.to_owned(),
                        ..fate
                    };
                };
                Fate {
                    says: format!("has no pin; the ring gives it to {name}"),
                    backend: shown(views, pool, &name),
                    ..fate
                }
            }
        }
    }
}

fn shown(views: &[View], pool: &Pool, name: &str) -> Option<api::Backend> {
    let is_it = |view: &&View| view.pool == pool.options.name && view.name.as_str() == name;
    let view = views.iter().find(is_it)?;
    Some(api::Backend::of(view, net::now()))
}
