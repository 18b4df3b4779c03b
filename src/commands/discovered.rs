//! Asks the DNS once, as a process that serves would: for the commands that show backends.

use std::{collections::HashMap, io, sync::Arc};

use tokio::runtime::Builder;

use super::CommandError;
use crate::{
    backend::Question,
    config::{Config, Found, Service, source::Source},
    discovery::{
        self,
        dns::Dns,
        list::{Answer, Failure},
    },
};

/// The configuration with the backends that its names stand for now. What cannot be discovered is told on standard
/// error.
pub(super) fn load(source: &Source) -> Result<Config, CommandError> {
    let (config, notes) = discover(&source.load()?)?;
    if config.pools.iter().any(|pool| pool.undiscovered) {
        for note in notes {
            eprintln!("note: {note}");
        }
    }
    Ok(config)
}

/// The configuration with the backends that its names stand for now, and what was found in words: one sentence each.
pub(super) fn discover(config: &Config) -> Result<(Config, Vec<String>), CommandError> {
    let answers = answers(config)?;
    let (discovered, unusable) = config.with_found(|question| {
        let answer = answers.get(question)?.as_ref().ok()?;
        Some(Found {
            addresses: &answer.addresses,
            ttl: answer.ttl,
            at_start: true,
        })
    });
    let services = config.pools.iter().flat_map(|pool| &pool.services);
    let mut notes: Vec<String> = services
        .filter_map(|service| Some(found(service, answers.get(&service.url.question)?)))
        .collect();
    notes.extend(unusable.into_iter().map(|unusable| {
        let (name, address) = (unusable.question.name, unusable.address);
        format!(
            "{name}: {address} is not taken as a backend: {}",
            unusable.why
        )
    }));
    Ok((discovered, notes))
}

fn found(service: &Service, outcome: &Result<Answer, Failure>) -> String {
    let url = &service.url;
    match outcome {
        Ok(answer) => {
            let addresses: Vec<String> = answer.addresses.iter().map(ToString::to_string).collect();
            format!(
                "{url} stands for {} now: {}; by the name {}, for {} s",
                match addresses.len() {
                    1 => "one backend".to_owned(),
                    several => format!("{several} backends"),
                },
                addresses.join(", "),
                answer.asked.name,
                answer.ttl.as_secs()
            )
        }
        Err(failure) => format!(
            "{url} stands for no backend now: {failure}; until it does, its requests are answered 503"
        ),
    }
}

type Answers = HashMap<Question, Result<Answer, Failure>>;

/// What the DNS says to all questions, asked at the same time.
fn answers(config: &Config) -> Result<Answers, CommandError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let resolver = Arc::new(Dns::default());
    runtime.block_on(async {
        let ask = |question: &Question| {
            let (question, options) = (question.clone(), config.discovery.clone());
            let resolver = Arc::clone(&resolver);
            tokio::spawn(async move {
                let outcome = discovery::ask(&*resolver, &question, &options).await;
                (question, outcome)
            })
        };
        let asked: Vec<_> = config.questions().map(ask).collect();
        let mut answers = Answers::new();
        for asking in asked {
            let (question, outcome) = asking.await.map_err(io::Error::other)?;
            answers.insert(question, outcome);
        }
        Ok(answers)
    })
}
