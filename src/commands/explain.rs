//! `pinring explain`: what a pin says, and what this configuration makes of it.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use http::Method;

use super::{
    CommandError,
    asking::{block_on, client},
};
use crate::{
    admin::api::{Explain, Explanation},
    cli::Asked,
    config::{Config, Pool, Unpinned, format_duration, source::Source},
    pin::{KeyId, Keys, Pin, Secret, Verdict},
    ring::{Coordinate, Member, Nodes, Ring, VIRTUAL_NODES, hash},
};

const NAME_A_CONFIGURATION: &str = "name a configuration with --config to see it";
const NAME_THE_SECRET: &str =
    "name a configuration with --config, or set PINRING_SECRET, to see it";

/// Prints everything that can be told of `id`: by the process that runs, if it answers, and by its file. The exit code is
/// 0 where it goes to a backend, or, by the file alone, where the pin is good and its backend is configured; else 1.
pub(super) fn explain(id: &str, source: &Source, asked: Asked) -> Result<ExitCode, CommandError> {
    let id = id.trim();
    let (text, good) = match ask(id, source, asked) {
        None => by_file(id, source)?,
        Some(Ok(explanation)) => by_process(&explanation),
        Some(Err(error)) => {
            let (text, good) = by_file(id, source)?;
            let what = if source.is_configuration() {
                "by the file alone"
            } else {
                "by itself"
            };
            (
                format!(
                    "{error}\nSo this is what the id says {what}, without the health of backends:\n\n{text}"
                ),
                good,
            )
        }
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the process says that runs with this configuration; `None` where flags make one up.
fn ask(id: &str, source: &Source, asked: Asked) -> Option<Result<Explanation, CommandError>> {
    if source.file.is_none() && source.is_configuration() {
        return None;
    }
    let wanted = Explain { id: id.to_owned() };
    Some(client(asked).and_then(|client| {
        let asked = client.ask(Method::POST, "/explain", &wanted);
        block_on(async { Ok(asked.await?) })
    }))
}

fn by_file(id: &str, source: &Source) -> Result<(String, bool), CommandError> {
    Ok(if source.is_configuration() {
        let config = super::discovered::load(source)?;
        explanation(id, &config.keys, Some(&config))
    } else {
        explanation(id, &source.keys()?, None)
    })
}

/// What the process that runs says.
fn by_process(told: &Explanation) -> (String, bool) {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ok = writeln!(text, "{name:<12}{value}"); // writing to a string cannot fail
    };
    line("kind", told.kind.as_deref().unwrap_or("no pin"));
    line("in logs", &told.in_logs);
    for (name, value) in [
        ("key", &told.key),
        ("coordinate", &told.coordinate),
        ("names", &told.names),
    ] {
        if let Some(value) = value {
            line(name, value);
        }
    }
    for fate in &told.fates {
        line("now", &format!("in pool {} it {}", fate.pool, fate.says));
        if let Some(backend) = &fate.backend {
            let why = if backend.why.is_empty() {
                String::new()
            } else {
                format!(": {}", backend.why)
            };
            let since = format_duration(Duration::from_secs(backend.since_s));
            line(
                "",
                &format!("{} is {} for {since}{why}", backend.name, backend.state),
            );
        }
    }
    let good = told.fates.iter().any(|fate| fate.status.is_none());
    (text, good)
}

fn explanation(id: &str, keys: &Keys, config: Option<&Config>) -> (String, bool) {
    let Some(pin) = Pin::find(id) else {
        return (without_pin(id, config), false);
    };
    let verdict = keys.verify(&pin, None);
    let place = config.map(|config| place(config, pin.coordinate));
    // Without a configuration only one key is known here: the environment's, or the one that everybody has.
    let blind = config.is_none() && verdict == Verdict::UnknownKey;
    let good = verdict == Verdict::Good && place.as_ref().is_none_or(|place| place.is_some());
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ok = writeln!(text, "{name:<12}{value}"); // writing to a string cannot fail
    };
    line("version", "1");
    line("kind", pin.kind.as_str());
    line("own string", &String::from_utf8_lossy(pin.string));
    if blind {
        line("in logs", NAME_THE_SECRET);
        line("key", &unknown_key(pin.key));
        line("tag", NAME_THE_SECRET);
    } else {
        line("in logs", &keys.log_hash(pin.string).to_string());
        line("key", &key(keys, pin.key));
        let binds =
            config.is_some_and(|config| config.pools.iter().any(|pool| pool.bind.is_some()));
        line("tag", tag(verdict, binds));
    }
    line("coordinate", &pin.coordinate.to_string());
    line("backend", &backend(place, verdict));
    (text, good)
}

/// What becomes of an id that carries no pin, which is for each pool to say.
fn without_pin(id: &str, config: Option<&Config>) -> String {
    let mut text = "no pin: the text does not end in \"-\" and 32 characters of a-z and 2-7 that begin with a known version and kind.\n\
                    It was not issued through pinring, or it was cut off.\n"
        .to_owned();
    let Some(config) = config else {
        text.push_str(
            "As a session id it goes to the backend that the ring gives it, or is answered 404: that depends on \
             \"unpinned\" of the configuration; name one with --config to see it.\n",
        );
        return text;
    };
    for pool in &config.pools {
        let fate = match pool.unpinned {
            Unpinned::Reject => {
                "is answered 404, reason unpinned (unpinned = \"reject\")".to_owned()
            }
            Unpinned::Ring => match ring(&nodes(pool)).filter(|_| !pool.undiscovered) {
                Some(ring) => {
                    let owner = ring.successor(hash::position(id.as_bytes()));
                    format!(
                        "goes to backend {}, to which the ring gives it (unpinned = \"ring\")",
                        named(pool, owner)
                    )
                }
                None => "is answered 503, reason undiscovered, as long as nobody is found for a dns+ or srv+ URL of the pool"
                    .to_owned(),
            },
        };
        let _ok = writeln!(text, "As a session id in pool {} it {fate}.", pool.name);
    }
    text
}

