//! Holds the code to the module table in `src/lib.rs`: who may import whom, and what pure modules may not know.

#![allow(
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "what the tests are built from panics too where something is not as it must be"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What only some modules may name. Pure modules may name none of it.
const WORLD: [(&str, &[&str]); 4] = [
    ("tokio::net", &["net"]),
    ("tokio::time", &["net"]),
    ("Instant::now", &["net"]),
    ("SystemTime::now", &["net"]),
];
const NOT_PURE: [&str; 7] = [
    "std::fs",
    "std::env",
    "fastrand",
    "tokio::spawn",
    "tokio::task",
    "hyper::server",
    "hyper::client",
];

struct Row {
    pure: bool,
    may_import: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The table: module → its row.
fn table() -> BTreeMap<String, Row> {
    let docs = fs::read_to_string(root().join("lib.rs")).unwrap();
    let rows = docs.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let imports = cells[3]
            .split(", ")
            .filter(|import| *import != "-")
            .map(str::to_owned);
        (
            cells[0].trim_matches('`').to_owned(),
            Row {
                pure: cells[1] == "P",
                may_import: imports.collect(),
            },
        )
    };
    rows.map(row).collect()
}

/// Every source file that is no test, with its module path and its text before its tests.
fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if ["tests", "testing", "lib", "main"].contains(&stem.as_str()) {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
            continue;
        }
        let relative = path.strip_prefix(root()).unwrap().with_extension("");
        let module = relative.to_str().unwrap().replace('/', "::");
        let text = fs::read_to_string(&path).unwrap();
        let code: Vec<&str> = text
            .lines()
            .take_while(|line| !line.starts_with("mod tests"))
            .collect();
        let code: Vec<&str> = code
            .into_iter()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        found.push((module, code.join("\n")));
    }
}

/// The row that holds for a path: its own, or that of the nearest module above.
fn row_of<'a>(table: &'a BTreeMap<String, Row>, path: &str) -> Option<&'a str> {
    let mut path = path;
    loop {
        if let Some((name, _)) = table.get_key_value(path) {
            return Some(name);
        }
        path = path.rsplit_once("::")?.0;
    }
}

/// All paths that `crate::…` stands before, braces expanded.
fn imports(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let is_use = code[..at].trim_end().ends_with("use");
        let end = if is_use {
            rest.find(';')
        } else {
            rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        };
        expand("", &rest[..end.unwrap_or(rest.len())], &mut paths);
    }
    paths
}

fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = format!("{prefix}{}", tree.split(" as ").next().unwrap_or_default());
        paths.push(path.trim_end_matches("::self").to_owned());
        return;
    };
    let prefix = format!("{prefix}{}", &tree[..open]);
    let (mut depth, mut start) = (0, open + 1);
    for (at, character) in tree.char_indices().skip(open) {
        match character {
            '{' => depth += 1,
            '}' | ',' if depth == 1 => {
                if !tree[start..at].trim().is_empty() {
                    expand(&prefix, &tree[start..at], paths);
                }
                start = at + 1;
                depth -= usize::from(character == '}');
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
}

#[test]
fn modules_import_what_the_table_allows() {
    let table = table();
    let mut faults = Vec::new();
    let mut files = Vec::new();
    sources(&root(), &mut files);
    for (module, code) in &files {
        let Some(own) = row_of(&table, module) else {
            faults.push(format!("{module} has no row in the table of src/lib.rs"));
            continue;
        };
        for import in imports(code) {
            let target = row_of(&table, &import).unwrap_or(&import).to_owned();
            let within = |outer: &str| target == outer || target.starts_with(&format!("{outer}::"));
            let allowed = within(own) || table[own].may_import.iter().any(|outer| within(outer));
            if !allowed {
                faults.push(format!(
                    "{module} imports {import}, which the row of {own} does not allow"
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn pure_modules_know_no_world() {
    let table = table();
    let mut faults = Vec::new();
    let mut files = Vec::new();
    sources(&root(), &mut files);
    for (module, code) in &files {
        let own = row_of(&table, module).unwrap_or_default();
        for (world, owners) in WORLD {
            if code.contains(world)
                && !owners
                    .iter()
                    .any(|owner| module == owner || module.starts_with(&format!("{owner}::")))
            {
                faults.push(format!("{module} names {world}"));
            }
        }
        let pure = table.get(own).is_some_and(|row| row.pure);
        faults.extend(
            NOT_PURE
                .iter()
                .filter(|world| pure && code.contains(**world))
                .map(|world| format!("{module} is pure and names {world}")),
        );
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_row_of_the_table_is_a_module() {
    for module in table().keys() {
        let path = root().join(module.replace("::", "/"));
        assert!(
            path.with_extension("rs").exists(),
            "{module} is in the table, but not in src"
        );
    }
}

#[test]
fn the_reader_of_imports_sees_them_all() {
    let code =
        "use crate::{\n    a::{self, b, c::{D, E as F}},\n    g,\n};\nfn f() { crate::h::i(1) }";
    assert_eq!(
        imports(code),
        ["a", "a::b", "a::c::D", "a::c::E", "g", "h::i"]
    );
}
