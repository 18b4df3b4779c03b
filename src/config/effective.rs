//! The configuration that is in force, as a document: every default filled in, and no secret.
//!
//! It shows what `diff` compares, so that no option is left out of one of the two.

use serde_json::{Map, Value, json};

use super::{Config, Pool, StoreUrl, listing};
use crate::{backend::Backend, pin::KeyId};

/// The whole of `config`, without what is secret.
#[must_use]
pub fn effective(config: &Config) -> Value {
    let mut document = Map::new();
    for (key, text) in listing::of_process(config) {
        let (section, key) = key.split_once('.').unwrap_or(("", key));
        match section {
            "" => put(&mut document, key, value(&text)),
            section => put(within(&mut document, section), key, value(&text)),
        }
    }
    let server = within(&mut document, "server");
    let listen = config.server.listen.iter().map(ToString::to_string);
    put(server, "listen", listen.collect::<Vec<_>>().into());
    let admin = config.server.admin.places().map(|place| place.to_string());
    put(server, "admin", admin.collect::<Vec<_>>().into());
    let token = config.server.admin_token.as_ref();
    put(server, "admin_token", hidden(token.is_some()));
    let probes = config.server.probes.address;
    put(
        server,
        "probes",
        probes
            .map_or(String::new(), |address| address.to_string())
            .into(),
    );
    put(server, "threads", config.server.threads.get().into());
    put(server, "watch", config.server.watch.into());
    let keys = config.keys.ids().map(|key: KeyId| format!("key {key}"));
    put(
        within(&mut document, "affinity"),
        "secrets",
        keys.collect::<Vec<_>>().into(),
    );
    let log = within(&mut document, "log");
    put(log, "format", config.log.format.to_string().into());
    put(log, "filter", config.log.filter.clone().into());
    put(log, "access", config.log.access.into());
    let store = json!({ "url": store(&config.store.url), "sessions": config.store.sessions });
    put(&mut document, "store", store);
    let pools = config.pools.iter().map(pool);
    put(&mut document, "pools", pools.collect::<Vec<_>>().into());
    Value::Object(document)
}

fn pool(pool: &Pool) -> Value {
    let mut document = Map::new();
    put(&mut document, "name", pool.name.clone().into());
    for (key, text) in listing::options(pool) {
        put(&mut document, key, value(&text));
    }
    let backend = |backend: &Backend| {
        let mut document = Map::new();
        put(&mut document, "name", backend.name.as_str().into());
        for (key, text) in listing::description(pool, backend) {
            if key != "pool" {
                put(&mut document, key, value(&text));
            }
        }
        Value::Object(document)
    };
    let backends = pool.backends.iter().map(backend);
    put(
        &mut document,
        "backends",
        backends.collect::<Vec<_>>().into(),
    );
    Value::Object(document)
}

/// A Redis URL may hold a password.
fn store(url: &StoreUrl) -> String {
    match url {
        StoreUrl::Memory => "memory".to_owned(),
        StoreUrl::Redis(url) => match (url.split_once("://"), url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://redacted@{host}"),
            (_, _) => url.clone(),
        },
    }
}

fn hidden(is_there: bool) -> Value {
    if is_there {
        "redacted".into()
    } else {
        Value::Null
    }
}

/// Numbers, lists and `true` are what they look like; all else is text.
fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn put(into: &mut Map<String, Value>, key: &str, value: Value) {
    into.insert(key.to_owned(), value);
}

fn within<'a>(document: &'a mut Map<String, Value>, section: &str) -> &'a mut Map<String, Value> {
    let section = document.entry(section).or_insert_with(|| Map::new().into());
    section
        .as_object_mut()
        .expect("sections are made as objects")
}

#[cfg(test)]
mod tests {
    use crate::{config::effective, router::testing::pool_of};

    #[test]
    fn every_default_is_filled_in_and_nothing_secret_is_shown() {
        let lines = "[server]\nadmin_token = \"env:SECRET\"\n[affinity]\nsecrets = [\"env:SECRET\"]\n\
                     [store]\nurl = \"redis://:hush@h:1\"\n";
        let told = effective(&pool_of(&["a"], lines));
        assert_eq!(told["timeouts"]["connect"], "2s");
        assert_eq!(told["limits"]["headers"], 80);
        assert_eq!(told["server"]["watch"], true);
        assert_eq!(told["server"]["listen"][0], "127.0.0.1:8080");
        assert_eq!(told["pools"][0]["on_loss"], "not-found");
        assert_eq!(
            told["pools"][0]["backends"][0]["url"],
            "http://127.0.0.1:9001"
        );
        assert_eq!(told["server"]["admin_token"], "redacted");
        assert_eq!(told["store"]["url"], "redis://redacted@h:1");
        let text = told.to_string();
        assert!(
            !text.contains("hush") && !text.contains("SECRETxxx"),
            "{text}"
        );
    }
}
