//! What is known of the DNS names that the configuration has, and the configuration that this makes.

use std::{collections::HashMap, time::Duration};

use crate::{
    backend::Question,
    config::{Config, Found, Service},
    discovery::{Report, list::List},
};

/// What is known of each name.
#[derive(Debug, Default)]
pub(super) struct Services {
    known: HashMap<Question, Known>,
}

#[derive(Debug)]
struct Known {
    list: List,
    /// Whether its list is the first, and the name was there at the start.
    at_start: bool,
    /// Whether it was there at the start.
    was_there: bool,
}

/// How one name stands, for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The pool that has it.
    pub pool: String,
    /// Its URL.
    pub url: String,
    /// How many addresses its last list has; `None`: there has been no list yet.
    pub addresses: Option<usize>,
    /// How long its records are good for.
    pub ttl: Duration,
    /// Why there is no newer list: a word, and a sentence.
    pub failure: Option<(&'static str, String)>,
}

impl Services {
    /// Those of the first configuration.
    pub(super) fn new(config: &Config) -> Self {
        let mut services = Self::default();
        services.follow(config);
        for known in services.known.values_mut() {
            known.was_there = true;
        }
        services
    }

    /// Forgets what another configuration does not name, and begins with what is new there.
    pub(super) fn follow(&mut self, config: &Config) {
        self.known
            .retain(|question, _| config.questions().any(|wanted| wanted == question));
        for question in config.questions() {
            let unknown = || Known {
                list: List::default(),
                at_start: false,
                was_there: false,
            };
            self.known.entry(question.clone()).or_insert_with(unknown);
        }
    }

    /// Takes a report. Gives what was known before; `None` where nobody wants to know any more.
    pub(super) fn take(&mut self, report: &Report) -> Option<List> {
        let known = self.known.get_mut(&report.question)?;
        let is_other = known.list.addresses() != report.list.addresses();
        if is_other {
            known.at_start = known.was_there && known.list.addresses().is_none();
        }
        Some(std::mem::replace(&mut known.list, report.list.clone()))
    }

    /// What is known of a name that there is a list of.
    pub(super) fn found(&self, question: &Question) -> Option<Found<'_>> {
        let known = self.known.get(question)?;
        Some(Found {
            addresses: known.list.addresses()?,
            ttl: known.list.ttl(),
            at_start: known.at_start,
        })
    }

    /// Whether each name was asked for, whatever has come of it.
    pub(super) fn were_asked(&self) -> bool {
        self.known.values().all(|known| known.list.was_asked())
    }

    /// Whether the DNS has said of each name what there is, be it nothing.
    pub(super) fn were_answered(&self) -> bool {
        self.known.values().all(|known| known.list.was_answered())
    }

    /// How all names of `config` stand, in its order.
    pub(super) fn shown(&self, config: &Config) -> Vec<Shown> {
        let of_pool = |pool: &str, service: &Service| {
            let list = &self.known.get(&service.url.question)?.list;
            let failure = list.failure();
            Some(Shown {
                pool: pool.to_owned(),
                url: service.url.to_string(),
                addresses: list.addresses().map(<[_]>::len),
                ttl: list.ttl(),
                failure: failure.map(|failure| (failure.as_str(), failure.to_string())),
            })
        };
        let pools = config.pools.iter();
        pools
            .flat_map(|pool| {
                pool.services
                    .iter()
                    .filter_map(|it| of_pool(&pool.name, it))
            })
            .collect()
    }
}
