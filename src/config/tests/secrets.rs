use super::*;

fn world() -> TestWorld {
    TestWorld {
        env: [
            ("KEY", "e".repeat(32)),
            ("SHORT", "hush".to_owned()),
            (SECRET_VARIABLE, "p".repeat(32)),
        ]
        .into(),
        files: [
            ("key", b"ffffffffffffffffffffffffffffffff\r\n\n".to_vec()),
            ("zero", vec![0; 32]),
        ]
        .into(),
        ..TestWorld::default()
    }
}

fn read(list: &str, variable: Option<&str>) -> Result<Config, ConfigErrors> {
    let overrides = Overrides {
        secret: variable.map(|value| Given {
            label: SECRET_VARIABLE,
            value: value.into(),
        }),
        ..Overrides::default()
    };
    check(
        &format!("[affinity]\n{list}\n{BACKEND}"),
        &overrides,
        &world(),
    )
}

fn refused(list: &str) -> String {
    let faults = lines(read(list, None));
    assert_eq!(faults.len(), 1, "{list}: {faults:#?}");
    faults[0].clone()
}

#[test]
fn secrets_come_from_files_and_variables_without_their_line_ends() {
    let config = read("secrets = [\"file:key\", \"env:KEY\", \"none\"]", None).unwrap();
    assert_eq!(config.secrets, [secret(b'f'), secret(b'e'), Secret::zero()]);
    let keys = Keys::try_new(&config.secrets).unwrap();
    assert!(config.keys.ids().eq(keys.ids()));
    assert_eq!(config.files, [PathBuf::from("key")]);
}

#[test]
fn without_a_secret_the_zero_key_verifies() {
    let config = read("", None).unwrap();
    assert!(config.secrets.is_empty() && config.keys.accept_zero());
}

#[test]
fn unpinned_ids_are_rejected_once_the_zero_key_no_longer_verifies() {
    for (list, expected) in [
        ("secrets = [\"file:key\"]", Unpinned::Reject),
        ("secrets = [\"file:key\", \"none\"]", Unpinned::Ring),
        (
            "secrets = [\"file:key\"]\nunpinned = \"ring\"",
            Unpinned::Ring,
        ),
        ("unpinned = \"reject\"", Unpinned::Reject),
        (
            "unpinned = \"ring\"\n[pool]\nunpinned = \"reject\"",
            Unpinned::Reject,
        ),
    ] {
        let config = read(list, None).unwrap();
        assert_eq!(config.pools[0].unpinned, expected, "{list}");
    }
}

#[test]
fn secrets_that_cannot_be_used_say_why() {
    for (entry, expected) in [
        ("file:gone", "2: affinity.secrets[0]: gone cannot be read: "),
        (
            "env:GONE",
            "2: affinity.secrets[0]: the variable GONE is not set",
        ),
        (
            "env:SHORT",
            "2: affinity.secrets[0]: the secret has 4 bytes; it needs at least 32",
        ),
        (
            "file:zero",
            "2: affinity.secrets[0]: the secret is all zero bytes; write \"none\"",
        ),
        (
            "file:",
            "2: affinity.secrets[0]: write \"file:PATH\", \"env:NAME\" or \"none\"",
        ),
    ] {
        let fault = refused(&format!("secrets = [\"{entry}\"]"));
        assert!(fault.starts_with(expected), "{fault}");
    }
    assert_eq!(
        refused("secrets = [\"file:key\", \"env:KEY\", \"file:key\"]"),
        "2: affinity.secrets: entries 1 and 3 are the same secret; remove one"
    );
}

#[test]
fn two_secrets_with_one_key_id_are_refused() {
    let first = secret(b'f');
    let twin = (0_u32..)
        .map(|number| format!("{number:032}"))
        .find(|text| Secret::try_new(text.as_bytes()).unwrap().id() == first.id())
        .unwrap();
    let mut world = world();
    world.env.insert("TWIN", twin);
    let text = format!("[affinity]\nsecrets = [\"file:key\", \"env:TWIN\"]\n{BACKEND}");
    let faults = lines(check(&text, &Overrides::default(), &world));
    assert_eq!(faults.len(), 1);
    assert!(
        faults[0].starts_with("2: affinity.secrets: secrets 1 and 2 of the list have one key id")
    );
}

#[test]
fn no_fault_shows_a_secret() {
    for text in [
        "secrets = [\"hushhushhushhushhushhushhushhush\"]",
        "secrets = \"hushhushhushhushhushhushhushhush\"",
        "secrets = [\"env:hush-hush-hush-hush-hush-hush-hush\"]",
        "secret = \"hushhushhushhushhushhushhushhush\"",
        "secrets = [\"env:SHORT\"]",
        "[server]\nadmin_token = \"hush\"",
        "[store]\nurl = \"rediss://:hush@h\"",
        "[pool]\nsecrets = [\"hush\"]",
    ] {
        let fault = refused(text);
        assert!(!fault.contains("hush"), "{fault}");
    }
    let faults = lines(read("", Some("hush")));
    assert_eq!(faults.len(), 1);
    assert!(faults[0].starts_with("PINRING_SECRET: the secret has 4 bytes"));
    let overrides = Overrides {
        backends: given("--backend", &["http://user:hush@h"]),
        ..Overrides::default()
    };
    let faults = lines(check("", &overrides, &world()));
    assert!(
        faults[0].starts_with("--backend: a backend's URL is only scheme"),
        "{faults:?}"
    );
}

#[test]
fn the_secret_of_the_environment_is_never_quietly_ignored() {
    let variable = "p".repeat(32);
    let config = read("", Some(&variable)).unwrap();
    assert_eq!(config.secrets, [secret(b'p')]);
    let config = read(
        "secrets = [\"env:PINRING_SECRET\", \"file:key\"]",
        Some(&variable),
    )
    .unwrap();
    assert_eq!(config.secrets, [secret(b'p'), secret(b'f')]);
    let faults = lines(read("secrets = [\"file:key\"]", Some(&variable)));
    assert_eq!(
        faults,
        [
            "2: affinity.secrets: PINRING_SECRET is set too, and would be ignored; add \"env:PINRING_SECRET\" to the list, or unset PINRING_SECRET"
        ]
    );
    assert!(read("", Some("")).is_err(), "an empty secret is no secret");
}

#[test]
fn secrets_are_of_the_process_not_of_a_pool() {
    let fault = refused("[pool]\nsecrets = []");
    assert_eq!(
        fault,
        "3: pool.secrets: unknown key here; it belongs in [affinity]"
    );
}
