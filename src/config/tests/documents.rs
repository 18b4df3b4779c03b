//! The files of `config/`: they load, and they tell the truth.

use std::collections::BTreeSet;

use super::{
    file::{self, Report},
    *,
};

const PINRING: &str = include_str!("../../../config/pinring.toml");
const MINIMAL: &str = include_str!("../../../config/minimal.toml");

/// A line of `pinring.toml` that sets a key, commented out or not.
struct Entry {
    /// As `file` writes it: `backends[]`.
    section: String,
    key: String,
    line: &'static str,
}

fn entries() -> Vec<Entry> {
    let mut section = String::new();
    let mut entries = Vec::new();
    for line in PINRING.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        let inside = |open, close| line.strip_prefix(open)?.strip_suffix(close);
        if let Some(array) = inside("[[", "]]") {
            section = format!("{array}[]");
        } else if let Some(table) = inside("[", "]").filter(|table| !table.contains('[')) {
            section = table.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ")
            && !key.contains(' ')
        {
            entries.push(Entry {
                section: section.clone(),
                key: key.to_owned(),
                line,
            });
        }
    }
    entries
}

#[test]
fn the_files_of_the_folder_load() {
    let minimal = checked(MINIMAL).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(MINIMAL.lines().count(), 5);
    assert_eq!(minimal.pools[0].backends.len(), 3);
    let full = checked(PINRING).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(full.pools[0].backends, minimal.pools[0].backends);
}

#[test]
fn the_values_of_pinring_toml_are_the_defaults() {
    let (full, minimal) = (checked(PINRING).unwrap(), checked(MINIMAL).unwrap());
    assert!(full.server.admin.is_named && !minimal.server.admin.is_named);
    assert!(full.server.admin.places().eq(minimal.server.admin.places()));
    let server = |config: &Config| Server {
        admin: Admin::unnamed(),
        ..config.server.clone()
    };
    assert_eq!(server(&full), server(&minimal));
    assert_eq!(full.timeouts, minimal.timeouts);
    assert_eq!(full.limits, minimal.limits);
    assert_eq!(full.log, minimal.log);
    assert_eq!(full.discovery, minimal.discovery);
    assert_eq!(full.pools, minimal.pools);
    assert!(full.tls.is_none() && minimal.tls.is_none());
}

/// All key paths that the reader asks for.
fn known() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let pools = "[[pools]]\nname = \"p\"\nbackends = [{ url = \"http://127.0.0.1\" }]\n\
                 [[tls.certificates]]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"";
    for text in [MINIMAL, pools] {
        let table = file::parse(text).unwrap();
        let report = Report::new(text);
        let pair = tls::pair();
        let world = TestWorld {
            files: [("cert.pem", pair.0), ("key.pem", pair.1)].into(),
            ..TestWorld::default()
        };
        let _config = check::read(report.root(&table), &Overrides::default(), &world);
        assert_eq!(report.faults(), []);
        known.extend(report.known());
    }
    known
}

#[test]
fn pinring_toml_names_every_key_that_is_read() {
    let named: BTreeSet<String> = entries()
        .iter()
        .map(|entry| format!("{}.{}", entry.section, entry.key))
        .collect();
    let has = |section: &str, key: &str| named.contains(&format!("{section}.{key}"));
    let shows = |text: String| PINRING.contains(&text);
    for path in known() {
        let (section, key) = path.rsplit_once('.').unwrap_or(("", &path));
        let found = match section {
            "" => shows(format!("[{key}]")),
            "pools[]" if key == "backends" => shows("[[pools.backends]]".to_owned()),
            "tls.certificates[]" => shows(format!("\n# {key} = ")),
            "tls" if key == "certificates" => shows("[[tls.certificates]]".to_owned()),
            "pool" | "pools[]" if key == "tls" => shows("[pool.tls]".to_owned()),
            "pools[].tls" => has("pool.tls", key),
            "pools[].match" => shows(format!(" {key} = ")) && has("pools[]", "match"),
            "pools[].backends[]" => has("backends[]", key),
            // The file says: in [[pools]] the same keys, and those of [affinity] too.
            "pool" | "pools[]" => ["pool", "affinity", "pools[]"]
                .iter()
                .any(|section| has(section, key)),
            section => has(section, key),
        };
        assert!(found, "config/pinring.toml does not name {path}");
    }
}

#[test]
fn what_pinring_toml_shows_is_accepted_or_marked_as_refused() {
    let pair = tls::pair();
    let world = TestWorld {
        files: [
            ("pinring.secret", vec![b'x'; 32]),
            ("admin.token", vec![b'x'; 32]),
            ("client.pem", pair.0),
            ("client.key", pair.1),
        ]
        .into(),
        ..TestWorld::default()
    };
    let entries = entries();
    assert!(entries.len() > 50);
    for Entry { section, key, line } in entries {
        if section.contains("[]") {
            continue;
        }
        let beside = match (&*section, &*key) {
            ("pool.tls", "certificate") => "key = \"client.key\"",
            ("pool.tls", "key") => "certificate = \"client.pem\"",
            _ => "",
        };
        let text = format!("[{section}]\n{line}\n{beside}\n{BACKEND}");
        let faults = lines(check(&text, &Overrides::default(), &world));
        if line.ends_with("# refused") {
            let [fault] = &faults[..] else {
                panic!("{section}.{key}: {faults:?}");
            };
            assert!(fault.contains("not yet"), "{fault}");
        } else {
            assert!(faults.is_empty(), "{section}.{key}: {faults:?}");
        }
    }
}

#[test]
fn an_unknown_key_is_refused_in_every_section() {
    for path in known() {
        let Some((section, _)) = path.rsplit_once('.') else {
            continue;
        };
        if !section.contains("[]") {
            let fault = fault(&format!("[{section}]\nzzzzzzzzzzzz = 1"));
            assert!(fault.contains("zzzzzzzzzzzz: unknown key"), "{fault}");
        }
    }
    let entry = "{ url = \"http://127.0.0.1\", zzz = 1 }";
    let pool = "name = \"p\"\nmatch = { zzz = 1 }\nzzz = 1";
    let text = format!("zzz = 1\n[[pools]]\n{pool}\nbackends = [{entry}]");
    assert_eq!(faults(&text).len(), 4, "{text}");
}
