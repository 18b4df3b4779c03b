//! `GET /drain` of the probes listener: what a *server* container's preStop calls, so that its backend's sessions end
//! before it does.
//!
//! It drains the backends that `local` names and no other, and only where the operator has switched it on. No page can
//! call it, and nobody from elsewhere without the token.

use std::{net::IpAddr, time::Duration};

use http::{HeaderName, StatusCode, header, request};
use tokio::sync::oneshot;

use super::{
    Admin, Answered,
    api::{self, Fault},
    guard::{self, Shown, Visitor},
};
use crate::{
    config::{Config, format_duration, parse_duration},
    net::{self, Instant},
    reload::command::{Command, Standing},
    router::membership::{self, View},
    shutdown::Phase,
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(250);

/// Where not all sessions are known, as in a process that has just begun: so long nothing may have shown itself.
const QUIET: Duration = Duration::from_secs(30);

/// After the answer: a container that was restarted in its pod, by its liveness probe, gets new work again. One that
/// is on its way out has stopped by then, and is found out like any that is down.
const TAKE_BACK: Duration = Duration::from_secs(60);

impl Admin {
    pub(super) async fn drain_local(&self, head: &request::Parts, visitor: Visitor) -> Answered {
        let standing = self.process.writer.ask(Command::Standing).await?;
        permit(head, visitor, &standing.config)?;
        let wait = wait(head.uri.query())?;
        let names = local_names(&standing);
        if names.is_empty() {
            return Err(Fault::nothing_local());
        }
        let began = net::now();
        let asking = self.take_back_after_all(names.clone(), visitor);
        for name in &names {
            self.drain_named(name, wait, visitor).await?;
        }
        let text = match wait {
            None => format!("{}: no new work from now on\n", names.join(", ")),
            Some(wait) => self.until_empty(&names, began, wait).await?,
        };
        drop(asking);
        Ok(api::text(StatusCode::OK, text))
    }

    /// Takes the drain of `names` back a while after what is given here is dropped: with the answer, or because whoever
    /// asked has left.
    fn take_back_after_all(&self, names: Vec<String>, visitor: Visitor) -> oneshot::Sender<()> {
        let (asking, answered) = oneshot::channel();
        let admin = self.clone();
        tokio::task::spawn_local(async move {
            let _dropped = answered.await;
            net::sleep(TAKE_BACK).await;
            if admin.process.phases.phase() == Phase::Running {
                for name in names {
                    admin.take_back(name, visitor).await;
                }
            }
        });
        asking
    }

    /// Waits until `names` hold nothing, or `wait` is over, and says which of the two.
    async fn until_empty(
        &self,
        names: &[String],
        began: Instant,
        wait: Duration,
    ) -> Result<String, Fault> {
        let mut quiet_since = None;
        let mut most = 0;
        loop {
            let views = self.process.writer.ask(Command::Backends).await?;
            let its: Vec<&View> = views.iter().filter(|view| is_one_of(view, names)).collect();
            let (now, names) = (net::now(), names.join(", "));
            let time = || {
                let seconds = now.saturating_duration_since(began).as_secs();
                format_duration(Duration::from_secs(seconds))
            };
            if its.is_empty() {
                return Ok(format!("{names}: no longer on the list\n"));
            }
            let lost: u32 = its.iter().filter_map(|view| view.sessions_lost).sum();
            if its.iter().all(|view| view.sessions_lost.is_some()) {
                return Ok(format!(
                    "{names}: time is over after {}, {lost} live sessions are lost\n",
                    time()
                ));
            }
            let sessions: u32 = its.iter().map(|view| view.sessions).sum();
            let in_flight: u32 = its.iter().map(|view| view.in_flight).sum();
            most = most.max(sessions);
            if now.saturating_duration_since(began) >= wait + 4 * INTERVAL {
                return Ok(format!(
                    "{names}: time is over after {}, {sessions} live sessions and {in_flight} requests are left\n",
                    time()
                ));
            }
            if sessions + in_flight > 0 {
                quiet_since = None;
            } else {
                let since = *quiet_since.get_or_insert(now);
                let all_known = its.iter().all(|view| view.complete_at <= now);
                if all_known || now.saturating_duration_since(since) >= QUIET {
                    return Ok(format!(
                        "{names}: drained after {}, no session and no request is left of {most} sessions\n",
                        time()
                    ));
                }
            }
            net::sleep(INTERVAL).await;
        }
    }
}

fn is_one_of(view: &View, names: &[String]) -> bool {
    names.iter().any(|name| *name == view.name.as_str())
}

/// The backends on this machine.
fn local_names(standing: &Standing) -> Vec<String> {
    let is_listed = |view: &&View| view.local && view.state != membership::Shown::Departed;
    let views = standing.views.iter().filter(is_listed);
    let mut names: Vec<String> = views.map(|view| view.name.to_string()).collect();
    names.dedup();
    names
}

/// Lets pass what comes from this machine or the pod's own address, or shows the token, and from no page.
fn permit(head: &request::Parts, visitor: Visitor, config: &Config) -> Result<(), Fault> {
    if !config.server.probes.drain {
        return Err(Fault::drain_is_off());
    }
    if head.headers.contains_key(header::ORIGIN) || head.headers.contains_key(SEC_FETCH_SITE) {
        return Err(Fault::origin());
    }
    let shown = Shown::of(&head.headers, config.server.admin_token.as_ref());
    // Not every browser says where a request comes from; none lies about the name that it has asked.
    guard::check_page(head, shown)?;
    let is_here = |address: IpAddr| {
        let mut locals = config.pools.iter().filter_map(|pool| pool.local.as_ref());
        address.is_loopback() || locals.any(|local| local.is_at(address))
    };
    let from_here = match visitor {
        Visitor::Owner(_) => true,
        Visitor::Remote(peer) => is_here(peer.ip().to_canonical()),
    };
    if from_here || shown == Shown::Right {
        Ok(())
    } else {
        Err(Fault::not_from_here())
    }
}

/// `wait=TIME`, or nothing.
fn wait(query: Option<&str>) -> Result<Option<Duration>, Fault> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(None);
    };
    let wait = query.strip_prefix("wait=").map(parse_duration);
    match wait {
        Some(Ok(wait)) if wait.is_zero() => Ok(None),
        Some(Ok(wait)) => Ok(Some(wait)),
        Some(Err(_)) | None => Err(Fault::query("/drain?wait=10m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_duration_with_its_unit() {
        assert_eq!(wait(None), Ok(None));
        assert_eq!(wait(Some("wait=0s")), Ok(None));
        assert_eq!(wait(Some("wait=10m")), Ok(Some(Duration::from_secs(600))));
        for bad in ["wait=10", "wait=", "w=10m", "wait=1s&x=1"] {
            assert!(wait(Some(bad)).is_err(), "{bad}");
        }
    }
}
