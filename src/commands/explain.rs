//! `pinring explain`: what a pin says, and what this configuration makes of it.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
};

use super::CommandError;
use crate::{
    config::{Config, source::Source},
    pin::{KeyId, Keys, Kind, Pin, Secret, Verdict},
    ring::{Coordinate, Nodes, Ring, VIRTUAL_NODES},
};

const NAME_A_CONFIGURATION: &str = "name a configuration with --config to see it";

/// Prints everything that can be told of `id`. The exit code is 0 where the pin is good and its backend
/// is configured, else 1.
pub(super) fn explain(id: &str, source: Option<&Source>) -> Result<ExitCode, CommandError> {
    let config = source.map(Source::load).transpose()?;
    let (text, good) = explanation(id, config.as_ref());
    io::stdout().write_all(text.as_bytes())?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn explanation(id: &str, config: Option<&Config>) -> (String, bool) {
    let Some(pin) = find_pin(id) else {
        let text = "no pin: the text does not end in \"-\" and 32 characters of a-z and 2-7 that begin with a known version and kind.\n\
                    It was not issued through pinring, or it was cut off.\n";
        return (text.to_owned(), false);
    };
    let keys = config.map_or_else(Keys::default, |config| config.keys.clone());
    let verdict = keys.verify(&pin, None);
    let place = config.map(|config| place(config, pin.coordinate));
    // Without a configuration only the key that everybody has is known here.
    let blind = config.is_none() && verdict == Verdict::UnknownKey;
    let good = verdict == Verdict::Good && place.as_ref().is_none_or(|place| place.is_some());
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ok = writeln!(text, "{name:<12}{value}"); // writing to a string cannot fail
    };
    line("version", "1");
    line("kind", kind(pin.kind));
    line("own string", &String::from_utf8_lossy(pin.string));
    if blind {
        line("in logs", NAME_A_CONFIGURATION);
        line("key", &format!("{}, of a secret", pin.key));
        line("tag", NAME_A_CONFIGURATION);
    } else {
        line("in logs", &keys.log_hash(pin.string).to_string());
        line("key", &key(&keys, pin.key));
        line("tag", tag(verdict));
    }
    line("coordinate", &pin.coordinate.to_string());
    line("backend", &backend(place));
    (text, good)
}

fn find_pin(id: &str) -> Option<Pin<'_>> {
    let kinds = [Kind::Session, Kind::RequestState, Kind::Task];
    let with_hyphen = kinds
        .into_iter()
        .find_map(|kind| Pin::parse(kind, id.as_bytes()));
    with_hyphen.or_else(|| {
        let query = id.rsplit_once('?').map_or(id, |(_, query)| query);
        let (before, encoded) = query.rsplit_once("pinring=")?;
        let own = before.strip_suffix('&').unwrap_or(before);
        Pin::parse_encoded(Kind::Endpoint, own.as_bytes(), encoded.as_bytes())
    })
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Session => "session id (Mcp-Session-Id)",
        Kind::Endpoint => "endpoint URL of HTTP+SSE",
        Kind::RequestState => "requestState",
        Kind::Task => "task id",
    }
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

fn tag(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "verifies",
        Verdict::Forged => {
            "does not verify: the id was altered, or bound to somebody; it is answered 404"
        }
        Verdict::UnknownKey => {
            "cannot be verified without its key; it is answered 503 for unknown_grace, then 404"
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
        let nodes: Vec<Nodes> = pool
            .backends
            .iter()
            .map(|backend| Nodes::of(&backend.name))
            .collect();
        let member = Ring::try_new((0..).zip(&nodes))?.exact(coordinate)? as usize;
        let backend = &pool.backends[member];
        let node = nodes[member]
            .points()
            .iter()
            .position(|point| *point == coordinate)?;
        Some(Place {
            pool: pool.name.clone(),
            backend: format!("{} ({})", backend.name, backend.endpoint),
            node,
        })
    })
}

fn backend(place: Option<Option<Place>>) -> String {
    match place {
        None => NAME_A_CONFIGURATION.to_owned(),
        Some(None) => {
            "none of this configuration: it was removed, or is not known here yet".to_owned()
        }
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
        let (text, good) = explanation(&pinned("abc", 7), None);
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
        let (text, good) = explanation(&altered, None);
        assert!(text.contains("does not verify") && !good, "{text}");
        let (text, good) = explanation("0193c2e6", None);
        assert!(text.contains("no pin") && !good, "{text}");
    }

    #[test]
    fn the_pin_of_a_query_is_found() {
        let pin = Keys::default().mint(Kind::Endpoint, Coordinate(7), None, b"sessionId=1");
        let query = format!(
            "/messages?sessionId=1&pinring={}",
            std::str::from_utf8(&pin).unwrap()
        );
        let (text, good) = explanation(&query, None);
        assert!(text.contains("endpoint URL") && good, "{text}");
    }
}
