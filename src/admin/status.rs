//! Puts together what one look at the process is to tell.

use std::collections::HashMap;

use http::StatusCode;

use super::{Admin, Answered, api};
use crate::{
    config,
    net::{self, Instant},
    reload::command::{Command, Standing},
    router::{membership::View, table::RoutingTable},
    shutdown::Phase,
};

impl Admin {
    pub(super) async fn status(&self) -> Answered {
        Ok(api::json(StatusCode::OK, &self.look().await?))
    }

    /// How the process stands at this moment.
    pub(super) async fn look(&self) -> Result<api::Status, api::Fault> {
        let standing = self.process.writer.ask(Command::Standing).await?;
        let (process, now) = (&self.process, net::now());
        let table = process.tables.current();
        let phase = process.phases.phase();
        let sum =
            |of: fn(&View) -> u32| standing.views.iter().map(|view| u64::from(of(view))).sum();
        let shown = standing
            .views
            .iter()
            .map(|view| api::Backend::of(view, now));
        let complete_in = shown.map(|shown| shown.sessions_complete_in_s).max();
        let complete_in = complete_in.unwrap_or_default();
        Ok(api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: now.saturating_duration_since(self.began).as_secs(),
            phase: phase.as_str().to_owned(),
            ready: phase == Phase::Running && *process.discovered.borrow(),
            listeners: process.listeners.clone(),
            unprotected: process.unprotected.clone(),
            file: process.file.as_ref().map(|file| file.display().to_string()),
            ring: table.ring_digest(),
            keys: table.keys.digest(),
            last_reload: standing
                .last_reload
                .as_ref()
                .map(|reloaded| api::ReloadStatus::of(reloaded, now)),
            sessions: sum(|view| view.sessions),
            sessions_complete: complete_in == 0,
            sessions_complete_in_s: complete_in,
            in_flight: sum(|view| view.in_flight),
            pools: pools(&standing, &table, now),
            counts: (process.counters.0)(),
            limits: api::Limits::of(process.connections.count(), &process.reached),
        })
    }
}

fn pools(standing: &Standing, table: &RoutingTable, now: Instant) -> Vec<api::PoolStatus> {
    let of_pool = |options: &config::Pool| {
        let pool = table
            .pools
            .iter()
            .find(|pool| pool.options.name == options.name);
        let shares: HashMap<&str, f64> = pool
            .map(|pool| {
                let names = pool
                    .entries()
                    .iter()
                    .map(|entry| entry.backend.name.as_str());
                names.zip(pool.shares()).collect()
            })
            .unwrap_or_default();
        let home = pool.and_then(|pool| Some(&pool.entry(pool.home(&[])?).backend.name));
        let views = standing
            .views
            .iter()
            .filter(|view| view.pool == options.name);
        let backend = |view: &View| api::Backend {
            ring_share: shares.get(view.name.as_str()).copied().unwrap_or_default(),
            ..api::Backend::of(view, now)
        };
        api::PoolStatus {
            name: options.name.clone(),
            matches: options.matcher.to_string(),
            on_loss: options.on_loss.to_string(),
            placement: options.placement.to_string(),
            home: home.map(ToString::to_string),
            backends: views.map(backend).collect(),
        }
    };
    standing.config.pools.iter().map(of_pool).collect()
}
