//! What is discovered comes into force.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Reload, Shown};
use crate::{
    discovery::{Report, list::List},
    net,
    router::table::Publisher,
};

impl Reload {
    /// Asks for all names of the configuration, and waits until each has had its answer, or has failed, in which case it is
    /// asked for again later: what is known by then is served. Runs within a local task set.
    pub async fn discover(&mut self, publisher: &Publisher) {
        self.discovery.keep(&self.written);
        while !self.services.were_asked() {
            let report = self.discovery.next().await;
            self.discovered(&report, publisher);
        }
    }

    /// Whether this process knows whom it stands before, as far as the DNS can tell: once it does, that stays so.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// How the names stand that stand for backends, whenever that changes.
    #[must_use]
    pub fn services(&self) -> watch::Receiver<Vec<Shown>> {
        self.shown.subscribe()
    }

    pub(super) fn show(&self) {
        self.shown.send_replace(self.services.shown(&self.written));
    }

    /// Takes what was heard of a name.
    pub(super) fn discovered(&mut self, report: &Report, publisher: &Publisher) {
        let Some(before) = self.services.take(report) else {
            return; // the file does not have it any more
        };
        self.show();
        if before.addresses() != report.list.addresses() {
            self.renew(Some(report));
            self.publish_to(publisher);
        }
        let pools = self.written.pools.iter();
        let mut services = pools.flat_map(|pool| &pool.services);
        if let Some(service) = services.find(|service| service.url.question == report.question) {
            log(&service.url.to_string(), &before, &report.list);
        }
        self.note_ready();
    }

    /// Notes, once, that this process knows whom it stands before.
    pub(super) fn note_ready(&self) {
        let mut pools = self.config.pools.iter();
        let knows_somebody = pools.any(|pool| !pool.backends.is_empty());
        if self.services.were_answered() && knows_somebody {
            self.ready
                .send_if_modified(|ready| !std::mem::replace(ready, true));
        }
    }

    /// Puts into force what the file says, with what is known of its names. What is wrong about `news` is told.
    pub(super) fn renew(&mut self, news: Option<&Report>) {
        let (config, unusable) = self
            .written
            .with_found(|question| self.services.found(question));
        for unusable in unusable {
            if news.is_some_and(|news| news.question == unusable.question) {
                tracing::warn!(name = &*unusable.question.name, address = %unusable.address, "is not taken as a backend: {}", unusable.why);
            }
        }
        self.membership
            .update(&config, Some(&*self.config), net::now());
        self.config = Arc::new(config);
    }
}

/// Tells what has become of one name, once for each change.
fn log(url: &str, before: &List, now: &List) {
    let (joined, gone) = now.changes_since(before);
    let addresses = now.addresses().map_or(0, <[_]>::len);
    match (now.failure(), before.failure()) {
        (Some(failure), _) => {
            let reason = failure.as_str();
            if now.addresses().is_some() {
                tracing::warn!(
                    service = url,
                    reason,
                    addresses,
                    "cannot be discovered anew, the last list stays in force: {failure}"
                );
            } else {
                tracing::error!(
                    service = url,
                    reason,
                    "cannot be discovered, and will be tried again: {failure}"
                );
            }
        }
        (None, Some(_)) if before.addresses().is_some() => {
            tracing::info!(service = url, ?joined, ?gone, addresses, "discovered again");
        }
        (None, _) => {
            tracing::info!(
                service = url,
                ?joined,
                ?gone,
                addresses,
                ttl_s = now.ttl().as_secs(),
                "discovered"
            );
        }
    }
}
