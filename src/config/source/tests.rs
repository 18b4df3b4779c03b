use std::fs;

use super::*;

const BACKEND: &str = "[[backends]]\nurl = \"http://127.0.0.1:9001\"\n";

fn source(file: PathBuf) -> Source {
    Source {
        file: Some(file),
        overrides: Overrides::default(),
    }
}

#[test]
fn secrets_are_found_beside_the_file_and_all_files_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pinring.toml");
    let secret = folder.path().join("key");
    fs::write(&secret, "k".repeat(32)).unwrap();
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    fs::write(elsewhere.path(), "l".repeat(32)).unwrap();
    let list = format!("\"file:key\", \"file:{}\"", elsewhere.path().display());
    fs::write(&file, format!("[affinity]\nsecrets = [{list}]\n{BACKEND}")).unwrap();
    let config = source(file.clone())
        .load()
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.secrets.len(), 2);
    assert_eq!(config.files, [file, secret, elsewhere.path().to_owned()]);
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gone.toml");
    let text = source(file.clone()).load().unwrap_err().to_string();
    assert!(
        text.starts_with(&format!("{}: cannot be read: No such file", file.display())),
        "{text}"
    );
    fs::write(&file, b"[server]\n\n# \xff\n").unwrap();
    let text = source(file.clone()).load().unwrap_err().to_string();
    assert_eq!(
        text,
        format!("{}:3: is not UTF-8; save the file as UTF-8", file.display())
    );
    fs::write(&file, b"[server]\nlisten = 1\n").unwrap();
    let text = source(file.clone()).load().unwrap_err().to_string();
    assert!(
        text.starts_with(&format!("{}:2: server.listen = 1: ", file.display())),
        "{text}"
    );
}

#[test]
fn flags_alone_need_no_file() {
    let flags = Source {
        file: None,
        overrides: Overrides::new(&[], &["http://localhost:9001".into()], |_| None),
    };
    let config = flags.load().unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.files.is_empty());
    let text = Source::default().load().unwrap_err().to_string();
    assert!(
        text.starts_with("command line: backends: there are none"),
        "{text}"
    );
}

#[test]
fn the_admin_socket_is_found_in_a_file_that_cannot_be_loaded_here() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pinring.toml");
    let admin = |text: &str| {
        fs::write(&file, text).unwrap();
        let access = source(file.clone()).admin();
        access
            .map(|access| access.admin.to_string())
            .map_err(|error| error.to_string())
    };
    let server = "[server]\nadmin = \"unix:/run/x.sock\"\n";
    let secrets = "[affinity]\nsecrets = [\"env:PINRING_NOT_SET_HERE\"]\n";
    let found = admin(&format!("{server}colour = 1\n{secrets}"));
    assert_eq!(found, Ok("unix:/run/x.sock".to_owned()));
    assert_eq!(admin(secrets), Ok("127.0.0.1:9901".to_owned()));
    assert_eq!(admin("[server]\nadmin = \"\"\n"), Ok(String::new()));
    let both = "[server]\nadmin = [\"127.0.0.1:1\", \"unix:/x\"]\nadmin_token = \"env:PINRING_NOT_SET_HERE\"\n";
    assert_eq!(
        admin(both),
        Ok("unix:/x, 127.0.0.1:1".to_owned()),
        "a token is for later"
    );
    let told = admin("[server]\nadmin = \"x.sock\"\n").unwrap_err();
    assert!(told.contains(":2: server.admin"), "{told}");
    assert!(admin("[server\n").unwrap_err().contains(":1: "));
}