fn named(pool: &Pool, member: Member) -> String {
    let backend = &pool.backends[member as usize];
    format!("{} ({})", backend.name, backend.endpoint)
}

fn nodes(pool: &Pool) -> Vec<Nodes> {
    let backends = pool.backends.iter();
    backends.map(|backend| Nodes::of(&backend.name)).collect()
}

fn ring(nodes: &[Nodes]) -> Option<Ring> {
    Ring::try_new((0..).zip(nodes))
}

fn key(keys: &Keys, id: KeyId) -> String {
    let zero = if id == Secret::zero().id() {
        ", the key of those without a secret"
    } else {
        ""
    };
    match keys.ids().position(|known| known == id) {
        Some(0) => format!("{id}, which signs here{zero}"),
        Some(index) => format!("{id}, number {} of affinity.secrets{zero}", index + 1),
        None => format!("{id}, which is not configured here{zero}"),
    }
}

fn unknown_key(id: KeyId) -> String {
    if id == Secret::zero().id() {
        format!("{id}, the key of those without a secret, or one that is not known here")
    } else {
        format!("{id}, of a secret that is not known here")
    }
}

/// What the tag says. With `binds`, there is a pool that binds sessions: its pins verify with their principal alone.
fn tag(verdict: Verdict, binds: bool) -> &'static str {
    match verdict {
        Verdict::Good if binds => {
            "verifies for nobody in particular: where bind is set it is answered 404, reason pin_unbound, unless accept_unbound is"
        }
        Verdict::Good => "verifies",
        Verdict::Forged if binds => {
            "does not verify by itself: it is bound to a principal, whose requests alone can tell, or the id was altered"
        }
        Verdict::Forged => {
            "does not verify: the id was altered; it is answered 404, reason tag_invalid"
        }
        Verdict::UnknownKey => {
            "cannot be verified without its key; it is answered 503, reason unknown_key, for unknown_grace, then 404"
        }
    }
}

/// The backend's place: its pool, its name and address, and the number of the virtual node.
struct Place {
    pool: String,
    backend: String,
    node: usize,
}

fn place(config: &Config, coordinate: Coordinate) -> Option<Place> {
    config.pools.iter().find_map(|pool| {
        let nodes = nodes(pool);
        let member = ring(&nodes)?.exact(coordinate)?;
        let node = nodes[member as usize]
            .points()
            .iter()
            .position(|point| *point == coordinate)?;
        Some(Place {
            pool: pool.name.clone(),
            backend: named(pool, member),
            node,
        })
    })
}

fn backend(place: Option<Option<Place>>, verdict: Verdict) -> String {
    const NONE: &str = "none of this configuration: it was removed, or is not known here yet";
    match place {
        None => NAME_A_CONFIGURATION.to_owned(),
        Some(None) if verdict == Verdict::Good => format!(
            "{NONE}; it is answered 503, reason unknown_coordinate, for unknown_grace, then 404; \
             or at once 404, reason backend_lost, by a proxy that knew it"
        ),
        Some(None) => NONE.to_owned(),
        Some(Some(place)) => {
            format!(
                "{}, virtual node {} of {VIRTUAL_NODES}, pool {}",
                place.backend, place.node, place.pool
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pin::Kind;

    fn pinned(string: &str, coordinate: u64) -> String {
        let pin = Keys::default().mint(
            Kind::Session,
            Coordinate(coordinate),
            None,
            string.as_bytes(),
        );
        format!("{string}-{}", std::str::from_utf8(&pin).unwrap())
    }

    #[test]
    fn a_pin_is_explained_without_any_configuration() {
        let (text, good) = explanation(&pinned("abc", 7), &Keys::default(), None);
        for fact in [
            "session id",
            "abc",
            "verifies",
            "0000000000000007",
            "without a secret",
        ] {
            assert!(text.contains(fact), "{fact} in:\n{text}");
        }
        assert!(good);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut altered = pinned("abc", 7);
        altered.replace_range(0..1, "x");
        let (text, good) = explanation(&altered, &Keys::default(), None);
        assert!(text.contains("does not verify") && !good, "{text}");
        let (text, good) = explanation("0193c2e6", &Keys::default(), None);
        assert!(text.contains("no pin") && !good, "{text}");
    }

    #[test]
    fn an_unknown_backend_is_answered_only_where_the_tag_verifies() {
        let answer = |verdict| backend(Some(None), verdict);
        let good = answer(Verdict::Good);
        assert!(
            good.contains("503, reason unknown_coordinate") && good.contains("backend_lost"),
            "{good}"
        );
        assert!(!answer(Verdict::Forged).contains("503"));
    }

    #[test]
    fn the_pin_of_a_query_is_found() {
        let pin = Keys::default().mint(Kind::Endpoint, Coordinate(7), None, b"sessionId=1");
        let query = format!(
            "/messages?sessionId=1&pinring={}",
            std::str::from_utf8(&pin).unwrap()
        );
        let (text, good) = explanation(&query, &Keys::default(), None);
        assert!(text.contains("endpoint URL") && good, "{text}");
    }
}
