use super::*;

fn parsed(line: &str, env: &[(&str, &str)]) -> Result<Command, clap::Error> {
    let arguments = line.split(' ').map(OsString::from);
    parse(arguments, |name| {
        env.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| OsString::from(value))
    })
}

#[test]
fn replicas_on_the_command_line_need_no_file() {
    let command = parsed(
        "pinring --listen 127.0.0.1:1 --backend http://a --backend http://b",
        &[],
    )
    .unwrap();
    let Command::Serve { source, .. } = command else {
        panic!("{command:?}")
    };
    assert_eq!((source.file, source.overrides.backends.len()), (None, 2));
}

#[test]
fn the_environment_stands_in_for_flags_and_flags_win() {
    let env = [
        ("PINRING_CONFIG", "x.toml"),
        ("PINRING_LISTEN", "127.0.0.1:1"),
    ];
    let Command::Serve { source, .. } = parsed("pinring", &env).unwrap() else {
        panic!()
    };
    assert_eq!(source.file, Some("x.toml".into()));
    let Command::Serve { source, .. } =
        parsed("pinring --config y.toml --listen 127.0.0.1:2", &env).unwrap()
    else {
        panic!()
    };
    assert_eq!(
        (source.file, &*source.overrides.listen[0].value),
        (Some("y.toml".into()), "127.0.0.1:2")
    );
}

#[test]
fn check_takes_its_file_either_way_and_once() {
    for line in [
        "pinring check x.toml",
        "pinring check --config x.toml",
        "pinring check -c x.toml",
    ] {
        let Command::Check(source) = parsed(line, &[]).unwrap() else {
            panic!("{line}")
        };
        assert_eq!(source.file, Some("x.toml".into()), "{line}");
    }
    for line in ["pinring check", "pinring check x.toml --config y.toml"] {
        assert!(parsed(line, &[]).is_err(), "{line}");
    }
}

#[test]
fn a_file_in_place_of_a_command_is_told_where_it_belongs() {
    for file in ["missing.toml", "Cargo.lock"] {
        let message = parsed(&format!("pinring {file}"), &[])
            .unwrap_err()
            .to_string();
        let right = format!("pinring --config {file}");
        assert!(message.contains(&right), "{message}");
    }
    let message = parsed("pinring chekc", &[]).unwrap_err().to_string();
    assert!(
        message.contains("check") && !message.contains("--config chekc"),
        "{message}"
    );
}

#[test]
fn nothing_to_serve_is_an_error_that_says_what_to_do() {
    let message = parsed("pinring", &[]).unwrap_err().to_string();
    assert!(
        message.contains("--config") && message.contains("--backend") && message.contains("demo"),
        "{message}"
    );
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}
