//! What pinring is built from: nothing whose licence would bind those who run it, and nothing that was taken back.

use std::process::Command;

use serde_json::Value;
use spdx::Expression;

/// Whoever takes pinring may take these with it: they ask for their notice to be kept, at most.
const ALLOWED: [&str; 10] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Who publishes a version with a hole in it, mostly yanks it. cargo says so when it packages, by the index that it has
/// kept of its last download: the test asks nobody. Advisories are in no registry's index; `cargo audit` fetches them.
#[test]
fn no_dependency_was_taken_back_by_who_published_it() {
    let folder = tempfile::tempdir().unwrap();
    let packaged = Command::new(env!("CARGO"))
        .args(["package", "--offline", "--no-verify", "--allow-dirty"])
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .arg("--target-dir")
        .arg(folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&packaged.stderr);
    assert!(packaged.status.success(), "{told}");
    let yanked: Vec<&str> = told
        .lines()
        .filter(|line| line.contains("is yanked"))
        .collect();
    assert!(yanked.is_empty(), "{yanked:#?}");
}

#[test]
fn every_dependency_has_a_licence_that_binds_nobody() {
    let asked = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .output()
        .unwrap();
    assert!(
        asked.status.success(),
        "{}",
        String::from_utf8_lossy(&asked.stderr)
    );
    let metadata: Value = serde_json::from_slice(&asked.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50, "{} packages", packages.len());
    for package in packages {
        let (name, licence) = (
            &package["name"],
            package["license"].as_str().unwrap_or_default(),
        );
        let licence = licence.replace('/', " OR "); // as crates wrote it before SPDX
        let expression =
            Expression::parse(&licence).unwrap_or_else(|error| panic!("{name}: {error}"));
        let is_allowed =
            |id: &spdx::LicenseReq| id.license.id().is_some_and(|id| ALLOWED.contains(&id.name));
        assert!(expression.evaluate(is_allowed), "{name} is under {licence}");
    }
}
