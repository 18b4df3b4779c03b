//! What is known of one name: the last list of addresses, how long it is good for, and why there is no newer one.
//!
//! Pure. Whatever goes wrong, and also an answer without addresses, leaves the last list as it is: that a resolver says so
//! tells nothing about backends that serve (design, section 2, "known before used, kept after gone").

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{backend::Question, config::Discovery};

/// The longest time between two questions that are not answered.
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// What the DNS has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// All addresses, sorted, each once; never empty.
    pub addresses: Vec<SocketAddr>,
    /// How long the answer is good for.
    pub ttl: Duration,
    /// What was asked in the end, where the search list and the family left it open: that is asked from now on.
    pub asked: Question,
}

impl Answer {
    /// Puts addresses in order.
    ///
    /// # Errors
    ///
    /// If there are none.
    pub fn new(
        mut addresses: Vec<SocketAddr>,
        ttl: Duration,
        asked: Question,
    ) -> Result<Self, Failure> {
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return Err(Failure::Empty);
        }
        Ok(Self {
            addresses,
            ttl,
            asked,
        })
    }
}

/// Why there is no list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The name does not exist.
    #[error("no such name (NXDOMAIN)")]
    NoSuchName,
    /// It has no such records.
    #[error("the name has no addresses")]
    Empty,
    /// A server could not, or would not, answer.
    #[error("the DNS server answered with {0}")]
    Server(String),
    /// Nobody answered in time.
    #[error("no DNS server answered in time")]
    Silent,
    /// Nobody could be asked.
    #[error("no DNS server could be asked: {0}")]
    Unasked(String),
}

impl Failure {
    /// The word for logs and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoSuchName => "no_such_name",
            Self::Empty => "empty",
            Self::Server(_) => "server_failure",
            Self::Silent => "silent",
            Self::Unasked(_) => "unasked",
        }
    }

    /// Whether the DNS has said that there is nothing.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        match self {
            Self::NoSuchName | Self::Empty => true,
            Self::Server(_) | Self::Silent | Self::Unasked(_) => false,
        }
    }
}

/// What is known of one name. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// The addresses of the last answer that had any.
    addresses: Option<Arc<[SocketAddr]>>,
    ttl: Duration,
    failure: Option<Failure>,
    failures: u32,
}

impl List {
    /// Takes what has become of a question. Tells whether that is news.
    pub fn take(&mut self, outcome: Result<&Answer, &Failure>) -> bool {
        match outcome {
            Ok(answer) => {
                let is_news =
                    self.failure.is_some() || self.addresses.as_deref() != Some(&*answer.addresses);
                if is_news {
                    self.addresses = Some(answer.addresses.as_slice().into());
                }
                self.ttl = longest(self.ttl, answer.ttl);
                (self.failure, self.failures) = (None, 0);
                is_news
            }
            Err(failure) => {
                let same = self.failure.as_ref().map(Failure::as_str) == Some(failure.as_str());
                self.failure = Some(failure.clone());
                self.failures = self.failures.saturating_add(1);
                !same
            }
        }
    }

    /// How long to wait until the name is asked for again, after `outcome`.
    #[must_use]
    pub fn pause(&self, outcome: Result<&Answer, &Failure>, options: &Discovery) -> Duration {
        let (least, most) = (options.min_interval, options.max_interval);
        match outcome {
            Ok(answer) => answer.ttl.clamp(least, most),
            Err(_) => {
                let doubled = 1_u32 << self.failures.saturating_sub(1).min(16);
                let longest = LONGEST_RETRY.min(most).max(least);
                least.saturating_mul(doubled).min(longest)
            }
        }
    }

    /// The last list; `None` before the first.
    #[must_use]
    pub fn addresses(&self) -> Option<&[SocketAddr]> {
        self.addresses.as_deref()
    }

    /// How long the records are good for, as far as their server says and caches on the way let it be seen.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Why there is no newer list.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether the name was asked for to an end, whatever that was.
    #[must_use]
    pub fn was_asked(&self) -> bool {
        self.addresses.is_some() || self.failure.is_some()
    }

    /// Whether the DNS has said what there is, be it nothing.
    #[must_use]
    pub fn was_answered(&self) -> bool {
        self.addresses.is_some() || self.failure.as_ref().is_some_and(Failure::is_answer)
    }

    /// Who has come and who has gone since `before`.
    #[must_use]
    pub fn changes_since(&self, before: &Self) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        let of = |list: &Self| list.addresses.clone().unwrap_or_default();
        let (old, new) = (of(before), of(self));
        let without = |list: &[SocketAddr], other: &[SocketAddr]| {
            let wanted = list.iter().filter(|address| !other.contains(address));
            wanted.copied().collect::<Vec<_>>()
        };
        (without(&new, &old), without(&old, &new))
    }
}

/// The longest of the times that were seen, of which older ones count for less. A cache says how much is left, and between
/// two of its own questions that is less than the records are good for.
fn longest(before: Duration, now: Duration) -> Duration {
    now.max(before - before / 4)
}

#[cfg(test)]
mod tests;
