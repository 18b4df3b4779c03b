//! What requests show that somebody should know: counted, or said once, for the whole process.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::error::ProxyError;
use crate::{
    identity::trusted::{self, Client},
    router::Refusal,
};

/// Shared by all threads. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Alarms(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    principals_refused: AtomicU64,
    sessions_withheld: AtomicU64,
    untrusted_scheme: AtomicBool,
}

impl Alarms {
    /// How many requests were refused a session because it is bound to somebody else, or has to be to somebody.
    #[must_use]
    pub fn principals_refused(&self) -> u64 {
        self.0.principals_refused.load(Ordering::Relaxed)
    }

    /// How many sessions were ended because nobody in particular had opened them.
    #[must_use]
    pub fn sessions_withheld(&self) -> u64 {
        self.0.sessions_withheld.load(Ordering::Relaxed)
    }

    /// Counts a request that was refused, if that was for want of the right principal.
    pub(super) fn refused(&self, error: &ProxyError) {
        if matches!(
            error,
            ProxyError::Refused(
                Refusal::OtherPrincipal | Refusal::PrincipalMissing | Refusal::UnpinnedMessage
            )
        ) {
            self.0.principals_refused.fetch_add(1, Ordering::Relaxed);
        } else if matches!(error, ProxyError::Unidentified) {
            self.0.sessions_withheld.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What somebody says of the scheme was dropped. Where that is probably a proxy, its operator wants to know, for
    /// the URLs that servers then give to clients begin with `http:`.
    pub(super) fn dropped_scheme(&self, client: Client) {
        let address: IpAddr = client.address.to_canonical();
        if trusted::is_private(address) && !self.0.untrusted_scheme.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %address,
                "sends X-Forwarded-Proto and is not trusted: backends are told pinring's own scheme and that the client is at \
                 this address. If it is your proxy or balancer, add it to server.trusted_proxies. This is not logged again"
            );
        }
    }
}
