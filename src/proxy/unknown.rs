//! What to do about a pin that this process cannot judge yet: ask for news, wait a little, keep count.
//!
//! Design, section 2, "known before used, kept after gone".

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::Notify;

use super::error::ProxyError;
use crate::{
    net,
    ring::hash,
    router::{
        Decision, Refusal,
        table::{Reader, RoutingTable, Snapshot},
        unknown::{Standing, Unknown},
    },
};

/// How long a request waits for its backend to become known.
const WAIT: Duration = Duration::from_secs(2);

/// The unknown pins of the process, and whom to ask for news. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Unknowns {
    // Taken for an instant by requests that are about to be refused, never by others, never across an await.
    seen: Arc<Mutex<Unknown>>,
    news: Arc<Notify>,
}

impl Unknowns {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is notified when somebody should look whether the list of backends has changed.
    #[must_use]
    pub fn news(&self) -> Arc<Notify> {
        Arc::clone(&self.news)
    }

    /// Judges a request that the router refused: a verified pin of a backend that was never seen, or may not have been discovered
    /// yet, waits for the next tables, which `again` asks; `table` is then the newer one. After `grace` it is lost.
    ///
    /// # Errors
    ///
    /// The refusal, or that it has stayed for longer than its grace.
    pub(super) async fn judge(
        &self,
        tables: &Reader,
        table: &mut Snapshot,
        refusal: Refusal,
        carrier: &[u8],
        grace: Duration,
        again: impl Fn(&RoutingTable) -> Option<Result<Decision, Refusal>>,
    ) -> Result<Decision, ProxyError> {
        let standing = match refusal {
            Refusal::UnknownCoordinate | Refusal::UnknownKey => self.see(refusal, carrier, grace),
            // No time runs out as long as this process knows too little to judge.
            Refusal::Undiscovered => Standing::Waiting,
            Refusal::Forged
            | Refusal::OtherPrincipal
            | Refusal::PrincipalMissing
            | Refusal::Unbound
            | Refusal::WrongPool
            | Refusal::KeyRemoved
            | Refusal::BackendRemoved
            | Refusal::BackendDown
            | Refusal::Unpinned
            | Refusal::UnpinnedMessage
            | Refusal::NoBackend
            | Refusal::SessionsFull
            | Refusal::PrincipalSessionsFull => return Err(ProxyError::Refused(refusal)),
        };
        match standing {
            Standing::Lost => return Err(ProxyError::StayedUnknown(refusal)),
            Standing::Waiting if refusal == Refusal::UnknownKey => {
                return Err(ProxyError::Refused(refusal));
            }
            Standing::Waiting => {}
        }
        let mut changes = tables.changes();
        self.news.notify_one();
        let known = async {
            loop {
                *table = tables.snapshot();
                match again(table) {
                    Some(Err(Refusal::UnknownCoordinate | Refusal::Undiscovered)) | None => {}
                    Some(decided) => return decided,
                }
                changes.next().await;
            }
        };
        net::within(WAIT, known)
            .await
            .unwrap_or(Err(refusal))
            .map_err(ProxyError::Refused)
    }

    fn see(&self, refusal: Refusal, carrier: &[u8], grace: Duration) -> Standing {
        let pin = hash::position(carrier).0;
        let mut seen = self.seen.lock().expect("nobody panics while holding it");
        let table = if refusal == Refusal::UnknownKey {
            &mut seen.keys
        } else {
            &mut seen.coordinates
        };
        table.see(pin, net::now(), grace)
    }
}
