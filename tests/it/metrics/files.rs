//! The alert rules, the dashboard and the README: they name what the binary really tells, and what it tells is in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::Path,
    process::Command,
};

use serde_json::Value;

use crate::support::{Authority, Backend, Client, Pinring, Scrape, ask, server_with_admin};

/// Labels that Prometheus adds, and of buckets.
const ADDED: [&str; 3] = ["job", "instance", "le"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A scrape in which every metric has a sample.
fn everything() -> Scrape {
    let [a, b] = ["a", "b"].map(Backend::stateful);
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("authority");
    let certificate = authority
        .issue(&["mcp.example"])
        .write(folder.path(), "server");
    // A name that nobody tells of.
    let backends =
        Pinring::backends(&[&a, &b]).replace("}]", "}, { url = \"dns+http://mcp.test:1\" }]");
    let toml = format!(
        "{}\n[discovery]\nservers = [\"127.0.0.1:9\"]\ntimeout = \"100ms\"\n[store]\nurl = \"redis://127.0.0.1:9\"\n[[tls.certificates]]\ncertificate = \"{}\"\nkey = \"{}\"\n{}",
        backends,
        certificate.display(),
        certificate.with_extension("key").display(),
        server_with_admin(folder.path()),
    );
    let pinring = Pinring::start_in(folder, &toml, &[]);
    Client::initialize(pinring.address());
    let drain = r#"{"backend":"b","timeout":"1h"}"#;
    assert_eq!(ask(&pinring.admin(), "POST", "/drain", drain).0, 200);
    pinring.metrics()
}

/// Labels and their values, of each name that a sample can have.
fn known(scrape: &Scrape) -> BTreeMap<&str, BTreeMap<&str, BTreeSet<&str>>> {
    let mut known: BTreeMap<&str, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for sample in &scrape.samples {
        let labels = known.entry(&sample.name).or_default();
        for (label, value) in &sample.labels {
            labels.entry(label).or_default().insert(value);
        }
    }
    known
}

fn is_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// Every metric of ours in an expression, with what stands in the braces behind it.
fn used(expression: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("pinring_") {
        let rest = expression.get(at..).unwrap();
        let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        let braces = behind
            .strip_prefix('{')
            .and_then(|rest| rest.split_once('}'));
        found.push((name, braces.map_or("", |(labels, _)| labels)));
    }
    found
}

/// The labels that an expression groups by.
fn grouped(expression: &str) -> Vec<&str> {
    let parts = expression.split("by (").skip(1);
    let lists = parts.filter_map(|rest| rest.split_once(')'));
    lists
        .flat_map(|(list, _)| list.split(',').map(str::trim))
        .collect()
}

fn check(expression: &str, scrape: &Scrape) {
    let known = known(scrape);
    let mut labels: BTreeSet<&str> = ADDED.into();
    for (name, braces) in used(expression) {
        let of_metric = known
            .get(name)
            .unwrap_or_else(|| panic!("there is no {name}: {expression}"));
        labels.extend(of_metric.keys());
        for matcher in braces.split(',').filter(|matcher| !matcher.is_empty()) {
            let (label, value) = matcher.split_once('=').unwrap();
            let label = label.trim_end_matches('!');
            if ADDED.contains(&label) {
                continue;
            }
            let values = of_metric.get(label);
            let values =
                values.unwrap_or_else(|| panic!("{name} has no label {label}: {expression}"));
            let value = value.trim_start_matches(['~', '"']).trim_end_matches('"');
            if label != "code" && !value.starts_with('$') {
                for value in value.split('|') {
                    assert!(
                        values.contains(value),
                        "{label} of {name} is never {value}: {values:?}"
                    );
                }
            }
        }
    }
    for label in grouped(expression) {
        assert!(
            labels.contains(label),
            "nothing has the label {label}: {expression}"
        );
    }
}

/// What follows `expr:` of each rule, also on lines below it.
fn rules() -> Vec<String> {
    let text = read("config/prometheus/pinring.rules.yml");
    let mut found = Vec::new();
    for part in text.split("expr:").skip(1) {
        let lines = part.lines().take_while(|line| {
            let key = line
                .trim_start()
                .split_once(": ")
                .map_or("", |(key, _)| key);
            !["for", "labels", "annotations"].contains(&key.trim_end_matches(':'))
                && line.trim() != "annotations:"
        });
        let lines: Vec<&str> = lines.map(str::trim).filter(|line| *line != ">-").collect();
        found.push(lines.join(" ").trim().to_owned());
    }
    assert!(found.len() >= 9, "{found:?}");
    found
}

fn collect(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == key => found.push(text.to_owned()),
                    Some(_) | None => collect(value, key, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, key, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The expressions of the dashboard.
fn dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("config/grafana/pinring.json")).unwrap();
    let mut found = Vec::new();
    collect(&dashboard, "expr", &mut found);
    assert!(found.len() > 20, "{found:?}");
    found
}

#[test]
fn rules_and_dashboard_use_metrics_labels_and_words_that_there_are() {
    let scrape = everything();
    for expression in rules().iter().chain(&dashboard()) {
        assert!(
            !used(expression).is_empty() || expression.contains("process_start"),
            "{expression}"
        );
        check(expression, &scrape);
    }
    let wrong = r#"sum by (reson) (rate(pinring_refusals_total{reason="no_pol"}[5m]))"#;
    let refused = std::panic::catch_unwind(|| check(wrong, &scrape));
    assert!(refused.is_err(), "what is misspelt is found");
}

#[test]
fn the_readme_lists_every_metric_and_no_other() {
    let scrape = everything();
    let told: BTreeSet<String> = known(&scrape)
        .keys()
        .map(|name| {
            let suffixes = ["_bucket", "_count", "_sum"];
            let family = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
            family.unwrap_or(name).to_owned()
        })
        .collect();
    let readme = read("README.md");
    let (_, section) = readme.split_once("\n### Metrics\n").unwrap();
    let (section, _) = section.split_once("\n### ").unwrap();
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let listed: BTreeSet<String> = rows
        .flat_map(|names| names.split(", "))
        .map(|name| name.trim_matches('`').to_owned())
        .collect();
    assert_eq!(listed, told);
}

/// As Prometheus itself reads them: the rules, and the dashboard's expressions as if they were some.
#[test]
fn prometheus_understands_the_rules_and_the_dashboard() {
    let accepts = |file: &Path| {
        let checked = Command::new("promtool")
            .arg("check")
            .arg("rules")
            .arg(file)
            .output();
        let checked = checked.expect("promtool is installed: apt-get install prometheus");
        let told = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.success(), "{told}");
    };
    accepts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus/pinring.rules.yml"));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "groups:\n- name: dashboard\n  rules:").unwrap();
    for (number, expression) in dashboard().iter().enumerate() {
        let expression = expression.replace("$__rate_interval", "5m");
        writeln!(
            file,
            "  - record: expression:{number}\n    expr: {expression:?}"
        )
        .unwrap();
    }
    accepts(file.path());
}
